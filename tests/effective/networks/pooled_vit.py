"""Vision transformers with registers (arXiv 2309.16588) and attention pooling (the MAP head of arXiv 2106.04560), or with rotary positions
in two dimensions (arXiv 2403.13298) and the mean over tokens."""

import jax.numpy as jnp
from networks.parts import Draws, attend, block, dense, layer_norm, merge, mlp, patches, split

WIDTH, REGISTERS = 8, 2


def draw_params():
    draw = Draws(7)
    return {
        "patch": draw.dense(48, WIDTH),
        "position": 0.3 * draw(16, WIDTH),
        "registers": draw(REGISTERS, WIDTH),
        "blocks": [draw.block(WIDTH, 16) for _ in range(2)],
        "norm": draw.norm(WIDTH),
        "probe": draw(1, WIDTH),
        "pool": draw.block(WIDTH, 16),
        "head": draw.dense(WIDTH, 5),
    }


def forward(params, image):
    x = dense(params["patch"], patches(image, 4)) + params["position"]
    x = jnp.concatenate([params["registers"], x])
    for one in params["blocks"]:
        x = block(one, x)
    return dense(params["head"], attention_pooling(params["pool"], params["probe"], layer_norm(params["norm"], x[REGISTERS:])))


def attention_pooling(params, probe, x):
    query = split(dense(params["query"], probe), 2)
    key, value = (split(dense(params[name], x), 2) for name in ("key", "value"))
    y = dense(params["proj"], merge(attend(query, key, value)))
    return (y + mlp(params, layer_norm(params["norm1"], y)))[0]


def rotate(x):
    """(heads, tokens, c): half of the channels turned by the row, half by the column; neighbours are pairs."""
    heads, tokens, c = x.shape
    side = round(tokens**0.5)
    frequency = 10.0 ** -jnp.arange(c // 4, dtype=x.dtype)
    row, column = jnp.meshgrid(jnp.arange(side, dtype=x.dtype), jnp.arange(side, dtype=x.dtype), indexing="ij")
    angle = jnp.concatenate([row.reshape(-1, 1) * frequency[None], column.reshape(-1, 1) * frequency[None]], axis=-1)
    cosine, sine = jnp.cos(angle)[None], jnp.sin(angle)[None]
    even, odd = x[..., ::2], x[..., 1::2]
    return jnp.stack([even * cosine - odd * sine, even * sine + odd * cosine], axis=-1).reshape(heads, tokens, c)


def forward_rotary(params, image):
    x = dense(params["patch"], patches(image, 4))
    for one in params["blocks"]:
        x = block(one, x, rotate=rotate)
    return dense(params["head"], layer_norm(params["norm"], x).mean(0))
