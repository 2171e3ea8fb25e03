"""transformers' vision transformers: `config.json`, `preprocessor_config.json` and state dicts.

    read = describe(config_document, processor_document)
    params = read.params(safetensors.numpy.load_file("model.safetensors"))

The keys may be those that transformers writes (`encoder.layer.0.attention.attention.query`) or those of its modules since version 5
(`layers.0.attention.q_proj`).
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from convert_weights.huggingface_keys import dinov3_table, table
from convert_weights.huggingface_positions import beit_fields, dinov3_fields
from convert_weights.image_processor import read_preprocessing
from convert_weights.options import pair, whole
from convert_weights.table import convert
from dave_jax.models.config_checks import MOST
from dave_jax.models.positions import check_tiling
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.vit_config import ViTConfig, init_params
from dave_jax.models.vit_positions import resamplings


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What a `model_type` of transformers is.

    Attributes:
        stem: of the names of its classes.
        prefix: of the backbone's keys in a classifier.
        processor: the image processor's class, where its file does not say.
        pooling: the classifier's.
        feature_pooling: the model's without a head.
        defaults: of the options.
        fields: from the options to the fields of `ViTConfig` that only this kind has.
        ends: of the names of its classes.
    """

    stem: str
    prefix: str
    processor: str
    pooling: str = "token"
    feature_pooling: str = "token"
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fields: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda options: {}
    ends: tuple[str, ...] = ("Model", "ForImageClassification")


_PLAIN = {"layer_norm_eps": 1e-12, "patch_size": 16, "intermediate_size": 3072}
_DINO = {"layer_norm_eps": 1e-6, "mlp_ratio": 4}
_KINDS = {
    "vit": _Kind("ViT", "vit.", "ViT", defaults=_PLAIN),
    "deit": _Kind("DeiT", "deit.", "DeiT", defaults=_PLAIN, ends=("Model", "ForImageClassification", "ForImageClassificationWithTeacher")),
    "beit": _Kind("Beit", "beit.", "Beit", defaults=_PLAIN, fields=beit_fields),
    "ijepa": _Kind("IJepa", "ijepa.", "ViT", "avg", "avg", defaults=_PLAIN),
    "dinov2": _Kind("Dinov2", "dinov2.", "Bit", "token_and_mean", defaults=_DINO | {"patch_size": 14}),
    "dinov2_with_registers": _Kind(
        "Dinov2WithRegisters", "dinov2_with_registers.", "Bit", "token_and_mean", defaults=_DINO | {"patch_size": 16}
    ),
    "dinov3_vit": _Kind(
        *("DINOv3ViT", "model.", "DINOv3ViT"),
        defaults={"layer_norm_eps": 1e-5, "patch_size": 16, "hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6},
        fields=dinov3_fields,
        ends=("Model",),
    ),
}
"""By `model_type`."""

_ELSEWHERE = ("convnext", "convnextv2", "swin", "swinv2", "clip", "siglip")
"""Those of other modules."""

ACTIVATIONS = {
    **{"gelu": "gelu", "gelu_python": "gelu", "quick_gelu": "quick_gelu", "relu": "relu", "silu": "silu", "swish": "silu"},
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast"), "gelu_tanh"),
}
"""transformers' names of activations to ours."""

_HEADS = {
    "Model": (),
    "ForImageClassification": ("classifier",),
    "ForImageClassificationWithTeacher": ("cls_classifier", "distillation_classifier"),
}
"""The ends of the names of classes, and the heads that these have."""

_NOT_NEEDED = re.compile(r"(\w+\.)?(embeddings\.mask_token|pooler\..*|.*\.relative_position_index)")
"""Keys known and left out: masked pre-training's token, the layer that a bare model has behind its class token, and what the grid says."""

_EMPTY = "embeddings.register_tokens"
"""DINOv3 has this key for no registers too."""


@dataclasses.dataclass(frozen=True)
class Description:
    """What the files beside a checkpoint of transformers say about it.

    Attributes:
        architecture: the class that wrote it.
        model_type: transformers' name of the kind of network.
        config: the network, for the images that were asked for.
        heads: names of the linear classifiers.
        checkpoint_size: height and width of the images that the checkpoint is for.
        preprocessing: from photographs to the network's images.
        class_names: one for each class, unless they are numbers.
    """

    architecture: str
    model_type: str
    config: ViTConfig
    heads: tuple[str, ...]
    checkpoint_size: tuple[int, int]
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None

    family = "vit"  # of `dave_jax.models.families`

    def params(self, arrays: Mapping[str, np.ndarray], *, what: str = "the checkpoint", dtype: Any = np.float32) -> dict[str, Any]:
        """The parameters that a state dict holds, of type `dtype`, on the default device; `what` to call it in errors.

        Raises:
            ConversionError: listing missing, leftover and misshapen arrays.
        """
        config, (height, width) = self.config, self.checkpoint_size
        old_grid = height // config.patch_size[0], width // config.patch_size[1]
        rows = dinov3_table if self.model_type == "dinov3_vit" else table
        return convert(
            arrays,
            rows(arrays, config, prefix=_KINDS[self.model_type].prefix, heads=self.heads),
            jax.eval_shape(lambda: init_params(jax.random.key(0), config)),
            ignored=[key for key in arrays if _NOT_NEEDED.fullmatch(key) or (key == _EMPTY and not config.num_registers)],
            adapt=resamplings(config, old_grid),
            what=what,
            dtype=dtype,
        )


def describe(
    document: Mapping[str, Any],
    processor: Mapping[str, Any],
    *,
    image_size: tuple[int, int] | None = None,
    what: str = "config.json",
    processor_what: str = "preprocessor_config.json",
) -> Description:
    """Read a `config.json` and a `preprocessor_config.json` of transformers.

    Args:
        document: the JSON of the former.
        processor: the JSON of the latter.
        image_size: height and width, if not the processor's.
        what, processor_what: what to call the files in errors.

    Raises:
        ValueError: a model or option that dave_jax does not have, an image size that the patches do not tile, or malformed settings.

    Example:
        >>> read = describe({"model_type": "vit", "architectures": ["ViTForImageClassification"], "id2label": {"0": "cat", "1": "dog"}}, {})
        >>> read.config.num_classes, read.class_names, read.preprocessing.interpolation
        (2, ('cat', 'dog'), 'bilinear')
    """
    kind, architecture = _kind(document, what)
    try:
        heads = _HEADS[architecture.removeprefix(kind.stem)]
        checkpoint_size, patch_size = pair(document.get("image_size", 224)), pair(document.get("patch_size", kind.defaults["patch_size"]))
        preprocessing = read_preprocessing(processor, processor=kind.processor, image_size=image_size, what=processor_what)
        check_tiling(preprocessing.image_size, patch_size)
        names = read_class_names(document) if heads else []
        pooling = kind.pooling if heads else kind.feature_pooling
        fields: dict[str, Any] = {"pooling": pooling} | _network({**kind.defaults, **document}, kind, what)
        if kind.stem == "DeiT":  # the second token, with a head of its own or without
            fields |= {"distillation_token": True} if len(heads) == 2 else {"num_registers": 1}
        config = ViTConfig(image_size=preprocessing.image_size, patch_size=patch_size, num_classes=len(names), **fields)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{what} must be laid out as transformers writes it; it is not ({error!r}). Compare it with another model's."
        ) from error
    class_names = None if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else tuple(names)
    heads = heads if names else ()
    return Description(architecture, document["model_type"], config, heads, checkpoint_size, preprocessing, class_names)


