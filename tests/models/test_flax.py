"""flax modules at the edge: models like any other, with the same maps as the functions that they are made of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import dave_jax as dave
from convert_weights.table import flatten
from dave_jax.effective import layers
from dave_jax.effective.decomposition import resolve
from dave_jax.testing import count_compilations, tiny_model

KEY = jax.random.key(7)
CONFIG = dave.DaveConfig(num_samples=3, noise_alpha=0.4)
PREPROCESSING = dave.Preprocessing(image_size=(8, 8))
SHAPES = {
    "embed": {"kernel": (48, 6), "bias": (6,)},
    "first_norm": {"scale": (6,), "bias": (6,)},
    "query": {"kernel": (6, 6)},
    "key": {"kernel": (6, 6)},
    "value": {"kernel": (6, 6)},
    "proj": {"kernel": (6, 6), "bias": (6,)},
    "fc1": {"kernel": (6, 9), "bias": (9,)},
    "fc2": {"kernel": (9, 3), "bias": (3,)},
}


def network(params, image, decomposition):
    """Patches, a norm, attention, their mean, and an MLP for three classes."""
    rules = resolve(decomposition)
    tokens, _ = layers.patch_embedding(params["embed"], image, rules, patch_size=(4, 4))
    tokens, _ = layers.norm(params["first_norm"], tokens, rules, eps=1e-6)
    tokens, _ = layers.attention(params, tokens, rules, num_heads=2, eps=1e-6)
    tokens = jnp.mean(tokens, axis=0, keepdims=True)
    return layers.mlp(params, tokens, rules, activation_name="gelu", eps=1e-6)[0][0]


class Linen(linen.Module):
    @linen.compact
    def __call__(self, image, decomposition="gradient"):
        draw = linen.initializers.normal(0.5)
        params = {
            name: {kind: self.param(f"{name}_{kind}", draw, shape) for kind, shape in kinds.items()} for name, kinds in SHAPES.items()
        }
        return network(params, image, decomposition)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        draw = lambda shape: nnx.Param(0.5 * jax.random.normal(rngs.params(), shape))
        self.parts = nnx.Dict({name: nnx.Dict({kind: draw(shape) for kind, shape in kinds.items()}) for name, kinds in SHAPES.items()})

    def __call__(self, image, *, decomposition):
        return network(nnx.to_pure_dict(nnx.state(self.parts)), image, decomposition)


def linen_model():
    variables = Linen().init(KEY, jnp.zeros((8, 8, 3)))
    params = {name: {kind: variables["params"][f"{name}_{kind}"] for kind in kinds} for name, kinds in SHAPES.items()}
    return dave.from_linen(Linen(), variables, preprocessing=PREPROCESSING), params


def nnx_model():
    module = Nnx(nnx.Rngs(3))
    return dave.from_nnx(module, preprocessing=PREPROCESSING), nnx.to_pure_dict(nnx.state(module.parts))


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(1), (2, 8, 8, 3))


@pytest.mark.slow
@pytest.mark.parametrize("make", [pytest.param(linen_model, marks=pytest.mark.slow), nnx_model])
def test_a_module_is_the_function_that_it_calls(make, images):
    """Logits, gradients by the image under each decomposition, and maps."""
    model, params = make()
    plain = dave.Model(params, network, preprocessing=PREPROCESSING)
    assert float(jnp.abs(model.logits(images) - plain.logits(images)).max()) < 1e-6 * float(jnp.abs(plain.logits(images)).max())
    slopes = {}
    for name in ("effective", "gradient"):
        slopes[name], expected = (dave.effective_transformation(one, images[0], 1, decomposition=name) for one in (model, plain))
        assert float(jnp.abs(slopes[name] - expected).max()) < 1e-6 * float(jnp.abs(expected).max())
    assert float(jnp.abs(slopes["effective"] - slopes["gradient"]).max()) > 1e-2 * float(jnp.abs(slopes["gradient"]).max())
    maps = [dave.explain(one, images, [0, 2], key=KEY, config=CONFIG) for one in (model, plain)]
    assert float(jnp.abs(maps[0] - maps[1]).max()) < 1e-5


@pytest.mark.parametrize("make", [linen_model, nnx_model])
def test_fields_of_the_model(make):
    model, _ = make()
    assert model.name == make.__name__.removesuffix("_model").capitalize()
    assert model.preprocessing == PREPROCESSING
    named = dave.from_linen(Linen(), {}, name="mine", class_names=("a", "b", "c"), config=CONFIG)
    assert (named.name, named.class_names, named.config) == ("mine", ("a", "b", "c"), CONFIG)


def test_another_module_of_the_same_kind_compiles_nothing(images):
    one, other = (dave.from_nnx(Nnx(nnx.Rngs(seed)), preprocessing=PREPROCESSING) for seed in (1, 2))
    assert one.forward == other.forward and hash(one.forward) == hash(other.forward)
    maps = dave.explain(one, images, [0, 1], key=KEY, config=CONFIG)
    with count_compilations() as compiled:
        others = dave.explain(other, images, [0, 1], key=KEY, config=CONFIG)
    assert compiled == []
    assert float(jnp.abs(maps - others).max()) > 1e-3


# The vision transformer as an nnx module.


def wrapped(model):
    module = dave.NnxViT(model.forward.config, params=model.params)
    return module, dave.from_nnx(module, preprocessing=model.preprocessing, config=model.config)


@pytest.fixture
def tiny_images():
    return jax.random.normal(jax.random.key(1), (2, 16, 16, 3))


def test_wrapped_parameters_come_back():
    model = tiny_model(layer_scale=True, num_registers=2)
    module, _ = wrapped(model)
    there, back = flatten(model.params), flatten(nnx.to_pure_dict(nnx.state(module.params)))
    assert there.keys() == back.keys()
    assert all(jnp.array_equal(there[path], back[path]) for path in there)


OTHER = {"pooling": "map", "num_registers": 1, "norm": "rms_norm", "gated_mlp": True}


@pytest.mark.parametrize("options", [{}, pytest.param(OTHER, marks=pytest.mark.slow)], ids=str)
def test_the_wrapped_model_is_the_model(options, tiny_images):
    model = tiny_model(**options)
    module, copy = wrapped(model)
    logits = model.logits(tiny_images)
    scale = float(jnp.abs(logits).max())
    assert float(jnp.abs(copy.logits(tiny_images) - logits).max()) < 1e-6 * scale
    assert float(jnp.abs(module(tiny_images[0]) - logits[0]).max()) < 1e-5 * scale
    maps = [dave.explain(one, tiny_images, [[0, 3], [1, 1]], key=KEY) for one in (model, copy)]
    assert maps[0].shape == (2, 2, 16, 16)
    assert float(jnp.abs(maps[0] - maps[1]).max()) < 1e-5


def test_the_wrapped_model_is_complete(tiny_images):
    """Its bias-like parameters are found under the names that flax gives them."""
    model = tiny_model()
    _, copy = wrapped(model)
    assert float(dave.completeness(copy, tiny_images[0], 2)) < 1e-5
    parts, expected = (dave.bias_contributions(one, tiny_images[0], 2) for one in (copy, model))
    assert float(parts.total) == pytest.approx(float(expected.total), rel=1e-4)


@pytest.mark.slow
def test_gradients_by_the_parameters(tiny_images):
    model = tiny_model()
    module, _ = wrapped(model)
    by_state = nnx.to_pure_dict(nnx.grad(lambda module: jnp.sum(module(tiny_images[0]) ** 2))(module))["params"]
    by_params = jax.grad(lambda params: jnp.sum(model.forward(params, tiny_images[0]) ** 2))(model.params)
    for path, expected in flatten(by_params).items():
        found = flatten(by_state)[path]
        assert float(jnp.abs(found - expected).max()) < 1e-5 * max(1.0, float(jnp.abs(expected).max())), path


def test_a_drawn_module_is_what_init_params_draws():
    config = tiny_model().forward.config
    one, same, other = (dave.NnxViT(config, rngs=nnx.Rngs(seed)) for seed in (0, 0, 1))
    kernel = lambda module: np.asarray(module.params["head"]["kernel"][...])
    np.testing.assert_array_equal(kernel(one), kernel(same))
    assert np.abs(kernel(one) - kernel(other)).max() > 0.01
    assert np.isclose(kernel(one).std(), 0.02, rtol=0.3)


def test_trains_one_step(tiny_images):
    module = dave.NnxViT(tiny_model().forward.config, rngs=nnx.Rngs(0))
    optimiser = nnx.Optimizer(module, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def step(module, optimiser):
        def loss(module):
            logits = nnx.vmap(lambda module, image: module(image), in_axes=(None, 0))(module, tiny_images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.array([0, 3])).mean()

        value, gradients = nnx.value_and_grad(loss)(module)
        optimiser.update(module, gradients)
        return value

    before = np.asarray(module.params["blocks"]["mlp"]["fc1"]["kernel"][...])
    losses = [float(step(module, optimiser)) for _ in range(2)]
    assert losses[1] < losses[0]
    assert np.abs(before - module.params["blocks"]["mlp"]["fc1"]["kernel"][...]).max() > 1e-4


def test_parameters_are_either_drawn_or_given():
    config = tiny_model().forward.config
    for options in ({}, {"rngs": nnx.Rngs(0), "params": {}}):
        with pytest.raises(ValueError, match=r"either rngs .* or params"):
            dave.NnxViT(config, **options)


def test_a_trained_module_saves(tmp_path, tiny_images):
    """Through `Model`, whose file `load` reads."""
    module = dave.NnxViT(tiny_model().forward.config, rngs=nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.state(module.params))
    model = dataclasses.replace(tiny_model(), params=params)
    dave.save(model, tmp_path)
    assert jnp.array_equal(dave.load(tmp_path).logits(tiny_images), model.logits(tiny_images))
