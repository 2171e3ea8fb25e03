"""timm's `ResNet`, also as ResNeXt, Wide ResNet, ResNet-C and -D, SE-ResNet, ECA-ResNet: constructor options and state-dict keys."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from convert_weights.layouts import batch_norm, convolution, dense
from convert_weights.options import ACTIVATIONS, Options, named
from convert_weights.table import Entry, convert
from dave_jax.models.resnet_config import ResNetConfig, init_params

_BLOCKS = {"basicblock": "basic", "bottleneck": "bottleneck"}
_GATES = {"none": "none", "se": "squeeze", "semodule": "squeeze", "eca": "conv", "ecamodule": "conv"}


def config_from_options(options: Mapping[str, Any]) -> ResNetConfig:
    """A timm constructor's options as a `ResNetConfig`.

    Raises:
        ValueError: listing every unknown or unsupported option.

    Example:
        >>> config_from_options({"block": "Bottleneck", "layers": [3, 4, 6, 3], "stem_type": "deep", "stem_width": 32}).stem_widths
        (32, 32, 64)
    """
    read = Options(options)
    depths = tuple(int(depth) for depth in read.get("layers", (3, 4, 6, 3)))
    kinds = read.get("block", "Bottleneck")
    kinds = [named(kind)[0] for kind in ([kinds] * len(depths) if isinstance(kinds, str) else kinds)]
    if unknown := set(kinds) - set(_BLOCKS):
        read.problems.append(f"block {sorted(unknown)} is none of {sorted(_BLOCKS)}")
    stem, width = read.get("stem_type", ""), int(read.get("stem_width", 64))
    stems = {"": (64,), "deep": (width, width, 2 * width), "deep_tiered": (3 * (width // 4), width, 2 * width)}
    if stem not in stems:
        read.problems.append(f"stem_type {stem!r} is none of {sorted(stems)}")
    activation, _ = read.choose("act_layer", "relu", ACTIVATIONS)
    read.only("norm_layer", "batchnorm2d", "batchnorm")
    read.only("aa_layer", "")
    gate, gate_arguments = _gate(read)
    read.only("block_reduce_first", 1)
    read.only("down_kernel_size", 1)
    read.only("global_pool", "avg", "fast")
    read.only("in_chans", 3)
    read.only("output_stride", 32)
    fields: dict[str, Any] = dict(
        blocks=tuple(_BLOCKS.get(kind, kind) for kind in kinds),
        depths=depths,
        widths=tuple(int(channels) for channels in read.get("channels", (64, 128, 256, 512))),
        groups=int(read.get("cardinality", 1)),
        base_width=int(read.get("base_width", 64)),
        stem_widths=stems.get(stem),
        stem_pool="conv" if read.get("replace_stem_pool", False) else "max",
        gate=gate,
        squeeze=float(gate_arguments.get("rd_ratio", 1 / 16)),
        average_down=bool(read.get("avg_down", False)),
        activation=activation,
        num_classes=int(read.get("num_classes", 1000)),
    )
    read.check("ResNet")
    return ResNetConfig(**fields)


def _gate(read: Options) -> tuple[str, dict[str, str]]:
    """The attention over channels that `block_args` names, and its arguments."""
    given = dict(read.get("block_args", {}))
    kind, arguments = named(given.pop("attn_layer", "none"))
    if given or kind not in _GATES or set(arguments) - ({"rd_ratio"} if _GATES.get(kind) == "squeeze" else set()):
        read.problems.append(f"block_args={read.options['block_args']!r} is not supported; only attn_layer, one of {sorted(_GATES)}")
    return _GATES.get(kind, "none"), arguments


def table(config: ResNetConfig) -> list[Entry]:
    """The rows for every parameter that a configuration may have."""
    stem = [("conv1", "bn1")] if len(config.stem_widths) == 1 else [("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1")]
    rows = _normed("maxpool.0", "maxpool.1", "stem_pool/conv", "stem_pool/norm")
    for i, (conv, norm) in enumerate(stem, 1):
        rows += _normed(conv, norm, f"stem/conv{i}", f"stem/norm{i}")
    for stage in range(len(config.depths)):
        theirs, ours, conv = f"layer{stage + 1}", f"stages/{stage}", 1 if config.average_down else 0
        down = f"{theirs}.0.downsample"
        rows += _normed(f"{down}.{conv}", f"{down}.{conv + 1}", f"{ours}/first/shortcut/conv", f"{ours}/first/shortcut/norm")
        for i in (1, 2, 3):
            rows += _normed(f"{theirs}.0.conv{i}", f"{theirs}.0.bn{i}", f"{ours}/first/conv{i}", f"{ours}/first/norm{i}")
            block = f"{theirs}.{{i}}"
            rows += _normed(f"{block}.conv{i}", f"{block}.bn{i}", f"{ours}/blocks/conv{i}", f"{ours}/blocks/norm{i}", first=1)
        for block, place, first in ((f"{theirs}.0", "first", 0), (f"{theirs}.{{i}}", "blocks", 1)):
            rows.append(Entry(f"{block}.se.conv.weight", f"{ours}/{place}/gate/conv/kernel", np.ravel, first))
            for i in (1, 2):
                rows += dense(f"{block}.se.fc{i}", f"{ours}/{place}/gate/fc{i}", first=first)
    return [*rows, *dense("fc", "head")]


def _normed(conv: str, norm: str, our_conv: str, our_norm: str, first: int = 0) -> list[Entry]:
    return [*dense(conv, our_conv, convolution, first), *batch_norm(norm, our_norm, first)]


def params_from_arrays(
    arrays: Mapping[str, np.ndarray], config: ResNetConfig, *, what: str = "the checkpoint", dtype: Any = np.float32
) -> dict[str, Any]:
    """A timm state dict as parameters of `config`, of type `dtype`, on the default device.

    Raises:
        ConversionError: listing missing, leftover and misshapen arrays.
    """
    return convert(
        arrays,
        table(config),
        jax.eval_shape(lambda: init_params(jax.random.key(0), config)),
        ignored=[key for key in arrays if key.endswith(".num_batches_tracked")],  # training's counter
        what=what,
        dtype=dtype,
    )
