"""open_clip's `open_clip_config.json` and state dicts, whose keys are also those of OpenAI's CLIP.

The image tower is open_clip's own vision transformer or one of timm's.
"""

import difflib
from collections.abc import Mapping
from functools import partial
from typing import Any

from convert_weights import timm
from convert_weights.architectures import architectures, near_names
from convert_weights.open_clip_keys import table
from convert_weights.options import Options, pair
from convert_weights.tokenizer_files import Beside, read_tokenizer
from convert_weights.towers import Description
from dave_jax.models.image_text import ImageTextConfig
from dave_jax.models.positions import check_tiling, overhangs
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.text_config import TextConfig
from dave_jax.models.tokenizer import Tokenizer
from dave_jax.models.vit_config import ViTConfig

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_CUSTOM_BLOCKS = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
_OWN = ("layers", "width", "head_width", "mlp_ratio", "patch_size")
"""Options of open_clip's own image tower that another one overrides."""

_POOLINGS = {"argmax": "argmax", "eos": "end", "last": "last"}
_CLEANING = {
    "lower": ("unescape", "whitespace", "lower"),
    "whitespace": ("unescape", "whitespace"),
    "canonicalize": ("unescape", "underscores", "punctuation", "lower", "whitespace"),
}
"""What open_clip does to sentences, by its names, but for ftfy's repairs of broken encodings."""

_NOT_NEEDED = r"(text\.)?attn_mask|input_resolution|context_length|vocab_size"
"""Keys known and left out: the mask, and the sizes that OpenAI's files hold as arrays."""


def describe(document: Mapping[str, Any], *, image_size: tuple[int, int] | None = None, what: str = "open_clip_config.json") -> Description:
    """Read an `open_clip_config.json`.

    Args:
        document: its JSON.
        image_size: height and width, if not the checkpoint's.
        what: what to call the file in errors.

    Raises:
        ValueError: a network or option that dave_jax does not have, an image size that the patches do not tile, or malformed settings.

    Example:
        >>> towers = {"vision_cfg": {"layers": 12, "width": 768, "patch_size": 32}, "text_cfg": {}}
        >>> read = describe({"model_cfg": {"embed_dim": 512, "quick_gelu": True} | towers})
        >>> read.config.image.activation, read.config.text.context_length, read.config.image.projection
        ('quick_gelu', 77, 512)
    """
    try:
        model = Options(document["model_cfg"])
        for name in ("custom_text", "init_logit_scale", "nonscalar_logit_scale", "cast_dtype", "output_dict"):
            model.get(name, None)
        vision, text = Options(model.get("vision_cfg", {})), Options(model.get("text_cfg", {}))
        embed_dim, quick = int(model.get("embed_dim", 512)), bool(model.get("quick_gelu", False))
        logit_bias = model.get("init_logit_bias", None) is not None
        trunk = vision.get("timm_model_name", None)
        size = pair(vision.get("image_size", 224))
        fields = _trunk(vision, trunk, embed_dim) if trunk else _native(vision, embed_dim, quick)
        text_fields, cleaning = _text(text, embed_dim, quick), _cleaning(text)
        words = text.get("hf_tokenizer_name", None)
        _check(what, model=model, vision_cfg=vision, text_cfg=text)
        if image_size:
            check_tiling(image_size, fields["patch_size"])
        fields |= {"image_size": image_size or size, "overhang": overhangs(image_size or size, fields["patch_size"])}
        fields |= {"num_classes": 0, "unit_features": True}
        config = ImageTextConfig(ViTConfig(**fields), TextConfig(**text_fields), logit_bias=logit_bias)
        preprocessing = _preprocessing(document.get("preprocess_cfg") or {}, config.image.image_size)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{what} must be laid out as open_clip writes it; it is not ({error!r}). Compare it with another model's."
        ) from error
    reader = partial(_read_tokenizer, config.text.context_length, cleaning, None if words else 0)
    rows = partial(table, config.image if trunk else None)
    return Description(str(trunk or "open_clip"), config, size, preprocessing, rows, _NOT_NEEDED, read_tokenizer=reader)


