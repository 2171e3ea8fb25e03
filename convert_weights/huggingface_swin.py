"""transformers' Swin and Swin V2: `config.json`, `preprocessor_config.json` and state dicts.

    read = describe(config_document, processor_document)
    params = read.params(safetensors.numpy.load_file("model.safetensors"))

The keys of V1 may be those that transformers writes (`attention.self.query`) or those of its modules since version 5 (`attention.q_proj`).
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from convert_weights.huggingface import ACTIVATIONS, read_class_names, written_class
from convert_weights.image_processor import read_preprocessing
from convert_weights.layouts import dense, norm, patches, vector
from convert_weights.options import pair, whole
from convert_weights.table import Entry, convert
from dave_jax.models.positions import check_tiling
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.swin_config import SwinConfig, init_params
from dave_jax.models.swin_positions import at_size

CLASSES = {"swin": "Swin", "swinv2": "Swinv2"}
"""By `model_type`, how the names of its classes begin."""

_EPS = 1e-5
"""Of the norms that have no option for it in transformers."""

_NOT_NEEDED = re.compile(r".*\.(relative_position_index|relative_coords_table)|(\w+\.)?embeddings\.mask_token")
"""Keys known and left out: what the windows say, and masked pre-training's token."""


@dataclasses.dataclass(frozen=True)
class Description:
    """What the files beside a checkpoint of transformers' Swin say about it.

    Attributes:
        architecture: the class that wrote it.
        model_type: `swin` or `swinv2`.
        config: the network, for the images that were asked for.
        preprocessing: from photographs to those images.
        class_names: one for each class, unless they are numbers.
    """

    architecture: str
    model_type: str
    config: SwinConfig
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None

    family = "swin"  # of `dave_jax.models.families`

    def params(self, arrays: Mapping[str, np.ndarray], *, what: str = "the checkpoint", dtype: Any = np.float32) -> dict[str, Any]:
        """The parameters that a state dict holds, of type `dtype`, on the default device; `what` to call it in errors.

        Raises:
            ConversionError: listing missing, leftover and misshapen arrays.
        """
        prefix = f"{self.model_type}."
        rows = table(arrays, self.config, prefix=prefix if any(key.startswith(prefix) for key in arrays) else "")
        expected = jax.eval_shape(lambda: init_params(jax.random.key(0), self.config))
        return convert(arrays, rows, expected, ignored=[key for key in arrays if _NOT_NEEDED.fullmatch(key)], what=what, dtype=dtype)


def describe(
    document: Mapping[str, Any],
    processor: Mapping[str, Any],
    *,
    image_size: tuple[int, int] | None = None,
    what: str = "config.json",
    processor_what: str = "preprocessor_config.json",
) -> Description:
    """Read a `config.json` and a `preprocessor_config.json` of transformers' Swin.

    Args:
        document: the JSON of the former.
        processor: the JSON of the latter.
        image_size: height and width, if not the processor's.
        what, processor_what: what to call the files in errors.

    Raises:
        ValueError: a class or option that dave_jax does not have, images whose maps the windows do not tile, or malformed settings.

    Example:
        >>> read = describe({"model_type": "swin", "architectures": ["SwinModel"]}, {"size": 224})
        >>> read.config.windows, read.config.num_classes
        (((7, 7), (7, 7), (7, 7), (7, 7)), 0)
    """
    stem = CLASSES[document["model_type"]]
    architecture = written_class(document, [stem + end for end in ("Model", "ForImageClassification")], what)
    preprocessing = read_preprocessing(processor, processor="ViT", image_size=image_size, what=processor_what)
    try:
        names = read_class_names(document) if architecture.endswith("Classification") else []
        config = _config(document, preprocessing.image_size, len(names), what)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{what} must be laid out as transformers writes it; it is not ({error!r}). Compare it with another model's."
        ) from error
    class_names = None if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else tuple(names)
    return Description(architecture, document["model_type"], config, preprocessing, class_names)