def _kind(document: Mapping[str, Any], what: str) -> tuple[_Kind, str]:
    """The kind of network, and the class that wrote the checkpoint."""
    model_type = document.get("model_type")
    if not isinstance(model_type, str) or model_type not in _KINDS:
        raise ValueError(
            f"dave_jax loads these kinds of transformers' models: {[*_KINDS, *_ELSEWHERE]}; {what} is for model_type {model_type!r}. "
            "Load the same weights from timm, if it has them, or build the network in JAX (docs/any-model.md)."
        )
    kind = _KINDS[model_type]
    return kind, written_class(document, [kind.stem + end for end in kind.ends], what)


def written_class(document: Mapping[str, Any], known: list[str], what: str) -> str:
    """The class that wrote a checkpoint.

    Raises:
        ValueError: it is none of those known.
    """
    written = document.get("architectures")
    if not isinstance(written, list) or len(written) != 1 or written[0] not in known:
        raise ValueError(
            f"{what} must name the class that wrote the checkpoint, one of {known}, under architectures; got {written!r}. "
            "Correct it, or save the model with that class of transformers."
        )
    return written[0]


def _network(options: Mapping[str, Any], kind: _Kind, what: str) -> dict[str, Any]:
    """The fields of `ViTConfig` that are options of transformers' configurations."""
    width, heads = whole(options, "hidden_size", 768), whole(options, "num_attention_heads", 12)
    activation = options.get("hidden_act", "gelu")
    problems = []
    if activation not in ACTIVATIONS:
        problems.append(f"hidden_act {activation!r} is none of {sorted(ACTIVATIONS)}")
    if options.get("num_channels", 3) != 3:
        problems.append(f"num_channels must be 3; got {options['num_channels']!r}")
    if (head_dim := options.get("head_dim")) is not None and head_dim * heads != width:
        problems.append(f"head_dim * num_attention_heads must be hidden_size; got {head_dim} * {heads} for {width}")
    own = {}
    try:
        own = kind.fields(options)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ValueError(f"{what} has options that dave_jax does not support: {'; '.join(problems)}. Use another checkpoint.")
    fields: dict[str, Any] = {
        "width": width,
        "depth": whole(options, "num_hidden_layers", 12),
        "num_heads": heads,
        "eps": float(options["layer_norm_eps"]),
        "activation": ACTIVATIONS[activation],
        "qkv_bias": bool(options.get("qkv_bias", True)),
        "class_token": kind.stem != "IJepa",
        "position_resampling": "bicubic",
    }
    if "mlp_ratio" not in options:
        return fields | {"mlp_width": whole(options, "intermediate_size", None)} | own
    fields |= {"mlp_width": int(width * options["mlp_ratio"]), "layer_scale": True}
    if options.get("use_swiglu_ffn"):  # two thirds of the width, rounded up to eights
        fields |= {"gated_mlp": True, "activation": "silu", "mlp_width": (int(fields["mlp_width"] * 2 / 3) + 7) // 8 * 8}
    if kind.stem == "Dinov2WithRegisters":
        fields |= {"num_registers": whole(options, "num_register_tokens", 4), "position_resampling": "antialiased"}
    return fields


def read_class_names(document: Mapping[str, Any]) -> list[str]:
    """The names of the classes by number; transformers leaves its own names of two classes out of the file."""
    names = document.get("id2label")
    if names is None:
        return [f"LABEL_{index}" for index in range(min(whole(document, "num_labels", 2), MOST["num_classes"] + 1))]
    by_number = {str(number): str(name) for number, name in names.items()}
    if set(by_number) != {str(number) for number in range(len(by_number))}:
        raise KeyError(f"id2label must have the numbers 0 to {len(by_number) - 1}")
    return [by_number[str(number)] for number in range(len(by_number))]
