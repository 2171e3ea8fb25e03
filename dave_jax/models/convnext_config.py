"""`ConvNeXtConfig`: what a checkpoint's arrays do not say about a ConvNeXt, and parameters to start from."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dave_jax.effective.activations import MULTIPLIERS
from dave_jax.models.config_checks import problems_of

Params = dict[str, Any]

STEMS = ("patch", "overlap", "overlap_tiered", "overlap_act")
EXPANSION = 4
"""Hidden width of a block's MLP over its width."""


@dataclasses.dataclass(frozen=True)
class ConvNeXtConfig:
    """What a checkpoint's arrays do not say about a ConvNeXt (arXiv 2201.03545, V2: 2301.00808).

    Attributes:
        depths: blocks of every stage.
        widths: channels of every stage.
        kernel_sizes: edge of every stage's depthwise kernels, in pixels; odd.
        num_classes: logits; 0 returns the pooled features.
        stem: `patch` (one convolution with a stride of `patch_size`), or two of 3 x 3 with a stride of 2: `overlap`, `overlap_tiered` (the
            first half as wide, in multiples of 8), `overlap_act` (an activation between).
        patch_size: edge of a patch of the stem `patch`, in pixels.
        norm: `layer_norm`, `rms_norm` or `deviation_norm` (divided by the deviation, the mean kept).
        eps: of every norm.
        activation: a name of `effective.activations.MULTIPLIERS`.
        response_norm: V2's norm within the MLP.
        layer_scale: whether branches are scaled before the residual sum.
        conv_bias: whether the convolutions have a bias; the MLP always has.
        final_norm: where the last norm is: `pooled` (after the average) or `positions` (before).
        head_width: hidden width of the head's MLP; 0 for none.
        final_eps: of the last norm; None for `eps`.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    kernel_sizes: tuple[int, ...] = (7, 7, 7, 7)
    num_classes: int = 1000
    stem: str = "patch"
    patch_size: int = 4
    norm: str = "layer_norm"
    eps: float = 1e-6
    activation: str = "gelu"
    response_norm: bool = False
    layer_scale: bool = True
    conv_bias: bool = True
    final_norm: str = "pooled"
    head_width: int = 0
    final_eps: float | None = None

    def __post_init__(self):
        problems = problems_of(
            self,
            allowed={
                "stem": STEMS,
                "norm": ("layer_norm", "rms_norm", "deviation_norm"),
                "activation": MULTIPLIERS,
                "final_norm": ("pooled", "positions"),
            },
            least=dict.fromkeys(("depths", "widths", "kernel_sizes", "patch_size"), 1) | {"num_classes": 0, "head_width": 0},
        )
        if not len(self.depths) == len(self.widths) == len(self.kernel_sizes) > 0:
            lengths = f"{len(self.depths)}, {len(self.widths)} and {len(self.kernel_sizes)}"
            problems.append(f"depths, widths and kernel_sizes must have one entry for each stage; they have {lengths}")
        if any(size % 2 == 0 for size in self.kernel_sizes):
            problems.append(f"kernel_sizes must be odd; got {self.kernel_sizes}")
        if self.final_eps is not None and not 0 < self.final_eps < math.inf:
            problems.append(f"final_eps must be positive; got {self.final_eps}")
        if self.head_width and self.final_norm != "pooled":
            problems.append("head_width needs final_norm 'pooled'")
        if problems:
            raise ValueError("This is no ConvNeXt: " + "; ".join(problems) + ".")

    @property
    def stem_widths(self) -> tuple[int, ...]:
        """Channels after each convolution of the stem."""
        if self.stem == "patch":
            return (self.widths[0],)
        first = _multiple_of_8(self.widths[0] // 2) if self.stem == "overlap_tiered" else self.widths[0]
        return (first, self.widths[0])

    @property
    def stride(self) -> int:
        """Pixels of the image to one step of the last map: the least edge of an image."""
        return (self.patch_size if self.stem == "patch" else 4) * 2 ** (len(self.depths) - 1)


def _multiple_of_8(value: int) -> int:
    """The nearest multiple of 8, at least 8, and at least nine tenths of the value."""
    near = max(8, (value + 4) // 8 * 8)
    return near + 8 if near < 0.9 * value else near


def init_params(key: PRNGKeyArray, config: ConvNeXtConfig) -> Params:
    """Random parameters: normal(0, 0.02) kernels, zero biases, unit scales, LayerScale 0.1, a response norm that does nothing.

    Example:
        >>> config = ConvNeXtConfig(depths=(1, 2), widths=(8, 16), kernel_sizes=(7, 7), num_classes=3)
        >>> init_params(jax.random.key(0), config)["stages"]["1"]["blocks"]["fc1"]["kernel"].shape
        (2, 16, 64)
    """

    def normal(*shape: int) -> Array:
        nonlocal key
        key, draw = jax.random.split(key)
        return 0.02 * jax.random.normal(draw, shape)

    def dense(fan_in: int, fan_out: int) -> Params:
        return {"kernel": normal(fan_in, fan_out), "bias": jnp.zeros(fan_out)}

    def conv(edge: int, fan_in: int, fan_out: int) -> Params:
        return {"kernel": normal(edge, edge, fan_in, fan_out)} | ({"bias": jnp.zeros(fan_out)} if config.conv_bias else {})

    def norm(size: int) -> Params:
        return {"scale": jnp.ones(size)} | ({"bias": jnp.zeros(size)} if config.norm == "layer_norm" else {})

    def block(width: int, edge: int) -> Params:
        hidden = EXPANSION * width
        params = {"conv": conv(edge, 1, width), "norm": norm(width), "fc1": dense(width, hidden), "fc2": dense(hidden, width)}
        if config.response_norm:
            params["response_norm"] = {"scale": jnp.zeros(hidden), "bias": jnp.zeros(hidden)}
        if config.layer_scale:
            params["layer_scale"] = {"scale": jnp.full(width, 0.1)}
        return params

    def stage(index: int) -> Params:
        width, edge = config.widths[index], config.kernel_sizes[index]
        blocks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(block(width, edge) for _ in range(config.depths[index])))
        if index == 0:
            return {"blocks": blocks}
        before = config.widths[index - 1]
        return {"downsample": {"norm": norm(before), "conv": conv(2, before, width)}, "blocks": blocks}

    edge, fan_in, stem = config.patch_size if config.stem == "patch" else 3, 3, {}
    for i, width in enumerate(config.stem_widths, 1):
        stem[f"conv{i}"], fan_in = conv(edge, fan_in, width), width
    last = config.widths[-1]
    params: Params = {
        "stem": stem | {"norm": norm(fan_in)},
        "stages": {str(index): stage(index) for index in range(len(config.depths))},
        "final_norm": norm(last),
    }
    if config.head_width:
        params["head_hidden"] = dense(last, config.head_width)
    if config.num_classes:
        params["head"] = dense(config.head_width or last, config.num_classes)
    return params
