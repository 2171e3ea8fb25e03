"""A B-cos network (Böhle, Fritz and Schiele 2022, arXiv 2205.10268), B = 2, with MaxOut.

    B-cos(x; w) = |cos(x, w)|^(B - 1) w^T x / |w|,    cos(x, w) = w^T x / (|w| |x|),

in convolutions whose |x| is that of a window; an image is encoded as its six channels [x, 1 - x].
"""

import jax
import jax.numpy as jnp
from networks.parts import Draws

LAYERS = [(6, 8, 3, 2), (8, 8, 3, 2), (8, 5, 1, 1)]
"""(channels, filters, size, stride); every two filters are one unit of MaxOut, but for the last layer."""
NAMES = ("NHWC", "HWIO", "NHWC")


def draw_params():
    draw = Draws(2)
    return {
        "kernels": [draw(size, size, channels, filters * (1 + (i < 2))) for i, (channels, filters, size, _) in enumerate(LAYERS)],
        "logit_bias": draw(5),
    }


def convolve(x, kernel, stride):
    return jax.lax.conv_general_dilated(x[None], kernel, (stride, stride), "SAME", dimension_numbers=NAMES)[0]


def b_cos(kernel, x, stride, pairs):
    kernel = kernel / jnp.sqrt(jnp.sum(kernel**2, axis=(0, 1, 2), keepdims=True))
    y = convolve(x, kernel, stride)
    if pairs:
        y = jnp.max(y.reshape(*y.shape[:2], -1, 2), axis=-1)
    size = jnp.sqrt(convolve(jnp.sum(x**2, axis=-1, keepdims=True), jnp.ones((*kernel.shape[:2], 1, 1), x.dtype), stride) + 1e-6)
    return y * jnp.abs(y / size)


def forward(params, image):
    x = jnp.concatenate([image, 1 - image], axis=-1)
    for i, (kernel, (_, _, _, stride)) in enumerate(zip(params["kernels"], LAYERS, strict=True)):
        x = b_cos(kernel, x, stride, pairs=i < 2)
    return jnp.mean(x, axis=(0, 1)) + params["logit_bias"]
