"""The Wiener filter against slow sums, its limits, and `explain` with it against its own samples."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.attribution.aggregate import biweight, mad_bounds, tukey
from dave_jax.attribution.smoothing import rings, smooth, wiener
from dave_jax.models.bcos import BcosViT
from dave_jax.models.bcos_config import BcosViTConfig, init_params
from dave_jax.testing import tiny_model

KEY = jax.random.key(3)
CONFIG = dave.DaveConfig(num_samples=6, noise_alpha=0.4, smoothing=True, chunk_size=2)


def slow_wiener(average, one, other):
    """With cosines written out, coefficient by coefficient."""

    def cosines(size):
        rows = np.cos(np.pi * np.arange(size)[:, None] * (np.arange(size) + 0.5) / size)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    (height, width, _), where = average.shape, rings(*average.shape[:2])
    down, across = cosines(height), cosines(width)
    spectra = [np.einsum("ih,jw,hwc->ijc", down, across, array) for array in (average, one, other)]
    gain = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            same = where == where[i, j]
            gain[i, j] = np.clip((spectra[1] * spectra[2])[same].sum() / (spectra[0] ** 2)[same].sum(), 0, 1)
    return np.einsum("ih,jw,ijc->hwc", down, across, spectra[0] * gain[..., None])


def test_equals_slow_version(x64):
    random = np.random.default_rng(0)
    signal, noise = random.normal(size=(7, 12, 3)), random.normal(size=(2, 7, 12, 3))
    arrays = signal + noise.mean(0), signal + noise[0], signal + noise[1]
    found, expected = wiener(*map(jnp.asarray, arrays)), slow_wiener(*arrays)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert np.abs(found - arrays[0]).max() > 0.1


def test_rings_grow_with_the_frequency_alone():
    where, (height, width) = rings(24, 48), (24, 48)
    frequencies = np.hypot(np.arange(height)[:, None] / (2 * height), np.arange(width)[None] / (2 * width))
    order = np.argsort(frequencies.ravel())
    assert (np.diff(where.ravel()[order]) >= 0).all()
    assert set(np.unique(where)) >= {0, 1, 2} and (where == 0).sum() > 4


def test_halves_that_agree_change_nothing_and_halves_that_contradict_leave_nothing():
    array = jax.random.normal(KEY, (8, 12, 3))
    np.testing.assert_allclose(wiener(array, array, array), array, atol=1e-5)
    assert not wiener(array, array, -array).any()
    assert not wiener(0 * array, array, -array).any()


def test_what_the_image_multiplies_is_smoothed(x64):
    image = jax.random.normal(KEY, (8, 8, 3)).at[2, 3].set(0.0)
    parts = jax.random.normal(jax.random.key(4), (3, 8, 8, 3)).at[:, 2, 3].set(0.0)
    found = smooth(*(image * part for part in parts), image)
    np.testing.assert_allclose(found, image * wiener(*parts), rtol=0, atol=1e-12)


def of_samples(samples, image, aggregation):
    """The smoothed average of samples, from `aggregate` and `wiener`: samples 0 and 1 of each four are one half, 2 and 3 the other."""
    first = np.arange(len(samples)) % 4 < 2
    if aggregation == "biweight":
        bounds = mad_bounds(samples)
        weights = jnp.stack([tukey(sample, *bounds) for sample in samples])
        halves = [(weights * samples)[half].sum(0) / jnp.maximum(weights[half].sum(0), 1e-300) for half in (first, ~first)]
        return smooth(biweight(samples), *halves, image)
    return smooth(samples.mean(0), samples[first].mean(0), samples[~first].mean(0), image)


@pytest.mark.parametrize("aggregation", ["biweight", pytest.param("mean", marks=pytest.mark.slow)])
def test_explain_smooths_the_average_of_its_samples(aggregation, x64):
    model, images = tiny_model(), jax.random.normal(KEY, (1, 16, 16, 3))
    model = dataclasses.replace(model, params=jax.tree.map(lambda leaf: leaf.astype(float), model.params))
    config = dataclasses.replace(CONFIG, aggregation=aggregation)
    found, samples = dave.explain(model, images, [[0, 1]], key=KEY, config=config, raw=True, return_samples=True)
    expected = jnp.stack([of_samples(of_class, images[0], aggregation) for of_class in samples[0]])
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-10 * float(jnp.abs(expected).max()))
    streaming = config if aggregation == "biweight" else dataclasses.replace(config, aggregation="streaming_mean")
    again = dave.explain(model, images, [[0, 1]], key=KEY, config=streaming, raw=True)
    np.testing.assert_allclose(again[0], expected, rtol=0, atol=1e-10 * float(jnp.abs(expected).max()))
    plain = dave.explain(model, images, [[0, 1]], key=KEY, config=dataclasses.replace(streaming, smoothing=False), raw=True)
    assert float(jnp.abs(plain - again).max()) > 0.01 * float(jnp.abs(plain).max())


def test_a_pilot_changes_bounds_alone():
    """Held samples and those added up: with a threshold that keeps all, the same map."""
    model, images = tiny_model(), jax.random.normal(KEY, (1, 16, 16, 3))
    config = dataclasses.replace(CONFIG, mad_threshold=1e6)
    one, other = (
        dave.explain(model, images, [0], key=KEY, config=dataclasses.replace(config, mad_pilot=pilot), raw=True) for pilot in (6, 3)
    )
    np.testing.assert_allclose(one, other, atol=1e-5 * float(jnp.abs(one).max()))


def test_where_it_is_refused():
    config = BcosViTConfig(patch_size=(4, 4), width=8, depth=1, num_heads=2, mlp_width=16, num_classes=3)
    bcos = dave.Model(init_params(KEY, config), BcosViT(config), preprocessing=dave.Preprocessing((8, 8)))
    with pytest.raises(ValueError, match=r"a BcosViT sees channels made of it.*Leave smoothing out"):
        dave.explain(bcos, jnp.ones((1, 8, 8, 3)), [0], key=KEY, config=CONFIG)
    model, images = tiny_model(), jnp.ones((1, 16, 16, 3))
    with pytest.raises(ValueError, match="explain_rounds does not smooth"):
        dave.explain_rounds(model, images, [0], key=KEY, config=CONFIG)
    with pytest.raises(ValueError, match="explain_until does not smooth"):
        dave.explain_until(model, images, [0], key=KEY, config=CONFIG, tolerance=0.1)
    with pytest.raises(ValueError, match="two halves of at least 4 samples; got num_samples=3"):
        dave.DaveConfig(num_samples=3, smoothing=True)
