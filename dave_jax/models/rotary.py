"""Rotary position embedding on a grid of patches: by which angles queries and keys are turned.

A head's c channels make c / 2 pairs. Of the first axis' coordinate u and the second's v, in the order that `Rotary.order` says,

    axial      angles = (u w_0, ..., u w_(c/4-1), v w_0, ..., v w_(c/4-1)),   w_k = temperature^(-4 k / c)
    learned    angles = u f_0 + v f_1,   f (2, c / 2) a parameter of every block and head (RoPE-Mixed, arXiv 2403.13298)

Tokens in front of the patches are not turned.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.effective.rotation import Rotation
from dave_jax.models.config_checks import problems_of


@dataclasses.dataclass(frozen=True)
class Rotary:
    """How a grid's places become angles.

    Attributes:
        frequencies: `axial` or `learned`; see the module.
        temperature: of the axial frequencies; of the learned ones at the start.
        coordinates: `index`, rows and columns counted from 0 (EVA-02, arXiv 2303.11331), or `centred`, the patches' centres on the
            image, which goes from -1 to 1, times 2 pi (DINOv3, arXiv 2508.10104).
        offset: added to the count.
        reference: rows and columns that indices are stretched to, so that the angles span the same at every image size; None leaves them.
        order: which axis is the first: `yx` or `xy`.
        pairs: which channels turn together: `adjacent` (2k and 2k + 1) or `halves` (k and k + c / 2).
    """

    frequencies: str = "axial"
    temperature: float = 10000.0
    coordinates: str = "index"
    offset: float = 0.0
    reference: tuple[int, int] | None = None
    order: str = "yx"
    pairs: str = "adjacent"

    def __post_init__(self):
        choices = {"frequencies": ("axial", "learned"), "coordinates": ("index", "centred")}
        choices |= {"order": ("yx", "xy"), "pairs": ("adjacent", "halves")}
        problems = problems_of(self, least={}, allowed=choices, positive=("temperature",))
        if not math.isfinite(self.offset):
            problems.append(f"offset must be finite; got {self.offset}")
        if self.reference is not None and not (len(self.reference) == 2 and min(self.reference) >= 1):
            problems.append(f"reference is (rows, columns), both at least 1, or None; got {self.reference}")
        if problems:
            raise ValueError("This is no rotary position embedding: " + "; ".join(problems) + ".")


def coordinates(rotary: Rotary, grid: tuple[int, int]) -> Float[np.ndarray, "patches 2"]:
    """The coordinates of the patches, row by row.

    Example:
        >>> coordinates(Rotary(order="xy"), (1, 3)).tolist()
        [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]
        >>> (coordinates(Rotary(coordinates="centred"), (1, 2)) / np.pi).tolist()
        [[0.0, -1.0], [0.0, 1.0]]
    """
    axes = []
    for size, reference in zip(grid, rotary.reference or grid, strict=True):
        if rotary.coordinates == "index":
            axes.append((np.arange(size) + rotary.offset) * (reference / size))
        else:
            axes.append(2 * np.pi * (2 * (np.arange(size) + 0.5 + rotary.offset) / size - 1))
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    return places if rotary.order == "yx" else places[:, ::-1]


def axial_frequencies(rotary: Rotary, head_width: int) -> Float[np.ndarray, " quarter"]:
    """`temperature^(-4 k / c)` for k below c / 4."""
    return rotary.temperature ** -(np.arange(head_width // 4) / (head_width // 4))


def rotation(
    rotary: Rotary,
    grid: tuple[int, int],
    *,
    num_prefix: int,
    num_heads: int,
    head_width: int,
    frequencies: Float[Array, "2 heads pairs"] | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Rotation:
    """The operator on queries or keys (heads, prefix and patches, c).

    Args:
        rotary: how places become angles.
        grid: rows and columns of patches.
        num_prefix: tokens in front, which are not turned.
        num_heads: number of heads.
        head_width: c, a multiple of 4.
        frequencies: the learned ones of a block.
        dtype: of the operator.

    Example:
        >>> rotation(Rotary(), (2, 2), num_prefix=1, num_heads=3, head_width=8).cos.shape
        (1, 5, 4)
    """
    places = coordinates(rotary, grid)
    if frequencies is None:
        fixed = axial_frequencies(rotary, head_width)
        angles = (places[:, :, None] * fixed).reshape(1, len(places), -1)
        cos, sin = (jnp.asarray(part, dtype) for part in (np.cos(angles), np.sin(angles)))
    else:
        u, v = jnp.asarray(places.T, frequencies.dtype)[:, None, :, None]
        angles = u * frequencies[0][:, None] + v * frequencies[1][:, None]
        cos, sin = jnp.cos(angles), jnp.sin(angles)
    front = ((0, 0), (num_prefix, 0), (0, 0))
    shape = (num_heads, num_prefix + len(places), head_width)
    return Rotation(jnp.pad(cos, front, constant_values=1), jnp.pad(sin, front), shape, rotary.pairs)


def init_frequencies(key: PRNGKeyArray, rotary: Rotary, num_heads: int, head_width: int) -> Float[Array, "2 heads pairs"]:
    """Learned frequencies to start from: the axial ones, the two axes of every head turned by a random angle."""
    angle = jax.random.uniform(key, (num_heads, 1), maxval=2 * jnp.pi)
    size = jnp.asarray(axial_frequencies(rotary, head_width), angle.dtype)[None]
    towards = [jnp.concatenate([size * turn(angle), size * turn(angle + jnp.pi / 2)], axis=1) for turn in (jnp.cos, jnp.sin)]
    return jnp.stack(towards)
