"""MLP-Mixer (Tolstikhin et al. 2021, arXiv 2105.01601): perceptrons over tokens and over channels by turns."""

import jax
import jax.numpy as jnp
from networks.parts import Draws, dense, layer_norm, mlp, patches


def draw_params():
    draw = Draws(6)

    def perceptron(width, hidden):
        return {"fc1": draw.dense(width, hidden), "fc2": draw.dense(hidden, width)}

    block = lambda: {"norm1": draw.norm(8), "tokens": perceptron(16, 12), "norm2": draw.norm(8), "channels": perceptron(8, 16)}
    blocks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(block() for _ in range(3)))
    return {"patch": draw.dense(48, 8), "blocks": blocks, "norm": draw.norm(8), "head": draw.dense(8, 5)}


def mixer_block(x, params):
    x = x + mlp(params["tokens"], layer_norm(params["norm1"], x).T).T
    return x + mlp(params["channels"], layer_norm(params["norm2"], x)), None


def forward(params, image):
    x, _ = jax.lax.scan(mixer_block, dense(params["patch"], patches(image, 4)), params["blocks"])
    return dense(params["head"], layer_norm(params["norm"], x).mean(0))
