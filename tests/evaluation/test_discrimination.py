import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.evaluation.discrimination import class_discrimination, discrimination, runner_up, shared_mass
from dave_jax.testing import tiny_model

MAPS = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)


def test_written_out():
    found = discrimination(jnp.asarray(MAPS))
    for i, (a, b, c) in enumerate(MAPS):
        pairs = [(a, b), (a, c), (b, c)]
        distances = [1 - np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in pairs]
        positive = [(np.maximum(one, 0) / np.maximum(one, 0).sum(), np.maximum(two, 0) / np.maximum(two, 0).sum()) for one, two in pairs]
        assert float(found.distance[i]) == pytest.approx(np.mean(distances), abs=1e-6)
        assert float(found.shared[i]) == pytest.approx(np.mean([np.minimum(p, q).sum() for p, q in positive]), abs=1e-6)


def test_a_blind_method_tells_nothing_apart():
    equal = jnp.asarray(np.repeat(MAPS[:, :1], 2, axis=1))
    found = discrimination(equal)
    assert np.allclose(found.distance, 0.0, atol=1e-6) and np.allclose(found.shared, 1.0, atol=1e-6)
    scaled = discrimination(equal * jnp.array([1.0, 1e-20]).reshape(1, 2, 1, 1))  # a map's scale does not matter
    assert np.allclose(scaled.distance, 0.0, atol=1e-6) and np.allclose(scaled.shared, 1.0, atol=1e-6)


def test_maps_of_different_pixels():
    halves = jnp.zeros((2, 4, 4)).at[0, :2].set(1.0).at[1, 2:].set(3.0)
    found = discrimination(halves)
    assert found.shared.item() == 0.0 and found.distance.item() == pytest.approx(2.0, abs=1e-6)


def test_maps_without_positive_mass_are_defined():
    some, none = jnp.ones((4, 4)).at[0, 0].set(2.0), -jnp.ones((4, 4))
    assert shared_mass(jnp.stack([some, none, none]), jnp.stack([none, some, none])).tolist() == [0.0, 0.0, 1.0]
    found = discrimination(jnp.zeros((2, 4, 4)))
    assert (found.distance.item(), found.shared.item()) == (0.0, 1.0)


def test_of_a_model(key):
    model, images = tiny_model(), jax.random.normal(key, (2, 16, 16, 3))
    logits = np.asarray(model.logits(images))
    order = np.argsort(logits, axis=-1)
    assert np.array_equal(runner_up(model, images, order[:, -1]), order[:, -2])
    assert np.array_equal(runner_up(model, images, order[:, 0]), order[:, -1])  # of a target that is not the best, the best

    attribute = lambda images, targets: InputTimesGradient()(model, images, targets, raw=True)
    targets = order[:, -2:]
    found = class_discrimination(attribute, images, targets)
    apart = jnp.stack([attribute(images, targets[:, 0]), attribute(images, targets[:, 1])], axis=1)
    assert found.distance.shape == (2,) and (found.distance > 0.01).all() and (found.shared < 0.999).all()
    assert np.allclose(found.distance, discrimination(apart).distance, atol=1e-5)


def test_bad_input():
    attribute = lambda images, targets: images[..., 0][:, None]
    with pytest.raises(ValueError, match="two classes or more"):
        discrimination(jnp.zeros((3, 1, 4, 4)))
    with pytest.raises(ValueError, match=r"shape \(2, k\) with k >= 2.*got \(2,\)"):
        class_discrimination(attribute, jnp.zeros((2, 4, 4, 3)), [0, 1])
    with pytest.raises(ValueError, match=r"images \[1\] have one twice"):
        class_discrimination(attribute, jnp.zeros((2, 4, 4, 3)), [[0, 1], [2, 2]])
    with pytest.raises(ValueError, match=r"must return signed maps of shape \(2, 2, 4, 4\)"):
        class_discrimination(attribute, jnp.zeros((2, 4, 4, 3)), [[0, 1], [2, 1]])
    with pytest.raises(ValueError, match=r"targets must have shape \(1,\)"):
        runner_up(tiny_model(), jnp.zeros((1, 16, 16, 3)), [0, 1])
