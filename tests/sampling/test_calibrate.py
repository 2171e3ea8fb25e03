import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.config import DaveConfig
from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing
from dave_jax.sampling.calibrate import calibrate, last_within
from dave_jax.testing import count_compilations, tiny_model


def mean_brightness(params, image, decomposition):
    """Two logits whose difference is the mean of the image: along the path its signal falls as 1 - t, and its noise averages out."""
    return jnp.stack([params * jnp.mean(image), jnp.zeros(())])


def brightness_model(gain):
    return Model(params=jnp.array(gain), forward=mean_brightness, preprocessing=Preprocessing(image_size=(64, 64)))


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_finds_where_the_probability_has_changed_by_the_tolerance(gain):
    images = jnp.ones((4, 64, 64, 3))
    found = calibrate(brightness_model(gain), images, key=jax.random.key(0), tolerance=0.1)
    clean = 1 / (1 + np.exp(-gain))
    signal = np.log((clean - 0.1) / (1 - clean + 0.1)) / gain  # sigmoid(gain * signal) = clean - tolerance
    assert abs(found.noise_alpha - (1 - signal)) < 0.02  # the curve is interpolated between levels about 0.1 apart
    assert found.config.noise_alpha == found.noise_alpha
    assert found.change[0] < 1e-6 and len(found.change) == len(found.levels)


def test_transforms_that_change_too_much_are_weakened():
    """Brightness falls when zeros are shifted in: strong shifts are not within a small tolerance."""
    model = brightness_model(4.0)
    found = calibrate(model, jnp.ones((8, 64, 64, 3)), key=jax.random.key(0), tolerance=0.002)
    assert 0.0 < found.strength < 1.0
    assert found.config.rotation == pytest.approx(20.0 * found.strength)
    assert found.config.scale_max == pytest.approx(1.0 + 0.1 * found.strength)
    assert calibrate(model, jnp.ones((2, 64, 64, 3)), key=jax.random.key(0), tolerance=0.5).strength == 1.0


def test_compiles_once():
    model, images = tiny_model(), jnp.ones((2, 16, 16, 3))
    calibrate(model, images, jnp.array([0, 1]), key=jax.random.key(0))
    with count_compilations() as compiled:
        calibrate(model, 2.0 * images, jnp.array([1, 0]), key=jax.random.key(1), tolerance=0.3)
    assert not [name for name in compiled if "sensitivity" in name]


def test_curve_that_never_crosses():
    assert last_within(np.array([0.0, 0.5]), np.array([0.0, 0.1]), 0.2) == 0.5


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -0.1])
def test_bad_tolerance(tolerance):
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibrate(tiny_model(), jnp.ones((1, 16, 16, 3)), key=jax.random.key(0), tolerance=tolerance)


def test_targets_out_of_range():
    with pytest.raises(ValueError, match=r"0 to 4.*got \[5\]"):
        calibrate(tiny_model(), jnp.ones((2, 16, 16, 3)), jnp.array([0, 5]), key=jax.random.key(0))


def test_bad_targets():
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        calibrate(tiny_model(), jnp.ones((2, 16, 16, 3)), jnp.array([0]), key=jax.random.key(0))


def test_targets_that_are_no_classes():
    with pytest.raises(TypeError, match="class ids"):
        calibrate(tiny_model(), jnp.ones((2, 16, 16, 3)), jnp.array([0.0, 1.0]), key=jax.random.key(0))


def test_a_broken_model_is_not_calibrated():
    model = brightness_model(jnp.nan)
    with pytest.raises(ValueError, match="not finite"):
        calibrate(model, jnp.ones((2, 64, 64, 3)), jnp.array([0, 0]), key=jax.random.key(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "num_samples must be an integer of at least 1"),
        ({"num_samples": 4, "chunk_size": 5}, "chunk_size must be between 1 and num_samples=4"),
        ({"noise_alpha": 1.5}, r"noise_alpha must lie in \[0, 1\]"),
        ({"aggregation": "mode"}, "aggregation"),
        ({"gaussian_size": 4}, "gaussian_size must be odd"),
        ({"gaussian_sigma": 0.0}, "gaussian_share=0 switches the blur off"),
        ({"bilateral_sigma": 0.0}, "bilateral_size=1 switches the filter off"),
        ({"bilateral_range": 0.0}, "bilateral_size=1 switches the filter off"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):  # the type checker of the tests may come first
        DaveConfig(**settings)
