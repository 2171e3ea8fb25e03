"""transformers' CLIP and SigLIP: both towers (`CLIPModel`, `SiglipModel`), or the image tower alone, with or without a classifier."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from convert_weights.huggingface import ACTIVATIONS, read_class_names
from convert_weights.image_processor import read_preprocessing
from convert_weights.layouts import dense, norm, parts, patches, tokens, vector
from convert_weights.options import pair, whole
from convert_weights.table import Entry
from convert_weights.tokenizer_files import Beside, read_tokenizer
from convert_weights.towers import SCALARS, Description, packed, under
from dave_jax.models.image_text import ImageTextConfig
from dave_jax.models.positions import check_tiling, overhangs
from dave_jax.models.text_config import TextConfig
from dave_jax.models.tokenizer import Tokenizer
from dave_jax.models.vit_config import ViTConfig

CLASSES = {
    "clip": ("CLIPModel", "CLIPForImageClassification"),
    "clip_vision_model": ("CLIPVisionModel", "CLIPVisionModelWithProjection"),
    "siglip": ("SiglipModel", "SiglipForImageClassification"),
    "siglip_vision_model": ("SiglipVisionModel",),
}
"""The classes that wrote the checkpoints, by `model_type`."""

_IMAGE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224}
_TEXT = {"num_hidden_layers": 12}
_DEFAULTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "CLIP": (
        _IMAGE | {"patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "projection_dim": 512},
        _TEXT
        | {"vocab_size": 49408, "max_position_embeddings": 77, "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
        | {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "eos_token_id": 49407},
    ),
    "Siglip": (
        _IMAGE | {"patch_size": 16, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
        _TEXT
        | {"vocab_size": 32000, "max_position_embeddings": 64, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
        | {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
    ),
}
"""What transformers assumes where the file is silent: of the image tower, of the text tower."""

_NOT_NEEDED = r"(.*\.)?embeddings\.position_ids"


def describe(
    document: Mapping[str, Any],
    processor: Mapping[str, Any],
    *,
    image_size: tuple[int, int] | None = None,
    what: str = "config.json",
    processor_what: str = "preprocessor_config.json",
) -> Description:
    """Read a `config.json` and a `preprocessor_config.json` of transformers' CLIP or SigLIP.

    Args:
        document: the JSON of the former.
        processor: the JSON of the latter.
        image_size: height and width, if not the processor's.
        what, processor_what: what to call the files in errors.

    Raises:
        ValueError: a class or option that dave_jax does not have, an image size that the patches do not tile, or malformed settings.

    Example:
        >>> read = describe({"model_type": "siglip", "architectures": ["SiglipModel"], "vision_config": {"patch_size": 32}}, {})
        >>> read.config.image.patch_size, read.config.text.context_length, read.preprocessing.crop_mode
        ((32, 32), 64, 'squash')
    """
    architecture = _architecture(document, what)
    stem = "CLIP" if architecture.startswith("CLIP") else "Siglip"
    try:
        preprocessing = read_preprocessing(processor, processor=stem, image_size=image_size, what=processor_what)
        alone = document["model_type"].endswith("_vision_model")
        image = _section({"vision_config": document} if alone else document, "vision_config", _DEFAULTS[stem][0])
        text = _section(document, "text_config", _DEFAULTS[stem][1])
        if image_size:
            check_tiling(image_size, pair(image["patch_size"]))
        names = read_class_names(document) if architecture.endswith("ForImageClassification") else []
        fields = _image(image, stem, what) | _head(architecture, document, image, len(names))
        fields["overhang"] = overhangs(preprocessing.image_size, fields["patch_size"])
        config: ImageTextConfig | ViTConfig = ViTConfig(image_size=preprocessing.image_size, **fields)
        reader = None
        if architecture.endswith(("CLIPModel", "SiglipModel")):
            config = ImageTextConfig(config, TextConfig(**_text(text, stem, document, what)), logit_bias=stem == "Siglip")
            reader = partial(_read_tokenizer, config.text.context_length, f"{stem}Tokenizer")
        size = pair(image["image_size"])
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{what} must be laid out as transformers writes it; it is not ({error!r}). Compare it with another model's."
        ) from error
    class_names = None if all(name.startswith("LABEL_") for name in names) else tuple(names)
    not_needed = _NOT_NEEDED
    if names:  # classifiers read the tokens, CLIP's before its last norm
        not_needed += r"|(vision_model\.)?head\..*" if stem == "Siglip" else r"|(vision_model\.)?post_layernorm\..*"
    return Description(architecture, config, size, preprocessing, partial(table, stem), not_needed, class_names, reader)


def _architecture(document: Mapping[str, Any], what: str) -> str:
    known, written = CLASSES[document["model_type"]], document.get("architectures")
    if not isinstance(written, list) or len(written) != 1 or written[0] not in known:
        raise ValueError(
            f"{what} must name the class that wrote the checkpoint, one of {list(known)}, under architectures; got {written!r}. "
            "Correct it, or save the model with that class of transformers."
        )
    return written[0]


def _section(document: Mapping[str, Any], name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one tower; older files repeat them under another name, which counts."""
    written = document.get(f"{name}_dict") or document.get(name) or {}
    return {**defaults, **{key: value for key, value in written.items() if value is not None}}


