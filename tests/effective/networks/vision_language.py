"""A causal vision-language model: patches of an image projected into a decoder, before the words of a prompt; the next token's logits.

The decoder is that of Llama and its like: RMSNorm (arXiv 1910.07467), rotary positions (arXiv 2104.09864), grouped-query attention
(arXiv 2305.13245), SwiGLU (arXiv 2002.05202), and the embedding of the words again for the logits.
"""

import jax
import jax.numpy as jnp
import numpy as np
from networks.parts import Draws, block, dense, layer_norm, merge, patches, split

WIDTH, HEADS, KEY_HEADS, WORDS = 16, 4, 2, 7
PROMPT = np.array([2, 5, 1], np.int32)


def draw_params():
    draw = Draws(4)
    vision = {"patch": draw.dense(48, 8), "position": 0.3 * draw(16, 8), "block": draw.block(8, 16), "norm": draw.norm(8)}
    projector = {"fc1": draw.dense(8, WIDTH), "fc2": draw.dense(WIDTH, WIDTH)}
    layer = lambda: {
        "norm1": draw.positive(WIDTH),
        "norm2": draw.positive(WIDTH),
        "query": draw(WIDTH, WIDTH),
        "key": draw(WIDTH, WIDTH * KEY_HEADS // HEADS),
        "value": draw(WIDTH, WIDTH * KEY_HEADS // HEADS),
        "proj": draw(WIDTH, WIDTH),
        "gate": draw(WIDTH, 24),
        "up": draw(WIDTH, 24),
        "down": draw(24, WIDTH),
    }
    layers = jax.tree.map(lambda *leaves: jnp.stack(leaves), layer(), layer())
    return {"vision": vision, "projector": projector, "layers": layers, "norm": draw.positive(WIDTH), "words": draw(WORDS, WIDTH)}


def rms_norm(scale, x):
    return x / jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * jnp.expand_dims(scale, range(x.ndim - 1))


def rotate(x):
    """(heads, tokens, c): pairs (i, i + c / 2) turned by the position times a frequency."""
    half = x.shape[-1] // 2
    angle = jnp.arange(x.shape[1], dtype=x.dtype)[:, None] * 100.0 ** (-jnp.arange(half, dtype=x.dtype)[None] / half)
    cosine, sine = jnp.cos(angle)[None], jnp.sin(angle)[None]
    return jnp.concatenate([x[..., :half] * cosine - x[..., half:] * sine, x[..., half:] * cosine + x[..., :half] * sine], axis=-1)


def attention(layer, x):
    query, key, value = split(x @ layer["query"], HEADS), split(x @ layer["key"], KEY_HEADS), split(x @ layer["value"], KEY_HEADS)
    query, key = rotate(query), rotate(key)
    grouped = query.reshape(KEY_HEADS, HEADS // KEY_HEADS, *query.shape[1:])
    scores = jnp.einsum("kgqc,ktc->kgqt", grouped, key) / query.shape[-1] ** 0.5
    causal = jnp.tril(jnp.ones((len(x), len(x)), bool))[None, None]
    weights = jax.nn.softmax(jnp.where(causal, scores, jnp.finfo(x.dtype).min), axis=-1)
    return merge(jnp.einsum("kgqt,ktc->kgqc", weights, value).reshape(query.shape)) @ layer["proj"]


def decoder_layer(x, layer):
    x = x + attention(layer, rms_norm(layer["norm1"], x))
    y = rms_norm(layer["norm2"], x)
    return x + (jax.nn.silu(y @ layer["gate"]) * (y @ layer["up"])) @ layer["down"]


def forward(params, image):
    """The logits of the token after the prompt."""
    vision = params["vision"]
    x = layer_norm(vision["norm"], block(vision["block"], dense(vision["patch"], patches(image, 4)) + vision["position"]))
    x = dense(params["projector"]["fc2"], jax.nn.gelu(dense(params["projector"]["fc1"], x)))
    x = jnp.concatenate([x, params["words"][PROMPT]])
    x, _ = jax.lax.scan(lambda x, layer: (decoder_layer(x, layer), None), x, params["layers"])
    return params["words"] @ rms_norm(params["norm"], x)[-1]