def _config(document: Mapping[str, Any], image_size: tuple[int, int], num_classes: int, what: str) -> SwinConfig:
    depths, width = tuple(document.get("depths") or (2, 2, 6, 2)), whole(document, "embed_dim", 96)
    activation, ratio, window = document.get("hidden_act", "gelu"), float(document.get("mlp_ratio", 4.0)), whole(document, "window_size", 7)
    problems = []
    if activation not in ACTIVATIONS:
        problems.append(f"hidden_act {activation!r} is none of {sorted(ACTIVATIONS)}")
    if document.get("num_channels", 3) != 3:
        problems.append(f"num_channels must be 3; got {document['num_channels']!r}")
    if document.get("layer_norm_eps", _EPS) != _EPS:
        problems.append(f"layer_norm_eps must be {_EPS}; got {document['layer_norm_eps']!r}")
    if document.get("use_absolute_embeddings", False):
        problems.append("use_absolute_embeddings is not supported")
    if problems:
        raise ValueError(f"{what} has options that dave_jax does not support: {'; '.join(problems)}. Use another checkpoint.")
    patch_size = pair(document.get("patch_size", 4))
    check_tiling(image_size, patch_size)
    config = SwinConfig(
        image_size=image_size,
        patch_size=patch_size,
        width=width,
        depths=tuple(int(depth) for depth in depths),
        num_heads=tuple(int(heads) for heads in document.get("num_heads") or (3, 6, 12, 24)),
        mlp_widths=tuple(int(ratio * width * 2**stage) for stage in range(len(depths))),
        windows=((window, window),) * len(depths),
        num_classes=num_classes,
        version=2 if document["model_type"] == "swinv2" else 1,
        pretrained_windows=tuple(int(edge) for edge in document.get("pretrained_window_sizes") or (0,) * len(depths))[: len(depths)],
        eps=_EPS,
        activation=ACTIVATIONS[activation],
        qkv_bias=bool(document.get("qkv_bias", True)),
    )
    _check_windows(config, pair(document.get("image_size", 224)), what)
    return config


def _check_windows(config: SwinConfig, own_size: tuple[int, int], what: str) -> None:
    """transformers fills maps up before it shifts them, where timm and dave_jax do it after; and it has only square windows."""
    for stage in range(len(config.depths)):
        cut, own = config.cuts(stage)[1], at_size(config, own_size).cuts(stage)[1]
        wanted = config.windows[stage] if config.version == 1 else own.window
        square = cut.window[0] == cut.window[1] and cut.shift[0] == cut.shift[1]
        kept = config.version == 1 or cut.shift == own.shift
        if cut.whole != cut.size or cut.window != wanted or not square or not kept:
            raise ValueError(
                "The maps of transformers' Swin must be tiled by square windows, the same as in training; with images of "
                f"{config.image_size} stage {stage} has a map of {cut.size} for windows of {wanted} ({what}). "
                "Take another image_size, or timm's checkpoint."
            )


def table(arrays: Mapping[str, np.ndarray], config: SwinConfig, *, prefix: str) -> list[Entry]:
    """The rows for every parameter that a configuration may have; names are the newer where the checkpoint has these.

    Args:
        arrays: the checkpoint.
        config: the network.
        prefix: of the backbone's keys, where they have one.
    """
    behind = "norm" if config.version == 1 else "post_norm"
    new = f"{prefix}encoder.layers.0.blocks.0.attention.q_proj.weight" in arrays
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj"} if new else {name: f"self.{name}" for name in ("query", "key", "value")}
    proj, fc1, fc2 = ("attention.o_proj", "mlp.fc1", "mlp.fc2") if new else ("attention.output.dense", "intermediate.dense", "output.dense")
    places = "attention.relative_position_bias" if new else "attention.self"
    rows = [
        *dense(f"{prefix}embeddings.patch_embeddings.projection", "patch_embedding", patches),
        *norm(f"{prefix}embeddings.norm", "patch_norm"),
    ]
    for stage in range(len(config.depths)):
        theirs, ours = f"{prefix}encoder.layers.{stage}.blocks.{{i}}", f"stages/{stage}/blocks"
        attention, merge, down = f"{ours}/attention", f"stages/{stage}/merge", f"{prefix}encoder.layers.{stage - 1}.downsample"
        network = f"{theirs}.{places}.continuous_position_bias_mlp"
        rows += [
            *norm(f"{theirs}.layernorm_before", f"{ours}/attention_{behind}"),
            *norm(f"{theirs}.layernorm_after", f"{ours}/mlp_{behind}"),
            *(row for name, key in names.items() for row in dense(f"{theirs}.attention.{key}", f"{attention}/{name}")),
            *dense(f"{theirs}.{proj}", f"{attention}/proj"),
            *dense(f"{theirs}.{fc1}", f"{ours}/mlp/fc1"),
            *dense(f"{theirs}.{fc2}", f"{ours}/mlp/fc2"),
            *dense(f"{down}.reduction", f"{merge}/reduction"),
            *norm(f"{down}.norm", f"{merge}/{behind}"),
            Entry(f"{theirs}.{places}.relative_position_bias_table", f"{attention}/relative_position", vector),
            Entry(f"{theirs}.{places}.logit_scale", f"{attention}/logit_scale", np.ravel),
            Entry(f"{network}.0.weight", f"{attention}/position_mlp/fc1/kernel", np.transpose),
            Entry(f"{network}.0.bias", f"{attention}/position_mlp/fc1/offset", vector),
            Entry(f"{network}.2.weight", f"{attention}/position_mlp/fc2/kernel", np.transpose),
        ]
    return [*rows, *norm(f"{prefix}layernorm", "final_norm"), *dense("classifier", "head")]
