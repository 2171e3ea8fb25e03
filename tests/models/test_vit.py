"""The vision transformer against a slow one in NumPy, without scan, operators or heads as an axis; and what its configuration refuses."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from place_twins import entry, turned

from convert_weights.table import flatten
from dave_jax.effective import layers
from dave_jax.effective.decomposition import gradient, presets
from dave_jax.models.rotary import Rotary
from dave_jax.models.vit import ViT
from dave_jax.models.vit_config import ViTConfig, init_params
from dave_jax.testing import tiny_model

OPTIONS = [
    {},
    {"layer_scale": True, "num_registers": 2, "position_on_prefix": False, "activation": "quick_gelu"},
    {"pooling": "avg", "final_norm": "pooled", "class_token": False, "patch_size": (4, 8), "image_size": (16, 24)},
    {"pooling": "avg", "pool_prefix": True, "num_classes": 0, "activation": "gelu_tanh"},
    {"pooling": "map", "num_registers": 1, "final_norm": "none", "activation": "relu"},
    {"pooling": "token_and_mean", "num_registers": 1, "layer_scale": True, "num_classes": 4},
    {"pooling": "token_and_mean", "num_registers": 1, "pooled_blocks": 2, "depth": 3},
    {"pooled_blocks": 2, "final_norm": "none", "image_size": (18, 23), "overhang": True},
    {"stem_widths": (4, 4, 6), "eps": 1e-3, "activation": "silu"},
    {"distillation_token": True, "pre_norm": True, "patch_bias": False, "qkv_bias": False, "proj_bias": False},
    {"norm": "rms_norm", "gated_mlp": True, "activation": "silu", "query_key_norm": True, "attention_norm": True, "mlp_norm": True},
    {
        "patch_norm": True,
        "eps": 0.1,
        "patch_norm_eps": 0.3,
        "projection": 6,
        "projection_bias": True,
        "unit_features": True,
        "head_bias": False,
    },
    {"rotary": Rotary(temperature=20.0, reference=(3, 5), order="xy"), "position_embedding": False, "key_bias": False, "num_registers": 2}
    | {"pooling": "map", "pool_prefix": True, "pool_num_heads": 4, "pool_mlp_width": 12},
    {"rotary": Rotary("learned", offset=1.0), "relative_position": True, "post_norm": True, "layer_scale": True, "mlp_layer_scale": False},
]

ACTIVATIONS = {
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
}


def slow_vit(params, image, config):
    """One token, one head, one block after the other."""
    phi = ACTIVATIONS[config.activation]

    def dense(p, x):
        return x @ p["kernel"] + p.get("bias", 0)

    def norm(p, x, eps=config.eps):
        if config.norm == "layer_norm":
            return p["scale"] * (x - x.mean()) / np.sqrt(x.var() + eps) + p["bias"]
        return p["scale"] * x / np.sqrt((x**2).mean() + eps)

    def maybe_norm(p, name, x):
        return norm(p[name], x) if name in p else x

    def turn(p, head, vector, number):
        if not config.rotary or p is params.get("pool", {}).get("attention"):
            return vector
        frequencies = p["frequencies"][:, head] if "frequencies" in p else None
        return turned(config.rotary, config.grid, config.num_prefix, vector, number, frequencies)

    def attend(p, asking, tokens, num_heads=config.num_heads):
        outputs = []
        for number, token in enumerate(asking):
            heads = []
            for head in range(num_heads):
                part = slice(head * config.width // num_heads, (head + 1) * config.width // num_heads)
                query = turn(p, head, maybe_norm(p, "query_norm", dense(p["query"], token)[part]), number)
                keys = [turn(p, head, maybe_norm(p, "key_norm", dense(p["key"], other)[part]), j) for j, other in enumerate(tokens)]
                scores = [query @ key / math.sqrt(len(query)) for key in keys]
                if "relative_position" in p:
                    scores = [score + p["relative_position"][entry(config.grid, number, j), head] for j, score in enumerate(scores)]
                weights = np.exp(scores)
                heads.append(sum(w * dense(p["value"], other)[part] for w, other in zip(weights, tokens, strict=True)) / weights.sum())
            outputs.append(dense(p["proj"], maybe_norm(p, "norm", np.concatenate(heads))))
        return outputs

    def mlp(p, x):
        hidden = phi(dense(p["gate"], x)) * dense(p["fc1"], x) if "gate" in p else phi(dense(p["fc1"], x))
        return dense(p["fc2"], maybe_norm(p, "norm", hidden))

    (rows, columns), (height, width) = config.grid, config.patch_size
    for number, channels in enumerate(config.stem_widths, 1):
        p, stride = params["stem"][f"conv{number}"], 2 if channels > image.shape[-1] else 1
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
        image = np.array(
            [
                [np.einsum("abi,abio->o", padded[i : i + 3, j : j + 3], p["kernel"]) + p["bias"] for j in range(0, image.shape[1], stride)]
                for i in range(0, image.shape[0], stride)
            ]
        )
        p = params["stem"][f"norm{number}"]
        image = phi(p["scale"] * (image - image.mean()) / np.sqrt(image.var() + config.eps) + p["bias"])
        height = width = 1
    tokens = []
    for i in range(rows):
        for j in range(columns):
            patch = image[i * height : (i + 1) * height, j * width : (j + 1) * width]
            token = dense(params["patch_embedding"], patch.reshape(-1))
            tokens.append(norm(params["patch_norm"], token, config.patch_norm_eps) if "patch_norm" in params else token)
    prefix = [row for name in ("class_token", "distillation_token", "register_tokens") for row in params.get(name, ())]
    position = list(params.get("position_embedding", np.zeros((len(prefix + tokens), config.width))))
    if not config.position_on_prefix:
        position = [np.zeros(config.width)] * len(prefix) + position
    tokens = [maybe_norm(params, "pre_norm", token + place) for token, place in zip(prefix + tokens, position, strict=True)]
    class_tokens = []
    for depth in range(config.depth):
        p = jax.tree.map(lambda leaf, depth=depth: leaf[depth], params["blocks"])
        for name in ("attention", "mlp"):
            normed = [maybe_norm(p, f"{name}_norm", token) for token in tokens]
            branch = attend(p[name], normed, normed) if name == "attention" else [mlp(p[name], token) for token in normed]
            branch = [maybe_norm(p, f"{name}_post_norm", change) for change in branch]
            scale = p[f"{name}_scale"]["scale"] if f"{name}_scale" in p else 1
            tokens = [token + scale * change for token, change in zip(tokens, branch, strict=True)]
        class_tokens.append(tokens[0])
    class_tokens = class_tokens[config.depth - config.pooled_blocks : -1]
    if config.final_norm == "tokens":
        tokens, class_tokens = ([norm(params["final_norm"], token) for token in some] for some in (tokens, class_tokens))
    pooled_over = tokens if config.pool_prefix else tokens[len(prefix) :]
    if config.pooling == "token":
        pooled = np.concatenate([*class_tokens, tokens[0]])
    elif config.pooling == "avg":
        pooled = sum(pooled_over) / len(pooled_over)
    elif config.pooling == "token_and_mean":
        pooled = np.concatenate([*class_tokens, tokens[0], sum(pooled_over) / len(pooled_over)])
    else:
        heads = config.pool_num_heads or config.num_heads
        (pooled,) = attend(params["pool"]["attention"], params["pool"]["latent"], pooled_over, heads)
        pooled = pooled + mlp(params["pool"]["mlp"], norm(params["pool"]["mlp_norm"], pooled))
    if config.final_norm == "pooled":
        pooled = norm(params["final_norm"], pooled)
    if "projection" in params:
        pooled = dense(params["projection"], pooled)
    if config.unit_features:
        pooled = pooled / math.sqrt(pooled @ pooled)
    logits = dense(params["head"], pooled) if "head" in params else pooled
    if config.distillation_token:
        logits = (logits + dense(params["distillation_head"], tokens[1])) / 2
    return logits


def in_double(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def test_defaults_are_those_of_the_paper():
    """ViT-B/16 with 86.57 million parameters."""
    shapes = jax.eval_shape(lambda key: init_params(key, ViTConfig()), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 86_567_656


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_slow_version(options, x64):
    model = tiny_model(**options)
    params, config = in_double(model.params), model.forward.config
    params = jax.tree.map(lambda leaf: 2 * leaf, params)  # further from the linear regime
    image = np.random.default_rng(1).normal(size=(*config.image_size, 3))
    logits = jax.jit(model.forward)(params, image)
    expected = slow_vit(params, image, config)
    assert logits.dtype == jnp.float64 and logits.shape == expected.shape
    assert np.abs(expected).max() > 0.1
    assert np.abs(logits - expected).max() < 1e-12 * max(1, np.abs(expected).max())


def test_every_option_is_compared():
    tried = set().union(*OPTIONS)
    others = {"width", "num_heads", "mlp_width", "position_resampling"}  # the last is for loading; see test_positions.py
    assert {field.name for field in dataclasses.fields(ViTConfig)} - tried == others


def test_scan_over_stacked_blocks_is_a_loop(x64):
    """The mean of the last tokens, as the model gives it and by the blocks in turn."""
    model = tiny_model(depth=3, pooling="avg", pool_prefix=True, final_norm="none", num_classes=0)
    params, vit = jax.tree.map(lambda leaf: leaf.astype(float), model.params), model.forward
    image = jax.random.normal(jax.random.key(1), (16, 16, 3))
    tokens, _ = vit.embed(params, image, gradient)
    for depth in range(3):
        block = jax.tree.map(lambda leaf, depth=depth: leaf[depth], params["blocks"])
        tokens, _ = layers.block(block, tokens, gradient, num_heads=2, activation_name="gelu", eps=1e-6)
    assert float(jnp.abs(vit(params, image) - tokens.mean(0)).max()) < 1e-14


def test_every_block_has_parameters_of_its_own(key):
    """Keys are split, never used twice."""
    config = tiny_model().forward.config
    drawn = {path: leaf for path, leaf in flatten(init_params(key, config)).items() if jnp.std(leaf) > 0}
    values = np.concatenate([np.asarray(leaf).ravel() for leaf in drawn.values()])
    assert {path.rpartition("/")[2] for path in drawn} == {"kernel", "position_embedding", "class_token"}
    assert len(np.unique(values)) > 0.99 * len(values)
    assert abs(values.std() - 0.02) < 0.001 and abs(values.mean()) < 0.001


@pytest.mark.parametrize("decomposition", presets)
def test_operators_give_the_same_logits(decomposition):
    """To the bit where the last block is whole; test_last_block.py has the networks that compute what the head reads of it."""
    model = tiny_model(pooling="avg")
    image = jax.random.normal(jax.random.key(1), (16, 16, 3))
    logits, operators = model.forward.operators(model.params, image, decomposition)
    assert jnp.array_equal(logits, model.forward(model.params, image, decomposition))
    assert set(operators) == {"embedding", "blocks", "head"}
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(operators["blocks"]))


def test_equal_configurations_are_one_function():
    """`explain` compiles once for them."""
    one, other = (ViT(dataclasses.replace(ViTConfig(), depth=3)) for _ in range(2))
    assert one == other and hash(one) == hash(other) and one != ViT(ViTConfig())


@pytest.mark.parametrize("shape", [(16, 8, 3), (32, 32, 3)])
def test_wrong_image_size(shape):
    model = tiny_model()
    with pytest.raises(ValueError, match=r"images of shape \(16, 16, 3\); got .*image_size=\(height, width\)"):
        model.forward(model.params, jnp.zeros(shape))


def test_one_error_lists_all_that_is_wrong():
    with pytest.raises(ValueError) as error:
        ViTConfig(pooling="mean", norm="batch_norm", activation="gellu", final_norm="first", num_heads=5, image_size=(224, 225), depth=0)
    for problem in (
        "pooling is one of ['token', 'avg', 'map', 'token_and_mean']; got 'mean'",
        "norm is one of ['layer_norm', 'rms_norm']; got 'batch_norm'",
        "activation is one of",
        "final_norm is one of",
        "depth must be at least 1; got 0",
        "num_heads must divide width; got 5 heads for width 768",
        "image_size must be a multiple of patch_size (16, 16); got (224, 225)",
    ):
        assert problem in str(error.value)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"class_token": False}, "pooling 'token' needs class_token=True"),
        ({"class_token": False, "pooling": "token_and_mean"}, "pooling 'token_and_mean' needs class_token=True"),
        ({"pooling": "token_and_mean", "final_norm": "pooled"}, "pooling 'token_and_mean' needs final_norm 'tokens' or 'none'"),
        ({"pooling": "token_and_mean", "pool_prefix": True}, "pooling 'token_and_mean' needs .* pool_prefix=False"),
        ({"stem_widths": (4, 4, 6)}, r"strides making up patch_size \(16, 16\); got \(4, 4, 6\)"),
        ({"pooled_blocks": 0}, "pooled_blocks must be at least 1; got 0"),
        ({"pooled_blocks": 13}, "pooled_blocks must be at most depth; got 13 of 12"),
        ({"pooled_blocks": 2, "pooling": "avg"}, "pooled_blocks needs pooling 'token' or"),
        ({"pooled_blocks": 2, "final_norm": "pooled"}, "pooled_blocks needs .* final_norm 'tokens' or"),
        ({"pooled_blocks": 2, "distillation_token": True}, "pooled_blocks needs distillation_token=False"),
        ({"pooled_blocks": 2, "projection": 8}, "pooled_blocks needs .* projection=0"),
        ({"position_resampling": "linear"}, r"position_resampling is one of \['antialiased', 'bicubic', 'corners'\]"),
        ({"num_heads": 0}, "num_heads must be at least 1"),
        ({"num_heads": 128, "rotary": Rotary()}, "rotary needs heads of a multiple of 4 channels; got 128 heads"),
        ({"relative_position": True, "num_registers": 1}, "relative_position needs class_token=True and no other token"),
        ({"pooling": "map", "pool_num_heads": 7}, "pool_num_heads must divide width; got 7"),
        ({"pooling": "map", "pool_mlp_width": 0}, "pool_mlp_width must be at least 1; got 0"),
        ({"num_registers": -1}, "num_registers must be at least 0"),
        ({"patch_size": (0, 16)}, "multiple of patch_size"),
        ({"image_size": (8, 16)}, "multiple of patch_size"),
        ({"distillation_token": True, "pooling": "avg"}, "distillation_token needs pooling 'token'"),
        ({"distillation_token": True, "final_norm": "pooled"}, "distillation_token needs pooling 'token'"),
    ],
    ids=str,
)
def test_what_is_no_vision_transformer(options, problem):
    with pytest.raises(ValueError, match=problem):
        ViTConfig(**options)
