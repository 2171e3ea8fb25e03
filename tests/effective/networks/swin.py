"""Swin (Liu et al. 2021, arXiv 2103.14030): attention within shifted windows, relative position bias, patch merging."""

import jax
import jax.numpy as jnp
import numpy as np
from networks.parts import Draws, dense, layer_norm, mlp, patches

WINDOW, HEADS, WIDTH = 4, 2, 8


def draw_params():
    draw = Draws(5)

    def stage(width, depth):
        return [draw.block(width, 2 * width) | {"table": draw((2 * WINDOW - 1) ** 2, HEADS)} for _ in range(depth)]

    return {
        "patch": draw.dense(12, WIDTH),
        "norm_patch": draw.norm(WIDTH),
        "stages": [stage(WIDTH, 2), stage(2 * WIDTH, 1)],
        "merge": {"norm": draw.norm(4 * WIDTH), "kernel": draw(4 * WIDTH, 2 * WIDTH)},
        "norm": draw.norm(2 * WIDTH),
        "head": draw.dense(2 * WIDTH, 5),
    }


def to_windows(x):
    """(h, w, c) to (windows, tokens, c)."""
    h, w, c = x.shape
    return x.reshape(h // WINDOW, WINDOW, w // WINDOW, WINDOW, c).swapaxes(1, 2).reshape(-1, WINDOW**2, c)


def from_windows(x, shape):
    h, w, c = shape
    return x.reshape(h // WINDOW, w // WINDOW, WINDOW, WINDOW, c).swapaxes(1, 2).reshape(shape)


def relative_index():
    """Of the table's rows: which one belongs to a query and a key."""
    place = np.stack(np.meshgrid(np.arange(WINDOW), np.arange(WINDOW), indexing="ij"), -1).reshape(-1, 2)
    apart = place[:, None] - place[None] + WINDOW - 1
    return (apart[..., 0] * (2 * WINDOW - 1) + apart[..., 1]).astype(np.int32)


def same_region(size, shift):
    """(windows, tokens, tokens): whether both lay side by side before the shift."""
    band = np.repeat([0, 1, 2], [size - WINDOW, WINDOW - shift, shift])
    region = to_windows(3 * band[:, None, None] + band[None, :, None])[..., 0]
    return region[:, :, None] == region[:, None, :]


def window_attention(params, x, mask):
    windows, tokens, _ = x.shape
    query, key, value = (
        dense(params[name], x).reshape(windows, tokens, HEADS, -1).transpose(0, 2, 1, 3) for name in ("query", "key", "value")
    )
    scores = query * query.shape[-1] ** -0.5 @ key.swapaxes(-1, -2) + params["table"][relative_index()].transpose(2, 0, 1)[None]
    if mask is not None:
        scores = scores + jnp.where(mask, 0.0, -100.0)[:, None]
    mixed = jax.nn.softmax(scores, axis=-1) @ value
    return dense(params["proj"], mixed.transpose(0, 2, 1, 3).reshape(x.shape))


def swin_block(params, x, shift):
    y = jnp.roll(layer_norm(params["norm1"], x), (-shift, -shift), (0, 1))
    y = from_windows(window_attention(params, to_windows(y), same_region(len(x), shift) if shift else None), x.shape)
    x = x + jnp.roll(y, (shift, shift), (0, 1))
    return x + mlp(params, layer_norm(params["norm2"], x))


def patch_merging(params, x):
    x = jnp.concatenate([x[i::2, j::2] for j in (0, 1) for i in (0, 1)], axis=-1)
    return layer_norm(params["norm"], x) @ params["kernel"]


def forward(params, image):
    x = layer_norm(params["norm_patch"], dense(params["patch"], patches(image, 2))).reshape(8, 8, WIDTH)
    for i, stage in enumerate(params["stages"]):
        if i:
            x = patch_merging(params["merge"], x)
        for j, one in enumerate(stage):
            x = swin_block(one, x, shift=WINDOW // 2 if j and len(x) > WINDOW else 0)
    return dense(params["head"], layer_norm(params["norm"], x).mean((0, 1)))
