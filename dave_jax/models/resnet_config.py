"""`ResNetConfig`: what a checkpoint's arrays do not say about a ResNet, and parameters to start from."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dave_jax.effective.activations import MULTIPLIERS
from dave_jax.models.config_checks import problems_of

Params = dict[str, Any]

EXPANSION = {"basic": 1, "bottleneck": 4}
"""Kinds of blocks, and the channels that one puts out over the stage's width."""


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """What a checkpoint's arrays do not say about a ResNet (arXiv 1512.03385), ResNeXt (1611.05431) or Wide ResNet (1605.07146).

    Attributes:
        blocks: the kind of every stage's blocks: `basic` (two convolutions of 3 x 3) or `bottleneck` (1 x 1, 3 x 3, 1 x 1).
        depths: blocks of every stage.
        widths: of every stage; its blocks put out as many channels, bottlenecks four times as many.
        groups: of a bottleneck's convolution of 3 x 3.
        base_width: channels of one such group, in a stage of width 64.
        stem_widths: channels after each convolution of the stem: one of 7 x 7, or three of 3 x 3 (ResNet-C and -D, arXiv 1812.01187).
        stem_pool: `max`, or `conv`, a convolution with batch norm and activation.
        average_down: whether a shortcut with stride averages and then projects (ResNet-D), not projects with a stride.
        gate: attention over the channels of a block's branch, before the sum: `none`, `squeeze` (SE-ResNet, arXiv 1709.01507) or `conv`
            (ECA, arXiv 1910.03151).
        squeeze: hidden width of `squeeze` over the channels, to the nearest multiple of 8.
        activation: a name of `effective.activations.MULTIPLIERS`.
        eps: of every batch norm.
        num_classes: logits; 0 returns the pooled features.
    """

    blocks: tuple[str, ...] = ("bottleneck",) * 4
    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    groups: int = 1
    base_width: int = 64
    stem_widths: tuple[int, ...] = (64,)
    stem_pool: str = "max"
    average_down: bool = False
    gate: str = "none"
    squeeze: float = 1 / 16
    activation: str = "relu"
    eps: float = 1e-5
    num_classes: int = 1000

    def __post_init__(self):
        problems = problems_of(
            self,
            allowed={"blocks": EXPANSION, "stem_pool": ("max", "conv"), "gate": ("none", "squeeze", "conv"), "activation": MULTIPLIERS},
            least=dict.fromkeys(("depths", "widths", "stem_widths", "groups", "base_width"), 1) | {"num_classes": 0},
        )
        if not len(self.blocks) == len(self.depths) == len(self.widths) > 0:
            lengths = f"{len(self.blocks)}, {len(self.depths)} and {len(self.widths)}"
            problems.append(f"blocks, depths and widths must have one entry for each stage; they have {lengths}")
        if len(self.stem_widths) not in (1, 3):
            problems.append(f"stem_widths has one entry (7 x 7) or three (3 x 3); got {self.stem_widths}")
        if "basic" in self.blocks and (self.groups, self.base_width) != (1, 64):
            problems.append("groups and base_width are those of bottlenecks; basic blocks need 1 and 64")
        if not problems and min(map(self.inner_width, range(len(self.depths)))) < 1:
            problems.append(f"base_width {self.base_width} leaves a block of widths {self.widths} without channels")
        if not 0 < self.squeeze <= 1:
            problems.append(f"squeeze must lie in 0 to 1, without 0; got {self.squeeze}")
        if problems:
            raise ValueError("This is no ResNet: " + "; ".join(problems) + ".")

    def inner_width(self, stage: int) -> int:
        """Channels within a block of a stage."""
        width = self.widths[stage]
        return width if self.blocks[stage] == "basic" else width * self.base_width // 64 * self.groups

    def out_width(self, stage: int) -> int:
        """Channels that a block of a stage puts out; of stage -1, the stem."""
        return EXPANSION[self.blocks[stage]] * self.widths[stage] if stage >= 0 else self.stem_widths[-1]

    def stride(self, stage: int) -> int:
        """That of a stage's first block."""
        return 2 if stage else 1

    def gate_size(self, stage: int) -> int:
        """Hidden width of a `squeeze` gate, or length of a `conv` gate's kernel, in a stage."""
        channels = self.out_width(stage)
        if self.gate == "squeeze":
            return max(8, int(channels * self.squeeze + 4) // 8 * 8)
        length = int((math.log2(channels) + 1) / 2)
        return max(length + 1 - length % 2, 3)

    def has_projection(self, stage: int) -> bool:
        """Whether the shortcut of a stage's first block projects."""
        return self.stride(stage) > 1 or self.out_width(stage - 1) != self.out_width(stage)


def init_params(key: PRNGKeyArray, config: ResNetConfig) -> Params:
    """Random parameters: He's normal kernels (arXiv 1502.01852), batch norms that do nothing, a normal(0, 0.02) head.

    Example:
        >>> config = ResNetConfig(blocks=("basic",) * 2, depths=(1, 3), widths=(8, 16), stem_widths=(8,), num_classes=3)
        >>> init_params(jax.random.key(0), config)["stages"]["1"]["blocks"]["conv1"]["kernel"].shape
        (2, 3, 3, 16, 16)
    """

    def normal(*shape: int) -> Array:
        nonlocal key
        key, draw = jax.random.split(key)
        return jax.random.normal(draw, shape)

    def conv(edge: int, fan_in: int, fan_out: int) -> Params:
        return {"kernel": (2 / (edge * edge * fan_out)) ** 0.5 * normal(edge, edge, fan_in, fan_out)}

    def dense(fan_in: int, fan_out: int) -> Params:
        return {"kernel": fan_in**-0.5 * normal(fan_in, fan_out), "bias": jnp.zeros(fan_out)}

    def norm(size: int) -> Params:
        still = {"bias": jnp.zeros(size), "running_mean": jnp.zeros(size)}
        return {"scale": jnp.ones(size), "running_variance": jnp.ones(size)} | still

    def chain(edges: tuple[int, ...], widths: tuple[int, ...], groups: tuple[int, ...]) -> Params:
        params: Params = {}
        for i, (edge, group) in enumerate(zip(edges, groups, strict=True), 1):
            params |= {f"conv{i}": conv(edge, widths[i - 1] // group, widths[i]), f"norm{i}": norm(widths[i])}
        return params

    def block(stage: int, fan_in: int) -> Params:
        inner, out = config.inner_width(stage), config.out_width(stage)
        if config.blocks[stage] == "basic":
            params = chain((3, 3), (fan_in, inner, out), (1, 1))
        else:
            params = chain((1, 3, 1), (fan_in, inner, inner, out), (1, config.groups, 1))
        size = config.gate_size(stage)
        if config.gate == "squeeze":
            params["gate"] = {"fc1": dense(out, size), "fc2": dense(size, out)}
        elif config.gate == "conv":
            params["gate"] = {"conv": {"kernel": size**-0.5 * normal(size)}}
        return params

    def stage(index: int) -> Params:
        before, out, depth = config.out_width(index - 1), config.out_width(index), config.depths[index]
        params: Params = {"first": block(index, before)}
        if config.has_projection(index):
            params["first"]["shortcut"] = {"conv": conv(1, before, out), "norm": norm(out)}
        if depth > 1:
            params["blocks"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(block(index, out) for _ in range(depth - 1)))
        return params

    edges = (7,) if len(config.stem_widths) == 1 else (3, 3, 3)
    params: Params = {
        "stem": chain(edges, (3, *config.stem_widths), (1,) * len(edges)),
        "stages": {str(index): stage(index) for index in range(len(config.depths))},
    }
    if config.stem_pool == "conv":
        width = config.stem_widths[-1]
        params["stem_pool"] = {"conv": conv(3, width, width), "norm": norm(width)}
    if config.num_classes:
        last = config.out_width(len(config.depths) - 1)
        params["head"] = {"kernel": 0.02 * normal(last, config.num_classes), "bias": jnp.zeros(config.num_classes)}
    return params
