import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.attribution.dave import Dave
from dave_jax.evaluation.convergence import convergence
from dave_jax.testing import tiny_model

pytestmark = pytest.mark.slow

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)


def noisy(images, targets, num_samples, key):
    """An average whose correlation with another of n and m samples is known: 1 / sqrt((1 + 1/n) (1 + 1/m)) for signal and noise alike."""
    noise = jax.random.normal(key, images.shape[:3]) / num_samples**0.5
    return images.sum(-1) / 3**0.5 + noise


def test_likeness_grows_as_it_must():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 96, 96, 3)), jnp.float32)
    found = convergence(noisy, images, None, key=jax.random.key(0), num_samples=[1, 4, 16], reference=16)
    expected = [((1 + 1 / n) * (1 + 1 / 16)) ** -0.5 for n in (1, 4, 16)]
    assert found.num_samples == (1, 4, 16) and found.reference == 16
    assert np.allclose(found.correlation, np.array(expected)[:, None], atol=0.03)  # 9216 pixels: a standard error below 0.01
    assert (np.diff(found.overlap, axis=0) > 0).all() and (found.overlap < 1).all()  # the last run is not the reference's


def test_runs_are_independent_and_written_out():
    runs = []

    def attribute(images, targets, num_samples, key):
        runs.append((num_samples, targets, jax.random.key_data(key).tolist(), np.asarray(noisy(images, targets, num_samples, key))))
        return runs[-1][-1]

    found = convergence(attribute, IMAGES, "targets", key=jax.random.key(0), num_samples=(2, 2), reference=5)
    assert [run[:2] for run in runs] == [(5, "targets"), (2, "targets"), (2, "targets")]
    assert len({tuple(run[2]) for run in runs}) == 3
    many, *few = (run[3] for run in runs)
    for row, maps in enumerate(few):
        for i in range(2):
            assert float(found.correlation[row, i]) == pytest.approx(np.corrcoef(maps[i].ravel(), many[i].ravel())[0, 1], abs=1e-5)
            top = [set(np.argsort(-one.ravel())[:26]) for one in (maps[i], many[i])]  # a tenth of 256
            assert float(found.overlap[row, i]) == pytest.approx(len(top[0] & top[1]) / 26, abs=1e-6)


def test_of_dave():
    model = tiny_model()
    attribute = lambda images, targets, num_samples, key: Dave(num_samples=num_samples)(model, images, targets, key=key, raw=True)
    found = convergence(attribute, IMAGES, [0, 1], key=jax.random.key(0), num_samples=[2], reference=8)
    assert found.correlation.shape == found.overlap.shape == (1, 2) and (jnp.abs(found.correlation) < 0.9999).all()


def test_bad_input():
    for counts in ([], [0, 1], [1, 30]):
        with pytest.raises(ValueError, match="1 to reference=20"):
            convergence(noisy, IMAGES, None, key=jax.random.key(0), num_samples=counts, reference=20)