def _native(read: Options, embed_dim: int, quick: bool) -> dict[str, Any]:
    """The fields of open_clip's own vision transformer."""
    for name in ("timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"):
        read.get(name, None)  # of another kind of tower
    for name in ("patch_dropout", "output_tokens", "attn_pooler_queries", "attn_pooler_heads", "pos_embed_type"):
        read.get(name, None)  # of training, of what is left out, or in the arrays
    read.only("attentional_pool", False)
    layers, width, head_width = read.get("layers", 12), int(read.get("width", 768)), int(read.get("head_width", 64))
    if isinstance(layers, (list, tuple)):
        read.problems.append("layers must be one number: open_clip's ResNets are not supported")
        layers = 1
    pooling = {"tok": "token", "avg": "avg"}.get(str(read.get("pool_type", "tok")))
    if pooling is None:
        read.problems.append(f"pool_type {read.options['pool_type']!r} is none of ['avg', 'tok']")
    return _blocks(read, quick) | {
        "patch_size": pair(read.get("patch_size", 16)),
        "width": width,
        "depth": int(layers),
        "num_heads": width // head_width,
        "mlp_width": int(width * float(read.get("mlp_ratio", 4.0))),
        "class_token": True,
        "patch_bias": False,
        "pre_norm": not read.get("no_ln_pre", False),
        "layer_scale": read.get("ls_init_value", None) is not None,
        "pooling": pooling or "token",
        "final_norm": "pooled" if read.get("final_ln_after_pool", False) else "tokens",
        "projection": embed_dim,
    }


def _trunk(read: Options, name: str, embed_dim: int) -> dict[str, Any]:
    """The fields of a vision transformer of timm, with the product that open_clip puts behind it."""
    for option in ("timm_model_pretrained", "timm_drop", "timm_drop_path", "patch_dropout", "output_tokens", *_OWN):
        read.get(option, None)
    entry = architectures().get(name)
    if entry is None or entry["family"] != "vit":
        raise ValueError(
            f"dave_jax loads open_clip's models whose image tower is a VisionTransformer, open_clip's or timm's; {name!r} is another kind "
            f"of network or misspelt. {near_names(name, [known for known, other in architectures().items() if other['family'] == 'vit'])}"
        )
    pool, projection = read.get("timm_pool", "avg"), read.get("timm_proj", None if "timm_proj" in read.options else "linear")
    options = dict(entry["options"]) | {"num_classes": 0, "img_size": pair(read.get("image_size", 224))}
    if pool and projection != "linear":
        options["global_pool"] = pool
    fields = dict(vars(timm.config_from_options(options)))
    if pool and projection == "linear" and pool != fields["pooling"]:  # changed afterwards, which leaves the norms where they are
        if {pool, fields["pooling"]} != {"token", "avg"}:
            read.problems.append(f"timm_pool {pool!r} does not fit {name}, which pools by {fields['pooling']!r}")
        fields["pooling"] = pool
    if projection not in ("linear", "none", "", None):
        read.problems.append(f"timm_proj {projection!r} is none of ['linear', 'none', None]")
    biased = projection in ("", None) or bool(read.get("timm_proj_bias", False))  # timm's own classifier stands in for a product
    read.get("timm_proj_bias", False)
    return fields | ({} if projection == "none" else {"projection": embed_dim, "projection_bias": biased})


