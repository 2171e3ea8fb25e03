"""Models that know nothing of decompositions: functions and modules of flax nnx, flax linen and Equinox."""

import subprocess
import sys

import equinox
import jax
import jax.numpy as jnp
import pytest
from flax import linen, nnx

import dave_jax as dave
from dave_jax.models.traced import Traced
from dave_jax.testing import count_compilations

pytestmark = pytest.mark.slow

PREPROCESSING = dave.Preprocessing(image_size=(8, 8))
CONFIG = dave.DaveConfig(num_samples=3, noise_alpha=0.4)


class NnxNetwork(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 6, (4, 4), strides=4, rngs=rngs)
        self.batch_norm = nnx.BatchNorm(6, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 6, decode=False, rngs=rngs)
        self.norm = nnx.LayerNorm(6, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, images):
        x = nnx.relu(self.batch_norm(self.conv(images)))
        x = x.reshape(len(x), -1, 6)
        x = x + self.attention(self.norm(x))
        return self.head(self.dropout(nnx.gelu(x)).mean(1))


class LinenNetwork(linen.Module):
    @linen.compact
    def __call__(self, images, train):
        x = linen.Conv(6, (4, 4), strides=4)(images)
        x = linen.silu(linen.BatchNorm(use_running_average=not train)(x))
        x = x.reshape(len(x), -1, 6)
        x = x + linen.MultiHeadDotProductAttention(2)(linen.RMSNorm()(x))
        return linen.Dense(4)(jnp.tanh(x).mean(1))


def nnx_call(module, images):
    return module(images[None])[0]


def linen_call(module, image):
    return module(image[None], train=False)[0]


def nnx_model():
    module = NnxNetwork(nnx.Rngs(0))
    model = dave.from_nnx(module, call=nnx_call, preprocessing=PREPROCESSING, config=CONFIG)
    module.eval()
    return model, module


def linen_model():
    module, images = LinenNetwork(), jnp.zeros((1, 8, 8, 3))
    variables = module.init(jax.random.key(0), images, train=True)
    model = dave.from_linen(module, variables, call=linen_call, preprocessing=PREPROCESSING, config=CONFIG)
    return model, lambda images: module.apply(variables, images, train=False)


def equinox_model():
    keys = jax.random.split(jax.random.key(0), 3)
    layers = [
        equinox.nn.Conv2d(3, 6, 4, stride=4, key=keys[0]),
        equinox.nn.GroupNorm(2, 6),
        equinox.nn.Lambda(jax.nn.elu),
        equinox.nn.Conv2d(6, 5, 1, key=keys[1]),
        equinox.nn.Lambda(jax.nn.mish),
        equinox.nn.Lambda(jnp.ravel),
        equinox.nn.Dropout(0.5),
        equinox.nn.Linear(20, 4, key=keys[2]),
    ]
    module = equinox.nn.Sequential(layers)
    model = dave.from_equinox(module, preprocessing=PREPROCESSING, config=CONFIG)
    return model, jax.vmap(lambda image: equinox.nn.inference_mode(module)(image.transpose(2, 0, 1)))


def function_model():
    kernel = jax.random.normal(jax.random.key(0), (192, 4))
    function = lambda params, image: jax.nn.softplus(image.ravel() @ params["kernel"]) @ params["kernel"][:4]
    params = {"kernel": kernel}
    model = dave.Model.from_function(function, params, preprocessing=PREPROCESSING, config=CONFIG)
    return model, jax.vmap(lambda image: function(params, image))


MAKERS = [nnx_model, linen_model, equinox_model, function_model]


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(1), (2, 8, 8, 3))


@pytest.mark.parametrize("make", MAKERS)
def test_any_module_is_explained(make, images):
    """Its own logits, complete, and maps that another call does not compile anew."""
    model, network = make()
    logits = network(images)
    assert float(jnp.abs(model.logits(images) - logits).max()) < 1e-5 * float(jnp.abs(logits).max())
    assert float(dave.completeness(model, images[0], 1)) < 1e-5
    maps = dave.explain(model, images, [0, 3], key=jax.random.key(0))
    assert maps.shape == (2, 8, 8) and float(maps.max()) == 1.0
    again, _ = make()
    if make is not function_model:  # whose function is a new one each time
        assert again.forward == model.forward and hash(again.forward) == hash(model.forward)
        others = jnp.flip(images, 1)
        with count_compilations() as compiled:
            dave.explain(again, others, [0, 3], key=jax.random.key(0))
        assert compiled == []


def test_bias_terms_name_what_has_a_name(images):
    model, _ = nnx_model()
    terms = dave.bias_contributions(model, images[0], 2).terms
    assert {"conv/bias", "attention/value/bias", "head/bias", "constants", "leak"} <= set(terms)
    assert float(terms["leak"]) == 0 and float(jnp.abs(terms["attention/query/bias"]).max()) == 0


def test_a_closure(images):
    kernel = jax.random.normal(jax.random.key(0), (3, 4))
    model = dave.Model.from_function(lambda image: jnp.tanh(image @ kernel).mean((0, 1)) @ kernel.T[:, :2], preprocessing=PREPROCESSING)
    assert model.params is None and model.name == "<lambda>"
    slope = dave.effective_transformation(model, images[0], 1)
    assert float(jnp.vdot(slope, images[0])) == pytest.approx(float(model.logits(images)[0, 1]), rel=1e-5)


def test_a_policy_reaches_the_model(images):
    def product(image):
        return (image[0] * image[1]).sum(0)

    slopes = [
        dave.effective_transformation(dave.Model.from_function(product, gate=gate, preprocessing=PREPROCESSING), images[0], 0)
        for gate in ("left", "right", "half")
    ]
    assert not jnp.any(slopes[0][0]) and not jnp.any(slopes[1][1])
    assert jnp.allclose(slopes[0] + slopes[1], 2 * slopes[2])


def test_logits_must_be_those_of_one_image(images):
    model = dave.Model.from_function(lambda image: image[None], preprocessing=PREPROCESSING)
    with pytest.raises(ValueError, match=r"logits of one image, shape \(classes,\); got .*image\[None\]"):
        model.logits(images)


def test_probabilities_are_refused(images):
    model = dave.Model.from_function(lambda image: jax.nn.softmax(image.mean((0, 1))), preprocessing=PREPROCESSING)
    with pytest.raises(ValueError, match="Explain the logit"):
        dave.explain(model, images, [0, 1], key=jax.random.key(0), config=CONFIG)


def test_modules_built_of_our_layers_are_not_traced():
    module = dave.NnxViT(dave.testing.tiny_model().forward.config, rngs=nnx.Rngs(0))
    assert not isinstance(dave.from_nnx(module).forward, Traced)
    assert isinstance(dave.from_nnx(module, call=lambda module, image: module(image)).forward, Traced)


def test_without_equinox_the_error_says_so():
    program = "import sys; sys.modules['equinox'] = None; import dave_jax; dave_jax.from_equinox"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert "ImportError: from_equinox needs Equinox, which is not installed: pip install equinox" in result.stderr
