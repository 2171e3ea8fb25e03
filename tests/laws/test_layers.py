"""Every layer: its derivative is its operator, and its value does not know the decomposition."""

import jax
import jax.numpy as jnp
import pytest

from dave_jax.effective import layers, pooling
from dave_jax.effective.activations import MULTIPLIERS
from dave_jax.effective.decomposition import Decomposition, effective, freeze, gradient, presets, resolve
from dave_jax.effective.rotation import Rotation
from dave_jax.models.rotary import Rotary
from dave_jax.models.vit import ViT
from dave_jax.testing import tiny_model

N, D = 5, 8


def _normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def _dense(seed, fan_in=D, fan_out=D):
    return {"kernel": 0.4 * _normal(seed, fan_in, fan_out), "bias": _normal(seed + 50, fan_out)}


def _norm(seed, size=D):
    return {"scale": _normal(seed, size), "bias": _normal(seed + 50, size)}


def _attention(**more):
    return {name: _dense(i) for i, name in enumerate(("query", "key", "value", "proj"))} | more


def _block():
    return {
        "attention_norm": _norm(7),
        "attention": _attention(),
        "attention_scale": {"scale": _normal(8, D)},
        "mlp_norm": _norm(9),
        "mlp": {"fc1": _dense(10, D, 12), "fc2": _dense(11, 12, D)},
        "mlp_scale": {"scale": _normal(12, D)},
    }


def _map_pool():
    return {"latent": _normal(20, 1, D), "attention": _attention(), "mlp_norm": _norm(21), "mlp": {"fc1": _dense(22), "fc2": _dense(23)}}


def _pool(kind, params=None, **more):
    options = dict(kind=kind, num_prefix=2, num_heads=2, activation_name="gelu", eps=1e-6) | more
    return lambda x, rules: pooling.pool(params() if params else {}, x, rules, **options)


