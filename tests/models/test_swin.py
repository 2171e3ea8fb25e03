"""`SwinConfig`, and Swin transformers: complete, made of their operators, at other sizes, in a file, under every method that takes them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.attribution.baselines.rollout import Rollout
from dave_jax.effective.decomposition import presets
from dave_jax.models.heads import with_head, without_head
from dave_jax.models.relative import num_entries, resample_relative
from dave_jax.models.resize import at_image_size
from dave_jax.models.swin import Swin
from dave_jax.models.swin_config import SwinConfig, init_params
from dave_jax.models.swin_positions import coordinates

SMALL = SwinConfig(
    image_size=(14, 24),
    patch_size=(2, 2),
    width=4,
    depths=(3, 2),
    num_heads=(1, 2),
    mlp_widths=(6, 8),
    windows=((3, 3), (3, 4)),
    num_classes=5,
    pretrained_windows=(0, 2),
)
"""Windows that do not tile, a block left over, and a last stage that shifts along one axis only."""


def model(version: int, seed: int = 0) -> dave.Model:
    """Random, of which no two parameters are alike, in the precision of the moment."""
    config = dataclasses.replace(SMALL, version=version)
    draw = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda key: init_params(key, config), jax.random.key(0))

    def make(path, leaf):
        noise, name = draw.standard_normal(leaf.shape), path[-1].key
        return noise / leaf.shape[-2] ** 0.5 if name == "kernel" else 1 + 0.3 * noise if name == "scale" else 0.3 * noise

    params = jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.asarray(make(path, leaf), float), shapes)
    settings = dave.DaveConfig(num_samples=2, noise_alpha=0.5)
    return dave.Model(params, Swin(config), config=settings, preprocessing=dave.Preprocessing(image_size=config.image_size), name="swin")


def image(size=SMALL.image_size):
    return jnp.asarray(np.random.default_rng(5).standard_normal((*size, 3)), float)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": (1,)}, "one entry for each stage; they have depths 1, num_heads 2"),
        ({"depths": (1, 0)}, r"depths must be at least 1; got \(1, 0\)"),
        ({"depths": (10**6, 1)}, "depths must be at most 1000"),
        ({"num_heads": (1, 3)}, "num_heads must divide width; got 3 heads for width 8"),
        ({"windows": ((3, 3), (3, 0))}, r"windows are pairs \(rows, columns\) of 1 to 512"),
        ({"windows": ((3, 3), (10**9, 3))}, r"windows are pairs \(rows, columns\) of 1 to 512; got .*1000000000"),
        ({"version": 3}, "version is 1 or 2; got 3"),
        ({"image_size": (14, 25)}, r"image_size must be a multiple of patch_size; got \(14, 25\) and \(2, 2\)"),
        ({"activation": "mish"}, "activation is one of"),
        ({"eps": 0.0}, "eps must be positive"),
    ],
)
def test_malformed_configurations(options, message):
    with pytest.raises(ValueError, match=f"This is no Swin transformer: .*{message}"):
        dataclasses.replace(SMALL, **options)


def test_another_image_is_refused():
    network = model(1)
    with pytest.raises(ValueError, match=r"takes images of shape \(14, 24, 3\); got \(14, 22, 3\)"):
        network.forward(network.params, image((14, 22)))


@functools.cache
def derivatives(version: int) -> dict:
    """Of one network in double precision: values under decompositions, the effective transformation, and the operators' product."""
    with jax.enable_x64(True):
        network, target = model(version), jnp.asarray(np.random.default_rng(1).standard_normal(5))

        def run(params, x):
            values = {rules: network.forward(params, x, rules) for rules in ("gradient", "effective")}
            _, pull = jax.vjp(lambda x: network.forward(params, x, "effective"), x)
            operators = network.forward.operators(params, x)[1]
            product = operators["head"].transpose()(target[None])
            for stage in reversed(operators["stages"]):
                for block in reversed(in_turn(stage["blocks"]) + list(stage["last"])):
                    for branch in reversed(block):
                        product = product + branch.transpose()(product)
                if "merge" in stage:
                    product = stage["merge"].transpose()(product)
            product = operators["embedding"].transpose()(product)
            return {"values": values, "effective": pull(target)[0], "product": product}

        return jax.device_get(jax.jit(run)(network.params, image()))


