"""The ViTs of the B-cos repository (github.com/B-cos/B-cos-v2): architectures by name, and the tables for their state dicts.

Their checkpoints are pickles without a description. Beside the safetensors that one is made into, a `config.json` names the architecture,

    {"architecture": "bcos_simple_vit_b_patch16_224"}

and may hold `num_classes`, `label_names` (one for each class) and, of a B-cos network, `logit_bias` and `logit_temperature`: numbers that a
state dict does not hold.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convert_weights.architectures import near_names
from convert_weights.layouts import convolution, dense, norm, parts
from convert_weights.table import Entry, convert, flatten, unflatten
from dave_jax.models import bcos_config, vit_config
from dave_jax.models.bcos_config import BcosViTConfig
from dave_jax.models.config_checks import MOST
from dave_jax.models.positions import check_tiling, sine_cosine_positions
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.vit_config import ViTConfig

_SIZES = {  # width, heads, width of the MLP, blocks without and with a stem, the stem's channels
    "ti": (192, 3, 768, 12, 11, (24, 48, 96, 192)),
    "s": (384, 6, 1536, 12, 11, (48, 96, 192, 384)),
    "b": (768, 12, 3072, 12, 11, (64, 128, 128, 256, 256, 512)),
    "l": (1024, 16, 4096, 14, 13, (64, 128, 128, 256, 256, 512)),
}


def _architectures() -> dict[str, BcosViTConfig | ViTConfig]:
    plain: dict[str, Any] = {"class_token": False, "pooling": "avg", "final_norm": "pooled", "eps": 1e-5, "qkv_bias": False}
    found: dict[str, BcosViTConfig | ViTConfig] = {}
    for name, (width, num_heads, mlp_width, depth, fewer, stem) in _SIZES.items():
        sizes: dict[str, Any] = {"width": width, "num_heads": num_heads, "mlp_width": mlp_width}
        found[f"bcos_simple_vit_{name}_patch16_224"] = BcosViTConfig(depth=depth, **sizes)
        found[f"bcos_vitc_{name}_patch1_14"] = BcosViTConfig((1, 1), stem, depth=fewer, **sizes)
        found[f"standard_simple_vit_{name}_patch16_224"] = ViTConfig(depth=depth, **sizes, **plain)
        found[f"standard_vitc_{name}_patch1_14"] = ViTConfig(depth=fewer, stem_widths=stem, **sizes, **plain)
    return found


ARCHITECTURES = _architectures()
"""By the names of the repository's releases: eight B-cos networks, and the eight plain ViTs that they are compared with."""

_OPTIONS = ("architecture", "num_classes", "label_names", "logit_bias", "logit_temperature")


@dataclasses.dataclass(frozen=True)
class Description:
    """What `config.json` says about a checkpoint.

    Attributes:
        architecture: its name in `ARCHITECTURES`.
        config: the network.
        preprocessing: from photographs to its images: to 256 pixels bilinearly, cut to 224, normalised only for the plain ViTs.
        class_names: one for each class, or None.
        logit_bias: of a B-cos network; None for `log(1 / (classes - 1))`.
    """

    architecture: str
    config: BcosViTConfig | ViTConfig
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None
    logit_bias: float | None = None

    @property
    def family(self) -> str:
        """A key of `dave_jax.models.families.FAMILIES`."""
        return "bcos_vit" if isinstance(self.config, BcosViTConfig) else "vit"

    def params(self, arrays: Mapping[str, np.ndarray], *, what: str = "the checkpoint", dtype: Any = np.float32) -> dict[str, Any]:
        """The parameters that a state dict of the repository holds, of type `dtype`, on the default device; `what` to call it in errors.

        Raises:
            ConversionError: listing missing, leftover and misshapen arrays.
        """
        config = self.config
        if isinstance(config, BcosViTConfig):
            rows, shapes = _bcos_table(config), jax.eval_shape(lambda: bcos_config.init_params(jax.random.key(0), config))
            fixed = flatten(bcos_config.constants(config, self.logit_bias))
        else:
            rows, shapes = _plain_table(config), jax.eval_shape(lambda: vit_config.init_params(jax.random.key(0), config))
            fixed = {
                "position_embedding": sine_cosine_positions(config.grid, config.width),
                "blocks/attention/proj/bias": np.zeros((config.depth, config.width)),
            }
        held = {path: shape for path, shape in flatten(shapes).items() if path not in fixed}
        converted = flatten(convert(arrays, rows, unflatten(held), what=what, dtype=dtype))
        return unflatten(converted | {path: jnp.asarray(value, dtype) for path, value in fixed.items()})


def is_named(document: Mapping[str, Any]) -> bool:
    """Whether a `config.json` names one of these architectures, or tries to.

    Example:
        >>> is_named({"architecture": "bcos_vitc_s_patch1_14"}), is_named({"architecture": "vit_base_patch16_224"})
        (True, False)
    """
    name = document.get("architecture")
    return isinstance(name, str) and name.startswith(("bcos_", "standard_", "simple_vit_", "vitc_"))


