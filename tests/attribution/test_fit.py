"""What a configuration leaves open: precision, warp adjoint, pilot; and that the choices keep the map."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.attribution.explain import _explain
from dave_jax.attribution.fit import fitted
from dave_jax.attribution.neighbourhood import pilot_numbers
from dave_jax.effective.decomposition import effective
from dave_jax.evaluation.similarity import pearson
from dave_jax.testing import tiny_model

KEY = jax.random.key(5)
CONFIG = dave.DaveConfig(num_samples=8, noise_alpha=0.5)
IMAGE = jax.ShapeDtypeStruct((16, 16, 3), jnp.float32)


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(3), (2, 16, 16, 3))


def attribution(images, model=None, **changes):
    return dave.explain(model or tiny_model(), images, [0, 1], key=KEY, config=dataclasses.replace(CONFIG, **changes), raw=True)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"scale_max": 1.9, "rotation": 1.0}], ids=str)
def test_gathering_warp_gives_the_same_map(images, changes):
    scattered, gathered = (attribution(images, warp_adjoint=adjoint, **changes) for adjoint in ("scatter", "gather"))
    assert float(jnp.abs(scattered - gathered).max()) < 2e-6 * float(jnp.abs(scattered).max())  # other orders of the same sums


def test_gathering_warp_is_refused_where_it_is_not_exact():
    def adjoint(**changes):
        config = dataclasses.replace(CONFIG, warp_adjoint="gather", **changes)
        return fitted(config, tiny_model(), effective, IMAGE, 1).warp_adjoint

    for beyond in ({"scale_max": 1.8}, {"scale_min": 3.0, "rotation": 0.0}, {"random_padding": True}):
        with pytest.raises(ValueError, match=r"exact up to a reach of 2.*Use 'scatter'"):
            adjoint(**beyond)
    assert adjoint(scale_max=1.9, rotation=1.0) == "gather"


@pytest.mark.slow
def test_half_precision_is_near(images):
    """Eight bits: a map of eight samples of a random network correlates to more than 0.99."""
    full, half = attribution(images), attribution(images, precision="bfloat16")
    assert half.dtype == jnp.float32
    assert 0.99 < float(pearson(full.sum(-1), half.sum(-1)).min()) < 1.0


@pytest.mark.parametrize(
    "options", [{"pooling": "map", "class_token": False}, {"num_registers": 2, "layer_scale": True}, {"query_key_norm": True}], ids=str
)
def test_half_precision_flows_through(options):
    """Nothing on the way promotes to float32 and back: under strict promotion it would raise."""
    model = tiny_model(**options)
    logits = jax.eval_shape(lambda params, image: model.forward(params, image, "effective"), *jax.tree.map(_half, (model.params, IMAGE)))
    assert logits.dtype == jnp.bfloat16


def _half(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16)


def test_half_precision_of_a_foreign_function_is_refused(images):
    model = dave.Model.from_function(lambda image: jnp.tanh(image).sum((0, 1)), preprocessing=dave.Preprocessing((16, 16)))
    with pytest.raises(ValueError, match=r"networks of ours.*Cast its parameters"):
        attribution(images, model, precision="bfloat16")


def test_pilot_of_all_samples_is_mad_mean(images):
    maps, samples = dave.explain(tiny_model(), images, [0, 1], key=KEY, config=CONFIG, raw=True, return_samples=True)
    assert samples.shape == (2, 8, 16, 16, 3)
    for pilot in (None, 8):
        other = attribution(images, mad_pilot=pilot, chunk_size=3)
        assert float(jnp.abs(maps - other).max()) < 1e-6 * float(jnp.abs(maps).max())


def test_pilot_takes_the_bounds_from_its_samples_alone(images):
    """The slow version: median and deviation of half of the samples, the mean of all that lie within."""
    _, samples = dave.explain(tiny_model(), images, [0, 1], key=KEY, config=CONFIG, raw=True, return_samples=True)
    samples = np.asarray(samples)
    some = np.sort(samples[:, pilot_numbers(8, 4)], axis=1)
    centre = some[:, 1]  # the lower of the two in the middle
    radius = 2.5 * (1.4826 * np.sort(np.abs(some - centre[:, None]), axis=1)[:, 1] + 1e-8)
    keep = np.abs(samples - centre[:, None]) <= radius[:, None]
    expected = (samples * keep).sum(1) / keep.sum(1)
    found = np.asarray(attribution(images, mad_pilot=4))
    away = np.abs(found - expected) > 1e-5 * np.abs(expected).max()
    assert away.mean() < 1e-3  # a sample that lies on the bound to within rounding falls on either side


@pytest.mark.slow
def test_pilot_bounds_the_memory(images):
    model = tiny_model()

    def memory(num_samples):
        config = dataclasses.replace(CONFIG, num_samples=num_samples, mad_pilot=8, chunk_size=2, precision="float32", warp_adjoint="gather")
        arguments = (images, jnp.ones((2, 1, 5)), KEY, jnp.zeros(2, jnp.uint32), config, False, False, None)
        return _explain.lower(model.forward, effective, model.params, *arguments).compile().memory_analysis().temp_size_in_bytes

    assert memory(128) - memory(32) < 96 * 32  # numbers and levels of the samples, not their maps of 3 KiB each


def test_short_memory_makes_a_pilot(monkeypatch):
    monkeypatch.setattr("dave_jax.attribution.fit.device_memory", lambda platform: 2**20)
    config = fitted(dataclasses.replace(CONFIG, num_samples=1000), tiny_model(), effective, IMAGE, 1)
    assert config.mad_pilot == 32
    monkeypatch.setattr("dave_jax.attribution.fit.device_memory", lambda platform: 2**34)
    assert fitted(dataclasses.replace(CONFIG, num_samples=1000), tiny_model(), effective, IMAGE, 1).mad_pilot == 1000


def test_accelerators_get_half_precision(monkeypatch):
    assert fitted(CONFIG, tiny_model(), effective, IMAGE, 1).precision == "float32"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert fitted(CONFIG, tiny_model(), effective, IMAGE, 1).precision == "bfloat16"


def test_the_warp_gathers_where_that_is_exact():
    assert fitted(CONFIG, tiny_model(), effective, IMAGE, 1).warp_adjoint == "gather"
    wide = fitted(dataclasses.replace(CONFIG, scale_max=1.9), tiny_model(), effective, IMAGE, 1)
    assert wide.warp_adjoint == "scatter"


def test_samples_that_a_pilot_does_not_hold(images):
    with pytest.raises(ValueError, match="mad_pilot=4 does not hold all 8 samples"):
        dave.explain(tiny_model(), images, [0, 1], key=KEY, config=dataclasses.replace(CONFIG, mad_pilot=4), return_samples=True)
    with pytest.raises(ValueError, match="mad_pilot must be between 1 and num_samples=8"):
        dataclasses.replace(CONFIG, mad_pilot=9)


def test_a_pilot_follows_no_period():
    """Every second sample of a lattice is flipped: a pilot of every second number would see flips alone."""
    for count, pilot in ((64, 32), (100, 50), (128, 32), (1000, 64)):
        numbers = pilot_numbers(count, pilot)
        assert len(set(numbers.tolist())) == pilot and numbers.min() >= 0 and numbers.max() < count
        assert 0.3 < np.mean(numbers % 2) < 0.7


@pytest.mark.slow
def test_samples_are_held_where_they_are_wanted(images, monkeypatch):
    monkeypatch.setattr("dave_jax.attribution.fit.device_memory", lambda platform: 2**10)
    config = dataclasses.replace(CONFIG, num_samples=40)
    assert dave.explain(tiny_model(), images, [0, 1], key=KEY, config=config, return_samples=True)[1].shape[1] == 40
