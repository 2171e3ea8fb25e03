"""SmoothGrad: an explicit loop, and what it shares with DAVE."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_model import small_model

import dave_jax as dave
from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.attribution.baselines.smoothgrad import KINDS, SmoothGrad
from dave_jax.attribution.inputs import image_id

KEY = jax.random.key(7)
STILL = dave.DaveConfig(num_samples=2, flip_probability=0.0, rotation=0.0, shift=0.0, scale_min=1.0, scale_max=1.0, aggregation="mean")
"""DAVE without transforms."""


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def image():
    return jax.random.normal(jax.random.key(3), (16, 16, 3))


@pytest.fixture(scope="module")
def gradients(model, image):
    """Three, one after the other, at a sigma of 0.2."""
    derivative = jax.jit(jax.grad(lambda image: model.forward(model.params, image, "gradient")[2]))
    found = []
    for i in range(3):
        noise_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(KEY, image_id(image)), i))[1]
        found.append(derivative(image + 0.2 * (image.max() - image.min()) * jax.random.normal(noise_key, image.shape)))
    return np.stack(found)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_a_loop(kind, model, image, gradients):
    expected = {
        "times_input": (np.asarray(image) * gradients.mean(0)).sum(-1),
        "gradient": gradients.mean(0).sum(-1),
        "magnitude": np.abs(gradients.mean(0)).sum(-1),
        "square": (gradients**2).mean(0).sum(-1),
    }[kind]
    found = SmoothGrad(num_samples=3, sigma=0.2, kind=kind)(model, image[None], [2], key=KEY, raw=True)
    np.testing.assert_allclose(found[0], expected, atol=2e-6 * np.abs(expected).max())


def test_without_noise_it_is_input_times_gradient(model, image):
    found = SmoothGrad(num_samples=2, sigma=0.0)(model, image[None], [2], key=KEY, raw=True)
    expected = InputTimesGradient()(model, image[None], [2], raw=True)
    np.testing.assert_allclose(found, expected, atol=1e-6 * float(jnp.abs(found).max()))


@dataclasses.dataclass(frozen=True)
class Enlarged:
    """The model of `x / factor`."""

    forward: dave.models.model.Forward
    factor: float

    def __call__(self, params, image, decomposition):
        return self.forward(params, image / self.factor, decomposition)


def test_a_sample_is_daves_on_a_model_that_undoes_its_shrinking(model, image):
    """DAVE looks at `(1 - t) (x + s eps)`, `s = sqrt(1 - (1 - t)^2) / (1 - t)`: through f(x / (1 - t)), SmoothGrad's sample at noise s."""
    t = 0.4
    config = dataclasses.replace(STILL, noise_alpha=t)
    enlarged = dataclasses.replace(model, forward=Enlarged(model.forward, 1 - t))
    options = {"key": KEY, "config": config, "decomposition": "gradient", "raw": True, "return_samples": True}
    _, samples = dave.explain(enlarged, image[None], [2], **options)
    sigma = np.sqrt(1 - (1 - t) ** 2) / (1 - t) / float(image.max() - image.min())
    one, two = (SmoothGrad(num_samples=n, sigma=sigma)(model, image[None], [2], key=KEY, raw=True)[0] for n in (1, 2))
    second = 2 * two - one  # levels go from 0 to t, so DAVE's second sample is the noisy one
    np.testing.assert_allclose(samples[0, 1].sum(-1), second, atol=1e-5 * float(jnp.abs(second).max()))
