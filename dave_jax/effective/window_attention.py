"""Attention within windows of a map, which every second block shifts (Swin, arXiv 2103.14030; V2: 2111.09883), and merging of patches.

Tokens (rows * columns, width) lie row by row. A map is rolled by the shift, filled up with zeros to whole windows and cut into them;
each head of each window is a head of `layers.mixing`. After rolling, a window may hold parts that do not touch in the image: these do not
see each other. As in `layers`, `output = operator(x) + offset`, and values never depend on the decomposition.

Example:
    >>> Windows(size=(5, 4), window=(2, 2), shift=(1, 0)).whole
    (6, 4)
"""

import dataclasses
import math
from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dave_jax.effective import layers
from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.feature_maps import in_turn
from dave_jax.effective.layers import Params, Result, Tokens
from dave_jax.effective.operators import Chain, Operator
from dave_jax.effective.shifts import Extend, Roll
from dave_jax.effective.tokens import Rearrange

APART = -100.0
"""What is added to the score of a key that a query does not see."""

LARGEST_SCALE = math.log(100.0)
"""The logarithm of the most that cosines are multiplied with."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """How a map is cut into windows.

    Attributes:
        size: rows and columns of the map.
        window: of a window.
        shift: by how much the map is rolled first.
    """

    size: tuple[int, int]
    window: tuple[int, int]
    shift: tuple[int, int] = (0, 0)

    @property
    def whole(self) -> tuple[int, int]:
        """Rows and columns of the map that is filled up to whole windows."""
        rows, columns = (-(-size // edge) * edge for size, edge in zip(self.size, self.window, strict=True))
        return rows, columns

    def cut(self, heads: int, head_width: int) -> Rearrange:
        """From a map (h, w, heads * c) of whole windows to (windows * heads, places, c), windows row by row."""
        (rows, columns), (down, across) = self.whole, self.window
        split = (rows // down, down, columns // across, across, heads, head_width)
        heads_of_all = (rows // down) * (columns // across) * heads
        return Rearrange((rows, columns, heads * head_width), split, (0, 2, 4, 1, 3, 5), (heads_of_all, down * across, head_width))

    def apart(self) -> Bool[np.ndarray, "windows places places"]:
        """Which places of a window come from different parts of the map.

        Example:
            >>> Windows((1, 4), (1, 2), (0, 1)).apart()[:, 0].tolist()
            [[False, False], [False, True]]
        """
        parts = []
        for whole, edge, shift in zip(self.whole, self.window, self.shift, strict=True):
            place = np.arange(whole)
            parts.append((place >= whole - edge).astype(int) + (place >= whole - shift) if shift else np.zeros(whole, int))
        (rows, columns), (down, across) = self.whole, self.window
        part = (3 * parts[0][:, None] + parts[1]).reshape(rows // down, down, columns // across, across)
        part = part.transpose(0, 2, 1, 3).reshape(-1, down * across)
        return part[:, :, None] != part[:, None]


def _score_bias(bias: Float[Array, "heads places places"], windows: Windows) -> Float[Array, "heads_of_all places places"]:
    """The bias of every head of every window: relative positions, and what a shift keeps apart."""
    apart = windows.apart() if any(windows.shift) else np.zeros((math.prod(windows.whole) // math.prod(windows.window), 1, 1), bool)
    hidden = jnp.where(jnp.asarray(apart), jnp.asarray(APART, bias.dtype), jnp.asarray(0, bias.dtype))
    every = bias[None] + hidden[:, None]
    return every.reshape(-1, *every.shape[2:])


def to_map(size: tuple[int, int], width: int) -> Rearrange:
    """From tokens to the map that they lie on."""
    tokens = (size[0] * size[1], width)
    return Rearrange(tokens, tokens, (0, 1), (*size, width))


def window_attention(
    params: Params,
    x: Tokens,
    decomposition: Decomposition,
    *,
    windows: Windows,
    num_heads: int,
    bias: Float[Array, "heads places places"],
) -> Result:
    """Multi-head attention of every window for itself: `proj(concat_h softmax(s_h + bias_h) v_h)`.

    The scores are `s = q k^T / sqrt(c)`, or, where `params` has `logit_scale` (one number t for each head), scaled cosines (V2):
    `s = min(exp(t), 100) (q / |q|) (k / |k|)^T`, the lengths being normalisations. Zeros that fill up windows are tokens too: they have the
    biases for keys and values.

    Args:
        params: `query`, `key`, `value`, `proj`; optional `logit_scale`.
        x: the tokens.
        decomposition: the rules.
        windows: how they are cut.
        num_heads: number of heads; divides the width.
        bias: added to the scores of every window.

    Returns:
        Output, of the shape of x, and the operator along the values.
    """
    whole, head_width = windows.whole, x.shape[1] // num_heads
    unfold, cut = to_map(windows.size, x.shape[1]), windows.cut(num_heads, head_width)
    roll, shape = Roll(unfold.out_shape, windows.shift), unfold.out_shape
    into: list[Operator] = [unfold, *([roll] if any(windows.shift) else []), *([Extend(shape, whole)] if whole != windows.size else [])]
    filled = Chain(tuple(into))
    grid = filled(x)
    heads, values = {}, filled
    for name in ("query", "key", "value"):
        projected, values = layers.dense(params[name], grid, decomposition)
        heads[name] = cut(projected)
    query, key = heads["query"], heads["key"]
    if "logit_scale" in params:
        query, key = (layers.unit_norm(side, decomposition)[0] for side in (query, key))
        scale = jnp.exp(jnp.minimum(params["logit_scale"], LARGEST_SCALE)) * math.sqrt(head_width)  # which `mixing` divides by
        query = query * jnp.tile(scale, len(query) // num_heads)[:, None, None]
    mixed, mix = layers.mixing(query, key, heads["value"], decomposition, bias=_score_bias(bias, windows))
    back: Operator = Chain((cut.transpose(), *(link.transpose() for link in reversed(into))))
    y, project = layers.dense(params["proj"], back(mixed), decomposition)
    return y, Chain((filled, values, cut, mix, back, project))


def merge_patches(params: Params, x: Tokens, decomposition: Decomposition, *, size: tuple[int, int], eps: float) -> Result:
    """Two by two patches side by side as one of four times the width, then their norm and a product with weights, in this order.

    Where `params` has `post_norm`, the norm is behind the product (V2). An odd edge is filled up with zeros.
    """
    even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
    rows, columns, width = even[0] // 2, even[1] // 2, x.shape[1]
    unfold = to_map(size, width)
    cut = Rearrange((*even, width), (rows, 2, columns, 2, width), (0, 2, 3, 1, 4), (rows * columns, 4 * width))
    gather = Chain((unfold, *([Extend(unfold.out_shape, even)] if even != size else []), cut))
    y, reduce = gather(x), partial(layers.dense, params["reduction"], decomposition=decomposition)
    if "post_norm" in params:
        y, op = in_turn(y, [reduce, partial(layers.norm, params["post_norm"], decomposition=decomposition, eps=eps)])
    else:
        y, op = in_turn(y, [partial(layers.norm, params["norm"], decomposition=decomposition, eps=eps), reduce])
    return y, op @ gather