def _image(options: Mapping[str, Any], stem: str, what: str) -> dict[str, Any]:
    """The fields of the image tower, without its head."""
    if options.get("num_channels", 3) != 3:
        raise ValueError(f"{what}: num_channels must be 3; got {options['num_channels']!r}. Use another checkpoint.")
    fields = _blocks(options, what) | {"patch_size": pair(options["patch_size"]), "position_resampling": "bicubic", "num_classes": 0}
    if stem == "CLIP":
        return fields | {"class_token": True, "patch_bias": False, "pre_norm": True, "pooling": "token"}
    return fields | {"class_token": False, "pooling": "map"}


def _head(architecture: str, document: Mapping[str, Any], image: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """What stands behind the image tower's blocks."""
    if architecture == "CLIPModel":
        return {"projection": whole(document, "projection_dim", 512), "unit_features": True}
    if architecture == "CLIPVisionModelWithProjection":
        return {"projection": whole(image, "projection_dim", None)}
    if architecture.endswith("ForImageClassification"):
        return {"num_classes": classes, "pooling": "avg", "final_norm": "none" if architecture.startswith("CLIP") else "tokens"}
    if architecture.startswith("Siglip") and not image.get("vision_use_head", True):
        raise ValueError("A SigLIP's image tower needs its head (vision_use_head), which pools the patches. Use another checkpoint.")
    return {"unit_features": architecture == "SiglipModel"}


def _text(options: Mapping[str, Any], stem: str, document: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The fields of the text tower."""
    fields = _blocks(options, what) | {
        "vocab_size": whole(options, "vocab_size", None),
        "context_length": whole(options, "max_position_embeddings", None),
    }
    if stem == "CLIP":
        end = whole(options, "eos_token_id", None)  # 2 is a mistake of old files, which transformers keeps working
        pooling = {"pooling": "argmax"} if end == 2 else {"pooling": "end", "end_id": end}
        return fields | pooling | {"causal": True, "projection": whole(document, "projection_dim", 512)}
    projection = options.get("projection_size") or options["hidden_size"]
    return (
        fields
        | {"causal": False, "pooling": "last", "projection": whole({"projection_size": projection}, "projection_size", None)}
        | {"projection_bias": True}
    )


def _blocks(options: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The fields that both towers have."""
    activation = options["hidden_act"]
    if activation not in ACTIVATIONS:
        raise ValueError(f"{what}: hidden_act must be one of {sorted(ACTIVATIONS)}; got {activation!r}. Use another checkpoint.")
    return {
        "width": whole(options, "hidden_size", None),
        "depth": whole(options, "num_hidden_layers", None),
        "num_heads": whole(options, "num_attention_heads", None),
        "mlp_width": whole(options, "intermediate_size", None),
        "eps": float(options["layer_norm_eps"]),
        "activation": ACTIVATIONS[activation],
    }


def _read_tokenizer(context_length: int, kind: str, beside: Beside, place: str) -> Tokenizer:
    return read_tokenizer(beside, context_length, kind=kind, place=place)


def table(stem: str, arrays: Mapping[str, np.ndarray]) -> list[Entry]:
    """The rows for every parameter of both towers.

    Args:
        stem: `CLIP` or `Siglip`.
        arrays: the checkpoint; the image tower alone may have its keys without `vision_model.`.
    """
    start = "vision_model." if any(key.startswith("vision_model.") for key in arrays) else ""
    image = [
        *dense("embeddings.patch_embedding", "patch_embedding", patches),
        Entry("embeddings.class_embedding", "class_token", _row),
        Entry("embeddings.position_embedding.weight", "position_embedding", vector),
        *norm("pre_layrnorm", "pre_norm"),
        *_encoder(),
        *norm("post_layernorm", "final_norm"),
        Entry("head.probe", "pool/latent", tokens),
        *packed(parts("head.attention.in_proj", "pool/attention", ("query", "key", "value"))),
        *dense("head.attention.out_proj", "pool/attention/proj"),
        *norm("head.layernorm", "pool/mlp_norm"),
        *dense("head.mlp.fc1", "pool/mlp/fc1"),
        *dense("head.mlp.fc2", "pool/mlp/fc2"),
    ]
    text = [
        Entry("embeddings.token_embedding.weight", "token_embedding", vector),
        Entry("embeddings.position_embedding.weight", "position_embedding", vector),
        *_encoder(),
        *norm("final_layer_norm", "final_norm"),
    ]
    return [
        *under(start, "image/", image),
        *dense("visual_projection", "image/projection"),
        *dense("classifier", "image/head"),
        *under("text_model.", "text/", text),
        *dense("text_projection" if stem == "CLIP" else "text_model.head", "text/projection"),
        *SCALARS,
    ]


def _row(array: np.ndarray) -> np.ndarray:
    """(d,) to (1, d)."""
    return array.reshape(1, -1)


def _encoder() -> list[Entry]:
    layer = "encoder.layers.{i}"
    return [
        *norm(f"{layer}.layer_norm1", "blocks/attention_norm"),
        *(
            row
            for theirs, ours in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "proj"))
            for row in dense(f"{layer}.self_attn.{theirs}", f"blocks/attention/{ours}")
        ),
        *norm(f"{layer}.layer_norm2", "blocks/mlp_norm"),
        *dense(f"{layer}.mlp.fc1", "blocks/mlp/fc1"),
        *dense(f"{layer}.mlp.fc2", "blocks/mlp/fc2"),
    ]
