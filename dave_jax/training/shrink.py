"""A small vision transformer from a large one, in closed form: fewer blocks, narrower MLPs, and a head by ridge regression.

What remains to be trained starts from what the large one knows: early blocks hold most of what is visible in the mean of the patches, and
an MLP of half the width, its output layer refitted by least squares, keeps about 95 % of the output's variance.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from dave_jax.effective import layers
from dave_jax.effective.decomposition import gradient
from dave_jax.models.vit import ViT
from dave_jax.models.vit_config import ViTConfig
from dave_jax.models.vit_positions import attention_positions, resampled

Params = dict[str, Any]
Images = Float[Array, "b h w 3"]


def keep_first_blocks(params: Params, config: ViTConfig, *, depth: int, num_classes: int) -> tuple[Params, ViTConfig]:
    """The first `depth` blocks, pooled by the average of the patches (a class token is filled in later blocks only); a head of zeros."""
    config = dataclasses.replace(config, depth=depth, num_classes=num_classes, pooling="avg", final_norm="pooled")
    blocks = jax.tree.map(lambda leaf: leaf[:depth], params["blocks"])
    head = {"kernel": jnp.zeros((config.width, num_classes)), "bias": jnp.zeros(num_classes)}
    return dict(params) | {"blocks": blocks, "head": head}, config


def at_image_size(params: Params, config: ViTConfig, image_size: int) -> tuple[Params, ViTConfig]:
    """Parameters and configuration for square images of another size."""
    old_grid, config = config.grid, dataclasses.replace(config, image_size=(image_size, image_size))
    return resampled(params, config, old_grid), config


def narrow_mlps(params: Params, config: ViTConfig, images: Images, *, mlp_width: int, ridge: float = 1e-3) -> tuple[Params, ViTConfig]:
    """Keep the `mlp_width` hidden units of every plain MLP that carry most, and refit its output layer to the full MLP's output.

    Unit j counts `var(a_j) |w_j|^2` over the tokens of `images`. With the kept activations a and the full output y, both centred, the new
    kernel is `(a^T a + ridge)^-1 a^T y`. Blocks are done in order, each on the output of those already narrowed.

    Args:
        params: of a network with plain MLPs.
        config: its configuration.
        images: some hundred normalised images.
        mlp_width: units to keep.
        ridge: as a share of the mean variance of a unit.
    """

    def embed(image):
        return ViT(config).embed(params, image, gradient)[0]

    @jax.jit
    @jax.vmap
    def branch_outputs(tokens, block):
        """Tokens after the attention branch, and the MLP's activations."""
        normed, _ = layers.norm(block["attention_norm"], tokens, gradient, eps=config.eps)
        attention, options = block["attention"], {"num_heads": config.num_heads, "eps": config.eps}
        mixed, _ = layers.attention(attention, normed, gradient, **options, **attention_positions(attention, config, normed.dtype))
        tokens = tokens + layers.layer_scale(block["attention_scale"], mixed)[0] if config.layer_scale else tokens + mixed
        normed, _ = layers.norm(block["mlp_norm"], tokens, gradient, eps=config.eps)
        hidden, _ = layers.dense(block["mlp"]["fc1"], normed, gradient)
        return tokens, layers.activation(hidden, gradient, name=config.activation)[0]

    tokens = jax.jit(jax.vmap(embed))(images)
    blocks = []
    for index in range(config.depth):
        block = jax.tree.map(lambda leaf, index=index: np.asarray(leaf[index]), params["blocks"])
        repeated = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(images), *leaf.shape)), block)
        tokens, activations = branch_outputs(tokens, repeated)
        units = np.asarray(activations).reshape(-1, config.mlp_width)
        mlp = narrow_mlp(block["mlp"], units, mlp_width, ridge)
        output = units[:, mlp.kept] @ mlp.params["fc2"]["kernel"] + mlp.params["fc2"]["bias"]
        scale = block["mlp_scale"]["scale"] if config.layer_scale else np.ones(1, np.float32)
        tokens = tokens + jnp.asarray(output * scale[None]).reshape(tokens.shape)
        blocks.append(block | {"mlp": mlp.params})
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *blocks)
    return dict(params) | {"blocks": stacked}, dataclasses.replace(config, mlp_width=mlp_width)


@dataclasses.dataclass(frozen=True)
class NarrowMlp:
    """A narrowed MLP's parameters and the units that it kept."""

    params: Params
    kept: Integer[np.ndarray, " kept"]


def narrow_mlp(mlp: Params, units: Float[np.ndarray, "tokens units"], width: int, ridge: float) -> NarrowMlp:
    """One MLP; see `narrow_mlps`."""
    kernel, bias = mlp["fc2"]["kernel"], mlp["fc2"]["bias"]
    mean = units.mean(axis=0)
    covariance = (units - mean).T @ (units - mean) / len(units)
    kept = np.sort(np.argsort(-np.diag(covariance) * (kernel**2).sum(axis=1))[:width])
    damped = covariance[np.ix_(kept, kept)] + ridge * np.diag(covariance).mean() * np.eye(width)
    fitted = np.linalg.solve(damped, covariance[kept] @ kernel).astype(np.float32)
    fc1 = {"kernel": mlp["fc1"]["kernel"][:, kept], "bias": mlp["fc1"]["bias"][kept]}
    return NarrowMlp({"fc1": fc1, "fc2": {"kernel": fitted, "bias": bias + mean @ kernel - mean[kept] @ fitted}}, kept)


def fit_head(params: Params, config: ViTConfig, images: Images, labels: Integer[np.ndarray, " b"], *, ridge: float = 300.0) -> Params:
    """The parameters with a head fitted to the frozen features by ridge regression, so that training does not begin by undoing them.

    Targets are one-hot less their mean, times 8: logits of the size that cross-entropy leads to.
    """
    features = jax.jit(jax.vmap(ViT(dataclasses.replace(config, num_classes=0)), (None, 0)))
    x = np.concatenate([np.asarray(features(params, images[i : i + 50])) for i in range(0, len(images), 50)])
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    x = (x - mean) / deviation
    targets = 8.0 * (np.eye(config.num_classes)[labels] - 1.0 / config.num_classes)
    kernel = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ targets) / deviation[:, None]
    head = {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(-mean @ kernel, jnp.float32)}
    return dict(params) | {"head": head}
