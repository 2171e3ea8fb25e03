"""`explain_until`: laws with `explain`, and an error that is what it says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.testing import count_compilations

MODEL = dave.testing.tiny_model()
IMAGES = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
KEY = jax.random.key(1)
STILL = dave.DaveConfig(num_samples=4, noise_alpha=0.0, aggregation="mean", chunk_size=2)
LONGER = dataclasses.replace(STILL, num_samples=12)


def until(**options):
    return dave.explain_until(MODEL, IMAGES, [[0, 3], [2, 1]], key=KEY, **({"config": STILL, "raw": True, "max_rounds": 3} | options))


def test_a_broken_model_is_not_certain():
    head = jax.tree.map(lambda leaf: leaf * jnp.nan, MODEL.params["head"])
    broken = dataclasses.replace(MODEL, params=MODEL.params | {"head": head})
    config = dataclasses.replace(STILL, aggregation="mad_mean")
    found = dave.explain_until(broken, IMAGES, [0, 1], key=KEY, tolerance=0.5, config=config)
    assert np.isnan(found.maps).all() and np.isnan(found.error).all()


def test_rounds_are_one_call_of_explain():
    found = until(tolerance=0.0)
    assert found.num_samples.tolist() == [12, 12]
    maps, samples = dave.explain(MODEL, IMAGES, [[0, 3], [2, 1]], key=KEY, config=LONGER, raw=True, return_samples=True)
    np.testing.assert_allclose(found.maps, maps, rtol=1e-4, atol=1e-6 * float(jnp.abs(maps).max()))  # float32 sums in another order
    rounds = samples.sum(-1).reshape(2, 2, 3, 4, 16, 16).mean(3)  # image, target, round, sample
    expected = rounds.std(axis=2, ddof=1) / 3**0.5
    np.testing.assert_allclose(found.standard_error, expected, rtol=1e-3, atol=1e-5 * float(expected.max()))
    size = jnp.sqrt(jnp.square(maps.sum(-1)).mean((-2, -1)))
    np.testing.assert_allclose(found.error, jnp.sqrt(jnp.square(expected).mean((-2, -1))) / size, rtol=1e-3)


def test_heat_maps_are_those_of_the_mean():
    found, heat = until(tolerance=0.0), until(tolerance=0.0, raw=False)
    expected = jax.vmap(jax.vmap(lambda one: dave.postprocess(one, STILL)))(found.maps)
    np.testing.assert_allclose(heat.maps, expected, atol=1e-6)
    np.testing.assert_array_equal(heat.error, found.error)


def test_each_image_stops_when_its_worst_target_is_certain():
    sure = until(tolerance=1e9)
    assert sure.num_samples.tolist() == [8, 8]  # an error needs two rounds
    worst = sure.error.max(axis=1)
    between = float(worst.mean())
    some = until(tolerance=between, max_rounds=4)
    assert [count > 8 for count in some.num_samples.tolist()] == (worst > between).tolist()
    easy = int(jnp.argmin(worst))
    np.testing.assert_array_equal(some.maps[easy], sure.maps[easy])


def test_an_image_alone_is_the_same():
    alone = dave.explain_until(MODEL, IMAGES[1:], [2], key=KEY, tolerance=0.0, config=STILL, raw=True, max_rounds=3)
    both = until(tolerance=0.0)
    assert alone.maps.shape == (1, 16, 16, 3) and alone.error.shape == (1,) and alone.standard_error.shape == (1, 16, 16)
    np.testing.assert_allclose(alone.maps[0], both.maps[1, 0], atol=1e-6 * float(jnp.abs(both.maps).max()))


def test_the_standard_error_is_the_spread_over_keys():
    config = dataclasses.replace(STILL, num_samples=2, chunk_size=2)
    runs = [
        dave.explain_until(MODEL, IMAGES[:1], [0], key=jax.random.key(i), tolerance=0.0, max_rounds=8, config=config, raw=True)
        for i in range(24)
    ]
    spread = jnp.stack([run.maps.sum(-1) for run in runs]).std(axis=0, ddof=1)
    said = jnp.stack([run.standard_error for run in runs]).mean(axis=0)
    ratio = float(jnp.sqrt(jnp.square(said).mean() / jnp.square(spread).mean()))
    assert 0.8 < ratio < 1.25  # both from few draws, but over 256 pixels


def test_another_tolerance_compiles_nothing():
    until(tolerance=0.5)
    with count_compilations() as compiled:
        until(tolerance=0.25, max_rounds=5)
    assert not compiled


def test_the_models_chunk_size_is_kept():
    """A chunk of another size would take another amount of memory: what is traced once is the program of that chunk."""
    model = dataclasses.replace(MODEL, config=dataclasses.replace(STILL, num_samples=16))
    options = {"key": KEY, "tolerance": 1.0, "raw": True, "max_rounds": 2}
    dave.explain_until(model, IMAGES, [0, 1], config=STILL.with_samples(8), **options)
    with count_compilations() as compiled:
        dave.explain_until(model, IMAGES, [0, 1], **options)
    assert not compiled


def test_bad_settings():
    with pytest.raises(ValueError, match="at least 2"):
        until(tolerance=0.1, max_rounds=1)
    for tolerance in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="tolerance must be at least 0"):
            until(tolerance=tolerance)