def in_turn(stacked):
    rounds = len(jax.tree.leaves(stacked)[0]) if stacked else 0
    return [jax.tree.map(lambda leaf, i=i: leaf[i], turn) for i in range(rounds) for turn in stacked]


@pytest.mark.parametrize("version", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_effective_transformation_is_the_product_of_the_operators(version):
    found = derivatives(version)
    np.testing.assert_allclose(found["product"], found["effective"], rtol=0, atol=1e-12 * np.abs(found["effective"]).max())
    for values in found["values"].values():
        np.testing.assert_allclose(values, found["values"]["gradient"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("version", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_completeness_and_the_terms_of_biases(version, x64):
    network = model(version)
    assert float(dave.completeness(network, image(), 1)) < 1e-12
    parts = dave.bias_contributions(network, image(), 1)
    np.testing.assert_allclose(parts.image + parts.total, parts.logit, rtol=1e-12)
    assert parts.place is None and parts.terms["stages/0/blocks/mlp/fc1/bias"].shape == (3,)
    assert float(jnp.abs(parts.terms["stages/1/blocks/attention/query/bias"]).max()) == 0  # frozen with the scores
    assert not any("position" in path for path in parts.terms)


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_conservation_and_every_decomposition(version, x64):
    network = model(version)
    assert float(dave.conservation(network, image(), 1).relative) < 1e-12
    every = jax.jit(lambda params, x: [network.forward(params, x, rules) for rules in presets])(network.params, image())
    for values in every[1:]:
        np.testing.assert_allclose(values, every[0], rtol=0, atol=1e-12)


@pytest.mark.slow
def test_explain_and_methods():
    network, images = model(2), jnp.stack([image(), -image()])
    maps = dave.explain(network, images, [0, 1], key=jax.random.key(0))
    assert maps.shape == (2, *SMALL.image_size) and bool(jnp.isfinite(maps).all()) and float(maps.max()) == 1.0
    assert InputTimesGradient()(network, images, [0, 1]).shape == maps.shape
    with pytest.raises(TypeError, match=r"tokens and attention matrices.*InputTimesGradient"):
        Rollout()(network, images, [0, 1])


@pytest.mark.parametrize("version", [1, 2])
def test_another_size_and_a_file(version, tmp_path):
    network, size = model(version), (6, 40)
    other = at_image_size(network, size)
    assert other.forward.config.cuts(0)[0].window == (3, 3) and other.forward.config.cuts(1)[0].window == (2, 4)
    if version == 1:
        tables = [found.params["stages"]["1"]["blocks"]["attention"]["relative_position"] for found in (network, other)]
        assert tables[1].shape == (2, num_entries((2, 4), class_token=False), 2)
        np.testing.assert_array_equal(tables[1], resample_relative(tables[0], (2, 4), old_grid=(3, 4), class_token=False))
    logits = other.logits(image(size)[None])
    dave.save(network, tmp_path)
    read = dave.load(tmp_path)
    assert (read.forward, read.preprocessing) == (network.forward, network.preprocessing)
    np.testing.assert_array_equal(read.params["head"]["kernel"], network.params["head"]["kernel"])
    again = dave.load(tmp_path, image_size=size)
    assert again.forward == other.forward
    np.testing.assert_allclose(again.logits(image(size)[None]), logits, rtol=0, atol=1e-5)  # resampled on the host or on the device


def test_another_head():
    network = model(1)
    features = without_head(network)
    head = network.params["head"]
    assert features.logits(image()[None]).shape == (1, 8)
    again = with_head(features, head["kernel"], head["bias"])
    np.testing.assert_array_equal(again.logits(image()[None]), network.logits(image()[None]))


def test_coordinates():
    """By the paper's equation (arXiv 2111.09883, section 3.3), scaled to -8 to 8 before the logarithm."""
    places = coordinates((3, 2)).reshape(5, 3, 2)
    far = np.log2(9) / 3
    np.testing.assert_allclose(places[:, 0, 0], [-far, -np.log2(5) / 3, 0, np.log2(5) / 3, far], rtol=1e-12)
    np.testing.assert_allclose(places[0, :, 1], [-far, 0, far], rtol=1e-12)
    np.testing.assert_allclose(coordinates((3, 3), 2)[0], [-np.log2(17) / 3] * 2, rtol=1e-12)  # twice as far as in training
    assert not coordinates((1, 1)).any()
