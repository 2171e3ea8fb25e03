"""timm's `ConvNeXt`: constructor options and state-dict keys."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from convert_weights.layouts import convolution, dense, norm, vector
from convert_weights.options import ACTIVATIONS, NORMS, Options
from convert_weights.table import Entry, convert
from dave_jax.models.convnext_config import STEMS, ConvNeXtConfig, init_params

_NORMS = NORMS | {f"{name}2d": ours for name, ours in NORMS.items()} | {"simplenorm": "deviation_norm", "simplenorm2d": "deviation_norm"}


def config_from_options(options: Mapping[str, Any]) -> ConvNeXtConfig:
    """A timm constructor's options as a `ConvNeXtConfig`.

    Raises:
        ValueError: listing every unknown or unsupported option.

    Example:
        >>> config = config_from_options({"depths": [2, 2, 6, 2], "dims": [40, 80, 160, 320], "use_grn": True, "ls_init_value": None})
        >>> config.response_norm, config.layer_scale
        (True, False)
    """
    read = Options(options)
    depths = tuple(int(depth) for depth in read.get("depths", (3, 3, 9, 3)))
    kernels = read.get("kernel_sizes", 7)
    norm_kind, norm_arguments = read.choose("norm_layer", "layernorm", _NORMS)
    if norm_arguments:
        read.problems.append(f"norm_layer={options['norm_layer']!r} has arguments; only norm_eps is read")
    activation, _ = read.choose("act_layer", "gelu", ACTIVATIONS)
    stem = read.get("stem_type", "patch")
    if stem not in STEMS:
        read.problems.append(f"stem_type {stem!r} is none of {list(STEMS)}")
    read.get("ls_init_value", None)
    read.get("conv_mlp", False)
    read.only("global_pool", "avg")
    read.only("in_chans", 3)
    read.only("output_stride", 32)
    read.only("patch_size", 4)
    fields: dict[str, Any] = dict(
        depths=depths,
        widths=tuple(int(width) for width in read.get("dims", (96, 192, 384, 768))),
        kernel_sizes=(int(kernels),) * len(depths) if isinstance(kernels, (int, float)) else tuple(int(size) for size in kernels),
        num_classes=int(read.get("num_classes", 1000)),
        stem=stem,
        norm=norm_kind,
        eps=float(read.get("norm_eps", 1e-6)),
        activation=activation,
        response_norm=bool(read.get("use_grn", False)),
        layer_scale=options.get("ls_init_value", 1e-6) is not None,
        conv_bias=bool(read.get("conv_bias", True)),
        final_norm="positions" if read.get("head_norm_first", False) else "pooled",
        head_width=int(read.get("head_hidden_size", 0)),
    )
    read.check("ConvNeXt")
    return ConvNeXtConfig(**fields)


def table(config: ConvNeXtConfig) -> list[Entry]:
    """The rows for every parameter that a configuration may have."""
    places = {"patch": (0, 1), "overlap": (0, 1, 2), "overlap_tiered": (0, 1, 2), "overlap_act": (0, 2, 3)}[config.stem]
    rows = norm(f"stem.{places[-1]}", "stem/norm")
    for i, place in enumerate(places[:-1], 1):
        rows += dense(f"stem.{place}", f"stem/conv{i}", convolution)
    for stage in range(len(config.depths)):
        theirs, ours = f"stages.{stage}", f"stages/{stage}"
        block, blocks = f"{theirs}.blocks.{{i}}", f"{ours}/blocks"
        rows += [
            *norm(f"{theirs}.downsample.0", f"{ours}/downsample/norm"),
            *dense(f"{theirs}.downsample.1", f"{ours}/downsample/conv", convolution),
            *dense(f"{block}.conv_dw", f"{blocks}/conv", convolution),
            *norm(f"{block}.norm", f"{blocks}/norm"),
            *dense(f"{block}.mlp.fc1", f"{blocks}/fc1"),
            *norm(f"{block}.mlp.grn", f"{blocks}/response_norm"),
            *dense(f"{block}.mlp.fc2", f"{blocks}/fc2"),
            Entry(f"{block}.gamma", f"{blocks}/layer_scale/scale", vector),
        ]
    return [
        *rows,
        *norm("norm_pre" if config.final_norm == "positions" else "head.norm", "final_norm"),
        *dense("head.pre_logits.fc", "head_hidden"),
        *dense("head.fc", "head"),
    ]


def params_from_arrays(
    arrays: Mapping[str, np.ndarray], config: ConvNeXtConfig, *, what: str = "the checkpoint", dtype: Any = np.float32
) -> dict[str, Any]:
    """A timm state dict as parameters of `config`, of type `dtype`, on the default device.

    Raises:
        ConversionError: listing missing, leftover and misshapen arrays.
    """
    return convert(arrays, table(config), jax.eval_shape(lambda: init_params(jax.random.key(0), config)), what=what, dtype=dtype)
