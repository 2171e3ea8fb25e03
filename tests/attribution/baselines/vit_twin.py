"""A second vision transformer, written out head by head, with explicit attention matrices to differentiate: what the baselines are tested
against. It knows class and register tokens, the four poolings and plain blocks (LayerNorm, GELU, biases)."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.vit import ViT
from dave_jax.models.vit_config import ViTConfig, init_params

CASES: dict[str, dict[str, Any]] = {
    "class": {"num_registers": 1},
    "average": {"pooling": "avg", "final_norm": "pooled", "class_token": False},
    "map": {"pooling": "map"},
    "both": {"pooling": "token_and_mean", "num_registers": 1},
}
TARGETS = [3, 1]


def random_model(dtype: Any = np.float64, **options) -> Model:
    """`tiny_model` without its compilations: parameters drawn by NumPy, in any precision."""
    options = {
        "image_size": (16, 16),
        "patch_size": (4, 4),
        "width": 16,
        "depth": 2,
        "num_heads": 2,
        "mlp_width": 32,
        "num_classes": 5,
    } | options
    config, draw = ViTConfig(**options), np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: init_params(key, config), jax.random.key(0))

    def leaf(path, shape):
        centre = 1.0 if path[-1].key == "scale" else 0.0
        return (centre + 0.15 * draw.standard_normal(shape.shape)).astype(dtype)

    params = jax.tree_util.tree_map_with_path(leaf, shapes)
    return Model(params, ViT(config), preprocessing=Preprocessing(image_size=config.image_size))


def random_image(dtype: Any = np.float64, *shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape or (16, 16, 3)).astype(dtype)


def dense(p, x):
    return x @ p["kernel"] + p["bias"][None]


def norm(p, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * p["scale"][None] + p["bias"][None]


def attention(p, asking, x, heads, delta):
    """The branch's output and the matrices; `delta` is added to them."""
    width = p["query"]["kernel"].shape[1] // heads
    outputs, matrices = [], []
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        q, k, v = dense(p["query"], asking)[:, part], dense(p["key"], x)[:, part], dense(p["value"], x)[:, part]
        a = jax.nn.softmax(q @ k.T / math.sqrt(width), axis=-1)
        matrices.append(a)
        outputs.append((a + delta[h]) @ v)
    return dense(p["proj"], jnp.concatenate(outputs, axis=1)), jnp.stack(matrices)


def mlp(p, x):
    x = dense(p["fc1"], x)
    return dense(p["fc2"], x * 0.5 * (1 + jax.scipy.special.erf(x / math.sqrt(2))))


def block(p, x, heads, delta, change=0.0):
    """The tokens after a block, its matrices, and the first norm's output, to which `change` is added."""
    y = norm(p["attention_norm"], x) + change
    branch, matrices = attention(p["attention"], y, y, heads, delta)
    x = x + branch
    return x + mlp(p["mlp"], norm(p["mlp_norm"], x)), matrices, y


def head(params, config, x, delta):
    x = norm(params["final_norm"], x) if config.final_norm == "tokens" else x
    patches, matrices = x[config.num_prefix :], None
    if config.pooling == "token":
        pooled = x[:1]
    elif config.pooling == "avg":
        pooled = patches.mean(0, keepdims=True)
    elif config.pooling == "token_and_mean":
        pooled = jnp.concatenate([x[:1], patches.mean(0, keepdims=True)], axis=1)
    else:
        p = params["pool"]
        y, matrices = attention(p["attention"], p["latent"], patches, config.num_heads, delta)
        pooled = y + mlp(p["mlp"], norm(p["mlp_norm"], y))
    pooled = norm(params["final_norm"], pooled) if config.final_norm == "pooled" else pooled
    return dense(params["head"], pooled)[0], matrices


def embed(params, config, image):
    rows, columns = config.grid
    high, wide = config.patch_size
    cells = [image[r * high : (r + 1) * high, c * wide : (c + 1) * wide].ravel() for r in range(rows) for c in range(columns)]
    x = dense(params["patch_embedding"], jnp.stack(cells))
    prefix = [params[name] for name in ("class_token", "register_tokens") if name in params]
    return jnp.concatenate([*prefix, x]) + params["position_embedding"]


def layer(params, index):
    return jax.tree.map(lambda leaf: leaf[index], params["blocks"])