def describe(document: Mapping[str, Any], *, image_size: tuple[int, int] | None = None, what: str = "config.json") -> Description:
    """Read a `config.json`.

    Args:
        document: its JSON.
        image_size: height and width, if not 224; the position embedding is that of the new grid.
        what: what to call the file in errors.

    Raises:
        ValueError: an architecture or option that is not known, a value that makes no sense, an image size that the patches do not tile.

    Example:
        >>> read = describe({"architecture": "bcos_vitc_b_patch1_14", "num_classes": 10})
        >>> read.config.stem_strides, read.config.num_classes, read.preprocessing.mean
        ((2, 2, 1, 2, 1, 2), 10, (0.0, 0.0, 0.0))
    """
    name, size = document["architecture"], image_size or (224, 224)
    if name not in ARCHITECTURES:
        raise ValueError(
            f"dave_jax loads these architectures of the B-cos repository: {', '.join(ARCHITECTURES)}; {what} names {name!r}. "
            f"{near_names(name, ARCHITECTURES)}"
        )
    own, number = ARCHITECTURES[name], (int, float)
    count, labels = document.get("num_classes", 1000), document.get("label_names")
    bias, temperature = document.get("logit_bias"), document.get("logit_temperature")
    problems = [f"unknown option {option}={document[option]!r}" for option in sorted(set(document) - set(_OPTIONS))]
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= MOST["num_classes"]:
        problems.append(f"num_classes must be a whole number, 1 to {MOST['num_classes']}; got {count!r}")
    if labels is not None and not (isinstance(labels, list) and len(labels) == count and all(isinstance(label, str) for label in labels)):
        problems.append("label_names must be a list of one name for each class")
    if bias is not None and not (isinstance(bias, number) and math.isfinite(bias)):
        problems.append(f"logit_bias must be a number; got {bias!r}")
    if temperature is not None and not (isinstance(temperature, number) and 0 < temperature < math.inf):
        problems.append(f"logit_temperature must be a positive number; got {temperature!r}")
    if isinstance(own, ViTConfig) and (bias, temperature) != (None, None):
        problems.append("logit_bias and logit_temperature are those of B-cos networks")
    if problems:
        raise ValueError(f"{what} must describe a ViT of the B-cos repository by {list(_OPTIONS)}: {'; '.join(problems)}. Correct it.")
    prepared = {"image_size": size, "crop_fraction": 0.875, "interpolation": "bilinear"}
    if isinstance(own, BcosViTConfig):
        if not own.stem_widths:
            check_tiling(size, own.patch_size)
        config = dataclasses.replace(own, num_classes=count, temperature=1.0 if temperature is None else float(temperature))
        preprocessing = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), **prepared)
    else:
        check_tiling(size, own.patch_size)
        config = dataclasses.replace(own, num_classes=count, image_size=size)
        preprocessing = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), **prepared)
    return Description(name, config, preprocessing, None if labels is None else tuple(labels), None if bias is None else float(bias))


def _bcos_table(config: BcosViTConfig) -> list[Entry]:
    """The rows of a B-cos network: the ViT is the first part of a sequence, and a B-cos layer holds a linear one."""
    embedding, block = "0.to_patch_embedding", "0.transformer.encoder_{i}"
    rows = [
        *dense(f"{embedding}.linear.linear", "patch_embedding"),
        *dense(f"{block}.attn.to_out.linear", "blocks/attention/proj"),
        *dense(f"{block}.ff.net.linear1.linear", "blocks/mlp/fc1"),
        *dense(f"{block}.ff.net.linear2.linear", "blocks/mlp/fc2"),
        *_shared_rows("0.", "0.linear_head.linear.linear"),
    ]
    return [*rows, *_stem_rows(config.stem_widths, f"{embedding}.conv_stem", ".linear")]


def _stem_rows(widths: tuple[int, ...], stem: str, inside: str) -> list[Entry]:
    """Of convolution, norm and activation in turn; a B-cos convolution holds a linear one."""
    rows: list[Entry] = []
    for i in range(len(widths)):
        rows += dense(f"{stem}.{3 * i}{inside}", f"stem/conv{i + 1}", convolution)
        rows += norm(f"{stem}.{3 * i + 1}", f"stem/norm{i + 1}")
    return rows


def _plain_table(config: ViTConfig) -> list[Entry]:
    return [
        *_stem_rows(config.stem_widths, "to_patch_embedding.conv_stem", ""),
        *dense("to_patch_embedding.linear", "patch_embedding"),
        *dense("transformer.encoder_{i}.attn.to_out", "blocks/attention/proj"),
        *dense("transformer.encoder_{i}.ff.net.linear1", "blocks/mlp/fc1"),
        *dense("transformer.encoder_{i}.ff.net.linear2", "blocks/mlp/fc2"),
        *_shared_rows("", "linear_head.linear"),
    ]


def _shared_rows(prefix: str, head: str) -> list[Entry]:
    block = f"{prefix}transformer.encoder_{{i}}"
    return [
        *norm(f"{block}.attn.norm", "blocks/attention_norm"),
        *parts(f"{block}.attn.to_qkv", "blocks/attention", ("query", "key", "value")),
        *norm(f"{block}.ff.net.norm", "blocks/mlp_norm"),
        *norm(f"{prefix}linear_head.norm", "final_norm"),
        *dense(head, "head"),
    ]
