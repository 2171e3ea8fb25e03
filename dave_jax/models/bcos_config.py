"""`BcosViTConfig`: what a checkpoint's arrays do not say about a B-cos vision transformer, and parameters to start from."""

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dave_jax.effective.bcos import one
from dave_jax.models.config_checks import problems_of

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class BcosViTConfig:
    """What a checkpoint's arrays do not say about a B-cos vision transformer (arXiv 2306.10898).

    Attributes:
        patch_size: height and width of a patch, in pixels or, behind a convolutional stem, in its outputs.
        stem_widths: channels after each convolution of the stem (3 x 3, stride 2 where it widens, arXiv 2106.14881); none without a stem.
        width: of a token; a multiple of 4, at least 8.
        depth: number of blocks.
        num_heads: attention heads; divides the width.
        mlp_width: hidden width of the MLP.
        num_classes: logits.
        eps: of every norm.
        temperature: divides the logits, before their bias is added.
    """

    patch_size: tuple[int, int] = (16, 16)
    stem_widths: tuple[int, ...] = ()
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_width: int = 3072
    num_classes: int = 1000
    eps: float = 1e-5
    temperature: float = 1.0

    def __post_init__(self):
        least = dict.fromkeys(("patch_size", "stem_widths", "width", "depth", "num_heads", "mlp_width", "num_classes"), 1)
        problems = problems_of(self, least=least, positive=("eps", "temperature"))
        if self.width % 4 or self.width < 8:
            problems.append(f"width must be a multiple of 4, at least 8, for sines and cosines along two axes; got {self.width}")
        if problems:
            raise ValueError("This is no B-cos vision transformer: " + "; ".join(problems) + ".")

    @property
    def stem_strides(self) -> tuple[int, ...]:
        """The stride of each convolution of the stem."""
        return tuple(2 if fan_out > fan_in else 1 for fan_in, fan_out in itertools.pairwise((6, *self.stem_widths)))


def constants(config: BcosViTConfig, logit_bias: float | None = None) -> Params:
    """The parameters that training leaves as they are; each is there so that its part in a logit can be told.

    Args:
        config: of the network.
        logit_bias: added to every logit; None takes `log(1 / (classes - 1))`, with which the papers' networks begin at chance.

    Returns:
        `channels/bias`, the constant one of the channels 1 - x; `position_embedding`, the amplitude of every sine and cosine; and
        `logits/bias`.

    Example:
        >>> round(float(constants(BcosViTConfig())["logits"]["bias"]), 4)
        -6.9068
    """
    chance = -math.log(max(config.num_classes - 1, 1))
    bias = jnp.asarray(chance if logit_bias is None else logit_bias, float)
    return {"channels": one(3), "position_embedding": jnp.ones(config.width), "logits": {"bias": bias}}


def init_params(key: PRNGKeyArray, config: BcosViTConfig) -> Params:
    """Random parameters: normal(0, 0.02) kernels, whose size B-cos products do not see, and unit scales.

    Example:
        >>> config = BcosViTConfig(patch_size=(4, 4), width=8, depth=2, num_heads=2, mlp_width=16, num_classes=3)
        >>> init_params(jax.random.key(0), config)["blocks"]["mlp"]["fc1"]["kernel"].shape
        (2, 8, 16)
    """
    width = config.width

    def dense(*shape: int) -> Params:
        nonlocal key
        key, draw = jax.random.split(key)
        return {"kernel": 0.02 * jax.random.normal(draw, shape)}

    def norm(size: int = width) -> dict[str, Array]:
        return {"scale": jnp.ones(size)}

    def block() -> Params:
        return {
            "attention_norm": norm(),
            "attention": {name: dense(width, width) for name in ("query", "key", "value", "proj")},
            "mlp_norm": norm(),
            "mlp": {"fc1": dense(width, config.mlp_width), "fc2": dense(config.mlp_width, width)},
        }

    widths = (6, *config.stem_widths)
    stem: Params = {}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(widths), 1):
        stem |= {f"conv{i}": dense(3, 3, fan_in, fan_out), f"norm{i}": norm(fan_out)}
    return {
        **constants(config),
        **({"stem": stem} if stem else {}),
        "patch_embedding": dense(config.patch_size[0] * config.patch_size[1] * widths[-1], width),
        "blocks": jax.tree.map(lambda *leaves: jnp.stack(leaves), *(block() for _ in range(config.depth))),
        "final_norm": norm(),
        "head": dense(width, config.num_classes),
    }