def run(params, config, image, deltas, pool_delta, changes):
    """Logits, tokens before each block and after the last, matrices, first norms' outputs, the pool's matrix."""
    x, tokens, matrices, normed = embed(params, config, image), [], [], []
    for index in range(config.depth):
        tokens.append(x)
        x, a, y = block(layer(params, index), x, config.num_heads, deltas[index], changes[index])
        matrices.append(a)
        normed.append(y)
    logits, pool = head(params, config, x, pool_delta)
    return logits, (jnp.stack([*tokens, x]), jnp.stack(matrices), jnp.stack(normed), pool)


@functools.cache
def twin(case: str) -> dict[str, Any]:
    """Everything that the methods are made of, in double precision, for one image and the logits of TARGETS."""
    with jax.enable_x64(True):
        model = random_model(**CASES[case])
        config, params = model.forward.config, model.params
        image = random_image()
        count = config.num_prefix + 16
        zeros = np.zeros((config.depth, config.num_heads, count, count))
        pool_zeros = np.zeros((config.num_heads, 1, 16))

        @jax.jit
        def compute(params, image):
            def everything(deltas, pool_delta, changes):
                logits, inside = run(params, config, image, deltas, pool_delta, changes)
                return logits[jnp.array(TARGETS)], (logits, *inside)

            start = zeros, pool_zeros, np.zeros((config.depth, count, config.width))
            slopes, (logits, tokens, matrices, normed, pool) = jax.jacrev(everything, (0, 1, 2), has_aux=True)(*start)

            def own(delta, p, x, average):
                x = block(p, x, config.num_heads, delta)[0]
                x = jnp.where(average, jnp.broadcast_to(x.mean(0, keepdims=True), x.shape), x)
                return head(params, config, x, pool_zeros)[0][jnp.array(TARGETS)]

            def from_pool(delta, x):
                return head(params, config, x, delta)[0][jnp.array(TARGETS)]

            if config.pooling == "map":
                own_slopes = {"own_pool_dA": jax.vmap(jax.jacrev(from_pool), (None, 0))(pool_zeros, tokens[1:])}
            else:
                each = jax.vmap(jax.vmap(jax.jacrev(own), (0, 0, 0, None)), (None, None, None, 0))
                own_dA, average_dA = each(zeros, params["blocks"], tokens[:-1], jnp.array([False, True]))
                own_slopes = {"own_dA": own_dA, "average_dA": average_dA}
            names = ("logits", "tokens", "A", "y", "pool_A", "dA", "pool_dA", "dy")
            return dict(zip(names, (logits, tokens, matrices, normed, pool, *slopes), strict=True)) | own_slopes

        values = jax.tree.map(np.asarray, compute(params, image))
        return values | {"model": model, "image": image, "config": config}


def relation(case: str, method) -> np.ndarray:
    """The method's raw maps of the twin's image, one value a patch; `method` fills patches (`upsampling="nearest"`)."""
    values = twin(case)
    with jax.enable_x64(True):
        maps = np.asarray(method(values["model"], values["image"][None], [TARGETS], raw=True))[0]
    assert maps.shape == (len(TARGETS), 16, 16)
    cells = maps.reshape(len(TARGETS), 4, 4, 4, 4)
    np.testing.assert_array_equal(cells, np.broadcast_to(cells[:, :, :1, :, :1], cells.shape))
    return cells[:, :, 0, :, 0].reshape(len(TARGETS), 16)


def patches_of_product(case: str, matrices, pool, *, normalise: bool) -> np.ndarray:
    """`(I + F_L) ... (I + F_1)`, less its part without any F, from the classified token to the patches; explicit matrices, one target."""
    config = twin(case)["config"]
    count = len(matrices[0])
    product, still = np.eye(count), np.eye(count)
    for fused in matrices:
        step = np.eye(count) + fused
        sums = step.sum(1) if normalise else np.ones(count)
        product, still = step / sums[:, None] @ product, np.diag(1 / sums) @ still
    if config.pooling == "map":
        return (np.concatenate([np.zeros(config.num_prefix), pool[0]]) @ product)[-16:]
    moved = product - still
    mean = moved[config.num_prefix :].mean(0)
    return {"token": moved[0], "avg": mean, "token_and_mean": (moved[0] + mean) / 2}[config.pooling][-16:]