def _text(read: Options, embed_dim: int, quick: bool) -> dict[str, Any]:
    """The fields of the text tower."""
    for name in ("pad_id", "output_tokens", "final_ln_after_pool", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"):
        read.get(name, None)  # without use in this tower
    read.only("embed_cls", False)
    for name in ("hf_model_name", "ls_init_value", "tokenizer_mode"):
        if read.get(name, None) is not None:
            read.problems.append(f"{name}={read.options[name]!r} is not supported")
    pooling, width = str(read.get("pool_type", "argmax")), int(read.get("width", 512))
    if pooling not in _POOLINGS:
        read.problems.append(f"pool_type {pooling!r} is none of {sorted(_POOLINGS)}")
    linear = read.get("proj_type", "linear") == "linear"
    read.only("proj_type", "linear", "none")
    return _blocks(read, quick) | {
        "vocab_size": int(read.get("vocab_size", 49408)),
        "context_length": int(read.get("context_length", 77)),
        "width": width,
        "depth": int(read.get("layers", 12)),
        "num_heads": int(read.get("heads", 8)),
        "mlp_width": int(width * float(read.get("mlp_ratio", 4.0))),
        "projection": embed_dim if linear else 0,
        "projection_bias": linear and bool(read.get("proj_bias", False)),
        "causal": not read.get("no_causal_mask", False),
        "pooling": _POOLINGS.get(pooling, "last"),
        "end_id": int(read.get("eos_id", 2)),
    }


def _blocks(read: Options, quick: bool) -> dict[str, Any]:
    """The fields that both towers have."""
    for name in _CUSTOM_BLOCKS:
        read.only(name, False)
    read.only("block_type", "default")
    norm_options, activation = read.get("norm_kwargs", {}), read.get("act_kwargs", {})
    if set(norm_options) - {"eps"} or set(activation) - {"approximate"} or activation.get("approximate", "none") not in ("none", "tanh"):
        read.problems.append(f"norm_kwargs {norm_options!r} and act_kwargs {activation!r} may set eps and approximate='tanh' alone")
    tanh = activation.get("approximate") == "tanh"
    return {"eps": float(norm_options.get("eps", 1e-5)), "activation": "quick_gelu" if quick else "gelu_tanh" if tanh else "gelu"}


def _cleaning(read: Options) -> tuple[str, ...]:
    """What is done to sentences before they are cut into tokens."""
    options = Options(read.get("tokenizer_kwargs", {}))
    cleaning = options.get("clean", "whitespace" if read.get("hf_tokenizer_name", None) else "lower")
    if cleaning not in _CLEANING or set(options.options) - {"clean"}:
        read.problems.append(f"tokenizer_kwargs {options.options!r} may set clean alone, to one of {sorted(_CLEANING)}")
    return _CLEANING.get(cleaning, ())


def _check(what: str, **read: Options) -> None:
    """One error with all that is not known or supported."""
    problems = []
    for name, options in read.items():
        for option in sorted(set(options.options) - options.read):
            near = difflib.get_close_matches(option, options.read, n=1)
            options.problems.append(
                f"unknown option {option}={options.options[option]!r}" + (f" (did you mean {near[0]}?)" if near else "")
            )
        problems += [f"{name}: {problem}" for problem in options.problems]
    if problems:
        listing = "\n  ".join(problems)
        raise ValueError(
            f"dave_jax builds open_clip's models from options that it knows; {what} has others:\n  {listing}\n"
            "Correct it, or use another checkpoint."
        )


def _preprocessing(settings: Mapping[str, Any], image_size: tuple[int, int]) -> Preprocessing:
    mode, interpolation = settings.get("resize_mode") or "shortest", settings.get("interpolation") or "bicubic"
    modes = {"shortest": "center", "squash": "squash"}
    if mode not in modes:
        raise ValueError(f"preprocess_cfg: resize_mode must be one of {sorted(modes)}; got {mode!r}. Prepare the images yourself.")
    return Preprocessing(
        image_size=image_size,
        mean=_triple(settings.get("mean") or _MEAN),
        std=_triple(settings.get("std") or _STD),
        crop_fraction=1.0,
        crop_mode=modes[mode],  # pyright: ignore[reportArgumentType] by the table
        interpolation="bilinear" if interpolation == "bilinear" else "bicubic",
    )


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = [values] * 3 if isinstance(values, (int, float)) else values
    return float(red), float(green), float(blue)


def _read_tokenizer(context_length: int, cleaning: tuple[str, ...], pad_id: int | None, beside: Beside, place: str) -> Tokenizer:
    return read_tokenizer(beside, context_length, kind="CLIPTokenizer", cleaning=cleaning, pad_id=pad_id, place=place)
