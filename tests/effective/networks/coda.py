"""CoDA-Net (Böhle, Fritz and Schiele 2021, arXiv 2104.00032): convolutions of dynamic alignment units.

    DAU(x) = w(x)^T x,    w(x) = g(A B x + b),    B to `rank` dimensions,

with g the rescaling L2(u) = u / |u| or the squashing SQ(u) = u / |u| (1 + |u|^-2)^-1, so that |w(x)| <= 1. The logits are sums over places,
divided by a temperature.
"""

import jax
import jax.numpy as jnp
from networks.parts import Draws

LAYERS = [(3, 4, 3, 2), (4, 5, 4, 2)]
"""(channels, units, rank, stride) of 3 x 3 units."""
TEMPERATURE = 4.0


def draw_params():
    draw = Draws(1)
    return [
        {"down": draw(9 * channels, rank), "up": draw(rank, 9 * channels * units), "bias": 0.3 * draw(9 * channels * units)}
        for channels, units, rank, _ in LAYERS
    ]


def windows(x, stride):
    """(h, w, c) to (h', w', 9 c), zeros around the image."""
    h, w, _ = x.shape
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
    return jnp.concatenate([padded[i : i + h : stride, j : j + w : stride] for i in range(3) for j in range(3)], axis=-1)


def squash(u):
    square = jnp.sum(u * u, axis=-1, keepdims=True)
    return u / jnp.sqrt(square) * (square / (1 + square))


def rescale(u):
    return u / jnp.linalg.norm(u, axis=-1, keepdims=True)


def forward(params, image, nonlinearity=squash):
    x = image
    for layer, (_, units, _, stride) in zip(params, LAYERS, strict=True):
        x = windows(x, stride)
        u = x @ layer["down"] @ layer["up"] + layer["bias"][None, None]
        weights = nonlinearity(u.reshape(*x.shape[:2], units, -1))
        x = jnp.einsum("hwud,hwd->hwu", weights, x)
    return jnp.sum(x, axis=(0, 1)) / TEMPERATURE


def forward_rescaled(params, image):
    return forward(params, image, rescale)


def forward_mapped(params, image):
    """The same network, place by place."""
    x = image
    for layer, (_, units, _, stride) in zip(params, LAYERS, strict=True):

        def unit(window, layer=layer, units=units):
            weights = squash((layer["up"].T @ (layer["down"].T @ window) + layer["bias"]).reshape(units, -1))
            return weights @ window

        x = jax.vmap(jax.vmap(unit))(windows(x, stride))
    return jnp.sum(x, axis=(0, 1)) / TEMPERATURE
