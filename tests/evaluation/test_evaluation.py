import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.evaluation.deletion import area_under_curve, deletion_curve
from dave_jax.evaluation.localisation import energy_in_region
from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing


def corner(params, image, decomposition):
    """The first logit is the brightness of the upper left quarter."""
    return jnp.stack([10.0 * jnp.mean(image[:8, :8]), jnp.zeros(())])


@pytest.fixture
def model():
    return Model(params=(), forward=corner, preprocessing=Preprocessing(image_size=(16, 16)))


def test_deleting_what_does_not_matter_costs_nothing(model):
    images = jnp.zeros((1, 16, 16, 3)).at[:, :8, :8].set(1.0)
    good, bad = images[..., 0], -images[..., 0]
    targets = jnp.array([0])
    area = lambda maps, first="least": float(area_under_curve(deletion_curve(model, images, targets, maps, steps=10, first=first))[0])
    assert area(good) > area(bad)
    assert area(good, "most") == pytest.approx(area(bad), abs=1e-6)
    curve = deletion_curve(model, images, targets, good, steps=7, fraction=0.6)  # three quarters do not matter
    assert np.allclose(curve, curve[0, 0], atol=1e-6)


def test_curve_starts_at_the_probability(model):
    images = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3))
    curve = deletion_curve(model, images, jnp.array([0, 1]), images[..., 0], steps=3)
    expected = jax.nn.softmax(model.logits(images))[jnp.arange(2), jnp.array([0, 1])]
    assert np.allclose(curve[:, 0], expected, atol=1e-6)


def test_energy_in_region():
    maps = jnp.array([[[2.0, -1.0], [1.0, 1.0]], [[-1.0, -1.0], [0.0, 0.0]]])
    region = jnp.array([[[True, True], [False, False]]] * 2)
    assert energy_in_region(maps, region).tolist() == [0.5, 0.0]


def test_bad_maps(model):
    images = jnp.zeros((1, 16, 16, 3))
    with pytest.raises(ValueError, match="maps must have shape"):
        deletion_curve(model, images, jnp.array([0]), jnp.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match=r"0 to 1.*got \[2\]"):
        deletion_curve(model, images, jnp.array([2]), images[..., 0])
    with pytest.raises(ValueError, match="'least' or 'most'"):
        deletion_curve(model, images, jnp.array([0]), images[..., 0], first="last")