def _normed_attention():
    return _attention(query_norm=_norm(5, D // 2), key_norm=_norm(6, D // 2), norm=_norm(7))


MASK = jnp.triu(jnp.full((N, N), -1e9), k=1)
gelu, silu = dict(activation_name="gelu", eps=1e-6), dict(activation_name="silu", eps=1e-6)
LAYERS = {
    "dense": lambda x, rules: layers.dense(_dense(0), x, rules),
    "layer_norm": lambda x, rules: layers.layer_norm(_norm(0), x, rules, eps=1e-6),
    "rms_norm": lambda x, rules: layers.rms_norm({"scale": _normal(0, D)}, x, rules, eps=1e-6),
    "mlp": lambda x, rules: layers.mlp({"fc1": _dense(0, D, 12), "fc2": _dense(1, 12, D), "norm": _norm(2, 12)}, x, rules, **gelu),
    "swiglu": lambda x, rules: layers.mlp({"fc1": _dense(0), "fc2": _dense(1), "gate": _dense(2)}, x, rules, **silu),
    "attention": lambda x, rules: layers.attention(_attention(), x, rules, num_heads=2, eps=1e-6),
    "attention with norms": lambda x, rules: layers.attention(_normed_attention(), x, rules, num_heads=2, eps=1e-6),
    "attention with places": lambda x, rules: layers.attention(
        _attention(),
        x,
        rules,
        num_heads=2,
        eps=1e-6,
        rotation=Rotation(_normal(5, 2, N, 2), _normal(6, 2, N, 2), (2, N, 4), "halves"),
        bias=_normal(7, 2, N, N),
    ),
    "masked attention": lambda x, rules: layers.attention(_attention(), x, rules, num_heads=2, eps=1e-6, bias=MASK.astype(x.dtype)[None]),
    "unit_norm": lambda x, rules: layers.unit_norm(x, rules),
    "layer_scale": lambda x, rules: layers.layer_scale({"scale": _normal(0, D)}, x),
    "patch_embedding": lambda x, rules: layers.patch_embedding(
        _dense(0, 2 * 2 * 2, D), x.reshape(4, 5, 2)[:, :4], rules, patch_size=(2, 2)
    ),
    "token pool": _pool("token"),
    "average pool": _pool("avg"),
    "attention pool": _pool("map", _map_pool),
    "class token beside the average": _pool("token_and_mean"),
    "class tokens": _pool("token", num_earlier=2),
    "class tokens beside the average": _pool("token_and_mean", num_earlier=1),
} | {name: lambda x, rules, name=name: layers.activation(x, rules, name=name) for name in MULTIPLIERS}


@pytest.fixture(params=LAYERS, ids=str)
def layer(request, x64):
    return LAYERS[request.param]


def test_vjp_is_the_transposed_operator(layer):
    x = _normal(1, N, D)
    (y, op), pull = jax.vjp(lambda x: layer(x, effective), x)
    cotangent = _normal(2, *y.shape)
    zeros = jax.tree.map(jnp.zeros_like, op)
    expected = op.transpose()(cotangent)
    (pulled,) = pull((cotangent, zeros))
    if expected.shape != x.shape:  # the patch embedding sees a part of x, as an image
        pulled = pulled.reshape(4, 5, 2)[:, :4]
    assert jnp.allclose(pulled, expected, rtol=0, atol=1e-12)


def test_value_does_not_depend_on_the_decomposition(layer):
    x = _normal(1, N, D)
    values = [layer(x, rules)[0] for rules in presets.values()]
    assert all(jnp.array_equal(values[0], value) for value in values[1:])


def test_block_vjp_is_the_product_of_its_branches(x64):
    x = _normal(1, N, D)
    params = _block()
    (y, operators), pull = jax.vjp(lambda x: layers.block(params, x, effective, num_heads=2, **gelu), x)
    cotangent = _normal(2, *y.shape)
    (pulled,) = pull((cotangent, jax.tree.map(jnp.zeros_like, operators)))
    attention, mlp = operators
    middle = cotangent + mlp.transpose()(cotangent)
    assert jnp.allclose(pulled, middle + attention.transpose()(middle), rtol=0, atol=1e-12)


@pytest.mark.slow
def test_gradient_is_not_effective():
    """Else the tests above could not tell a frozen operator from a live one."""
    x = _normal(1, N, D)
    for name in ("layer_norm", "rms_norm", "mlp", "swiglu", "attention", "attention pool", "gelu", "silu", "unit_norm"):
        slopes = [jax.grad(lambda x, name=name, rules=rules: jnp.sum(LAYERS[name](x, rules)[0] ** 2))(x) for rules in (gradient, effective)]
        assert float(jnp.abs(slopes[0] - slopes[1]).max()) > 1e-3 * float(jnp.abs(slopes[0]).max()), name


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"pooling": "avg", "final_norm": "pooled", "class_token": False}, marks=pytest.mark.slow),
        pytest.param({"pooling": "map", "num_registers": 2, "layer_scale": True}, marks=pytest.mark.slow),
        pytest.param({"pooling": "token_and_mean", "num_registers": 1}, marks=pytest.mark.slow),
        pytest.param({"pooling": "token_and_mean", "depth": 4, "pooled_blocks": 3, "stem_widths": (4, 6)}, marks=pytest.mark.slow),
        pytest.param({"distillation_token": True, "pre_norm": True, "patch_bias": False}, marks=pytest.mark.slow),
        pytest.param(
            {"norm": "rms_norm", "gated_mlp": True, "activation": "silu", "patch_norm": True, "query_key_norm": True},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"rotary": Rotary("learned"), "relative_position": True, "post_norm": True, "position_embedding": False}, marks=pytest.mark.slow
        ),
    ],
    ids=str,
)
def test_model_gradient_is_the_product_of_its_operators(options, x64):
    model = tiny_model(**options)
    params = jax.tree.map(lambda leaf: leaf.astype(float), model.params)
    image, cotangent = _normal(1, 16, 16, 3), _normal(2, 5)
    vit: ViT = model.forward
    logits, operators = vit.operators(params, image)
    result = operators["head"].transpose()(cotangent[None])
    earlier, result = jnp.split(result, [vit.config.pooled_blocks - 1])
    for index in reversed(range(vit.config.depth)):
        row = index - vit.config.depth + vit.config.pooled_blocks
        if 0 <= row < len(earlier):
            result = result.at[0].add(earlier[row])
        attention, mlp = jax.tree.map(lambda leaf, index=index: leaf[index], operators["blocks"])
        result = result + mlp.transpose()(result)
        result = result + attention.transpose()(result)
    result = operators["embedding"].transpose()(result)
    pulled = jax.grad(lambda image: jnp.vdot(vit(params, image, "effective"), cotangent))(image)
    assert jnp.allclose(result, pulled, rtol=0, atol=1e-12)
    assert jnp.array_equal(logits, vit.operators(params, image, "gradient")[0])
    assert jnp.allclose(logits, vit(params, image, "gradient"), rtol=0, atol=1e-14)  # whose last block has other shapes


def test_layer_norm_centering_stays_linear(x64):
    """H is part of the effective transformation: a gradient through LayerNorm sums to zero over the width where gamma is one."""
    x = _normal(1, N, D)
    params = {"scale": jnp.ones(D), "bias": jnp.zeros(D)}
    (_, op), _ = layers.layer_norm(params, x, effective, eps=1e-6), None
    assert jnp.allclose(jnp.sum(op.transpose()(_normal(2, N, D)), axis=-1), 0.0, atol=1e-13)


def test_gelu_multiplier_at_zero_is_one_half():
    y, op = layers.activation(jnp.zeros((1, 1)), effective, name="gelu")
    assert float(op.scale[0, 0]) == 0.5
    assert float(y[0, 0]) == 0.0


@pytest.mark.slow
def test_a_new_decomposition_is_one_value():
    """Freezing attention only: differs from both presets, with the same value, and no layer had to know."""
    mine = Decomposition("attention only", attention=freeze)
    model = tiny_model()
    image = _normal(1, 16, 16, 3)
    maps = [jax.grad(lambda x, rules=rules: model.forward(model.params, x, rules)[0])(image) for rules in (gradient, mine, effective)]
    assert float(jnp.abs(maps[1] - maps[0]).max()) > 1e-6
    assert float(jnp.abs(maps[1] - maps[2]).max()) > 1e-6


@pytest.mark.parametrize("name", ["effectiv", "nonsense"])
def test_unknown_decomposition(name):
    with pytest.raises(ValueError, match="A decomposition is one of") as error:
        resolve(name)
    assert ("Did you mean 'effective'" in str(error.value)) == (name == "effectiv")


def test_unknown_activation():
    with pytest.raises(ValueError, match="Did you mean 'gelu'"):
        layers.activation(jnp.zeros((1, 1)), effective, name="gellu")
