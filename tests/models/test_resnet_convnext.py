"""ResNets and ConvNeXts: equal to plain twins, complete, and at home with everything that takes a model."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conv_networks import CONFIGS, SIZE, image, model, plain

import dave_jax as dave
from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.attribution.baselines.rollout import Rollout
from dave_jax.effective.decomposition import presets
from dave_jax.evaluation.randomisation import randomise
from dave_jax.models.resize import at_image_size
from dave_jax.testing import count_compilations

ALL_SITES = ("resnet_d", "convnextv2")
"""Networks that have every kind of layer between them."""


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow if name in ("resnet_d", "convnextv2") else ()) for name in CONFIGS])
def name(request):
    return request.param


@functools.cache
def everything(name: str) -> dict:
    """Of one network in double precision, by one program: values under every decomposition, and what a target's derivative is."""
    with jax.enable_x64(True):
        network, twin, target = model(name), plain(name), jnp.asarray(np.random.default_rng(1).standard_normal(5))

        def run(params, x):
            values = {rules: network.forward(params, x, rules) for rules in (presets if name in ALL_SITES else ["effective"])}
            gradients = {}
            for rules in ("gradient", "effective"):
                (gradients[rules],) = jax.vjp(lambda x, rules=rules: network.forward(params, x, rules), x)[1](target)
                decomposed = dave.decompose(lambda x: twin(params, x), rules)
                (gradients[f"plain {rules}"],) = jax.vjp(decomposed, x)[1](target)
            _, operators = network.forward.operators(params, x)
            return values, twin(params, x), gradients, operators

        values, plain_value, gradients, operators = jax.jit(run)(network.params, image())
        product = operators["head"].transpose()(target[None])
        for stage in reversed(operators["stages"]):
            product = pull_stage(stage, product)
        product = operators["stem"].transpose()(product)
        return jax.device_get({"values": values, "plain": plain_value, "product": product, **gradients})


def pull_stage(operators, cotangent):
    """The transposed stage: of a ResNet its blocks, of a ConvNeXt I + branch."""
    if "blocks" in operators:
        depth = len(jax.tree.leaves(operators["blocks"])[0])
        for i in reversed(range(depth)):
            block = jax.tree.map(lambda leaf, i=i: leaf[i], operators["blocks"]).transpose()
            cotangent = block(cotangent) if "first" in operators else cotangent + block(cotangent)
    before = operators.get("first", operators.get("downsample"))
    return cotangent if before is None else before.transpose()(cotangent)


def assert_close(a, b, tolerance=1e-12):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.slow
def test_every_decomposition_has_the_values_of_the_plain_twin(name):
    for values in everything(name)["values"].values():
        assert_close(values, everything(name)["plain"])


@pytest.mark.slow
@pytest.mark.parametrize("rules", ["gradient", "effective"])
def test_the_traced_twin_has_the_same_derivative(name, rules):
    assert_close(everything(name)[rules], everything(name)[f"plain {rules}"])


@pytest.mark.slow
def test_the_effective_transformation_is_the_product_of_the_operators(name):
    assert_close(everything(name)["product"], everything(name)["effective"])


@pytest.mark.slow
def test_of_a_relu_network_it_is_the_gradient():
    assert_close(everything("resnet")["effective"], everything("resnet")["gradient"])
    for other in ("resnet_d", "convnext", "convnextv2"):
        found = everything(other)
        assert np.abs(found["effective"] - found["gradient"]).max() > 0.05 * np.abs(found["gradient"]).max()


def test_completeness_and_the_terms_of_biases(name, x64):
    network = model(name)
    assert float(dave.completeness(network, image(), 1)) < 1e-12
    parts = dave.bias_contributions(network, image(), 1)
    np.testing.assert_allclose(parts.image + parts.total, parts.logit, rtol=1e-12)
    assert parts.place is None and parts.terms["stages/1/blocks/norm1/bias" if "resnet" in name else "stages/1/blocks/fc1/bias"].ndim == 1
    assert ("stem/norm1/running_mean" in parts.terms) == ("resnet" in name)
    assert float(dave.conservation(network, image(), 1).relative) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnextv2"])
def test_explain_in_a_batch_alone_and_with_another_setting(name):
    network, images, key = model(name), jnp.stack([image(), -image(), 2 * image()]), jax.random.key(0)
    maps = dave.explain(network, images, [0, 1, 2], key=key)
    assert maps.shape == (3, *SIZE) and bool(jnp.isfinite(maps).all()) and float(maps.max()) == 1.0
    alone = dave.explain(network, images[:1], [0], key=key)
    np.testing.assert_allclose(maps[:1], alone, rtol=0, atol=2e-5)  # rounding, divided by the map's largest value
    with count_compilations() as compiled:
        dave.explain(network, images[:1], [0], key=key, config=dataclasses.replace(network.config, noise_alpha=0.3))
    assert not compiled


@pytest.mark.parametrize("name", ["resnet", "convnext"])
def test_methods_that_need_attention_refuse(name):
    network, images = model(name), image()[None]
    with pytest.raises(TypeError, match=r"tokens and attention matrices.*InputTimesGradient"):
        Rollout()(network, images, [0])
    with pytest.raises(TypeError, match="vision transformer"):
        randomise(network, 1, key=jax.random.key(0))


@pytest.mark.parametrize("name", ["resnet", "convnext"])
def test_input_times_gradient(name):
    assert InputTimesGradient()(model(name), image()[None], [0]).shape == (1, *SIZE)


@pytest.mark.parametrize("name", ["resnet_d", "convnext"])
def test_any_image_size_and_a_file(name, tmp_path):
    network = model(name)
    larger = at_image_size(network, (30, 24))
    assert larger.preprocessing.image_size == (30, 24) and larger.logits(jnp.ones((1, 30, 24, 3))).shape == (1, 5)
    dave.save(network, tmp_path)
    read = dave.load(tmp_path)
    assert read.forward == network.forward and read.preprocessing == network.preprocessing
    np.testing.assert_array_equal(read.logits(image()[None]), network.logits(image()[None]))
    assert dave.load(tmp_path, image_size=(30, 24)).preprocessing.image_size == (30, 24)
