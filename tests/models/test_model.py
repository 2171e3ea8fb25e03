"""`Model`: classes by name, images checked, and a pytree like any other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import dave_jax as dave
from dave_jax.models.model import check_images
from dave_jax.testing import count_compilations, tiny_model

NAMES = ("tench", "English springer", "cassette player", "golf ball", "3")


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(3), (3, 16, 16, 3))


@pytest.fixture
def model():
    return dataclasses.replace(tiny_model(), class_names=NAMES)


# Classes.


def test_names_and_numbers_are_inverse(model):
    assert [model.class_index(model.class_name(index)) for index in range(5)] == list(range(5))
    nameless = tiny_model()
    assert [nameless.class_index(nameless.class_name(index)) for index in range(5)] == list(range(5))


@pytest.mark.parametrize(
    ("name", "index"), [("english_springer", 1), ("  Golf Ball ", 3), ("2", 2), ("3", 4), ("17", 17)]
)  # a name goes before a number; whether the model has so many classes is `explain`'s to say
def test_names_are_found_in_any_case(model, name, index):
    assert model.class_index(name) == index


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tenhc", r"Near names: \['tench'\]"),
        ("golfball", r"Near names: \['golf ball'\]"),
        ("submarine", "5 named classes; give a class number"),
        ("-1", "give a class number"),
        ("²", "give a class number"),  # a digit, but no number
        ("", "give a class number"),
    ],
)
def test_unknown_names(model, name, hint):
    with pytest.raises(ValueError, match=f"class number or a class name of the model; got '{name}'.*{hint}"):
        model.class_index(name)


def test_a_model_without_names_has_numbers_only():
    with pytest.raises(ValueError, match="0 named classes"):
        tiny_model().class_index("tench")


# Images.


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_numpy_images_are_images(model, images, kind):
    """In the precision of the device, at least single."""
    checked = check_images(np.asarray(images).astype(kind), (16, 16))
    assert isinstance(checked, jax.Array) and checked.dtype == jnp.result_type(float)
    assert float(jnp.abs(checked.astype(float) - images).max()) < 2e-3


def test_every_broken_image_is_named(model, images):
    broken = images.at[0, 1, 2, 0].set(jnp.inf).at[2, 0, 0, 1].set(-jnp.nan)
    with pytest.raises(ValueError, match=r"images \[0, 2\] of the batch"):
        model.logits(broken)


@pytest.mark.parametrize(
    ("shape", "remedy"), [((16, 16, 3), r"images\[None\]"), ((2, 32, 32, 3), "image_size="), ((0, 16, 16, 3), "b >= 1"), ((), "preprocess")]
)
def test_a_wrong_shape_comes_with_its_remedy(model, shape, remedy):
    with pytest.raises(ValueError, match=rf"\(b, 16, 16, 3\).*{remedy}"):
        model.logits(np.zeros(shape, np.float32))


@pytest.mark.parametrize("kind", [np.uint8, np.int32, bool, complex])
def test_pixels_are_real_and_normalised(model, kind):
    with pytest.raises(TypeError, match=r"floating point.*model.preprocess"):
        model.logits(np.zeros((1, 16, 16, 3), kind))


def test_what_is_no_array(model):
    with pytest.raises(TypeError, match=r"got list.*model.preprocess"):
        check_images([[0.0]], (16, 16))


def test_traced_images_are_checked_for_their_shape(model, images):
    """Their values are not known."""
    assert bool(jnp.isnan(jax.jit(model.logits)(images * jnp.nan)).all())
    with pytest.raises(ValueError, match="Add a batch axis"):
        jax.jit(model.logits)(images[0])


def test_preprocess_is_preprocessing_on_the_device(model):
    photos = [Image.new("RGB", (40, 30), "red"), np.full((9, 9, 3), 200, np.uint8)]
    prepared = model.preprocess(photos)
    assert isinstance(prepared, jax.Array) and prepared.shape == (2, 16, 16, 3)
    np.testing.assert_array_equal(prepared, model.preprocessing(photos))


# Logits.


def test_a_batch_is_its_images(x64):
    """40 images are one whole group of 32 and a rest."""
    model = tiny_model()
    model = dataclasses.replace(model, params=jax.tree.map(lambda leaf: leaf.astype(float), model.params))
    images = jax.random.normal(jax.random.key(1), (40, 16, 16, 3))
    logits = model.logits(images)
    forward = jax.jit(model.forward)
    single = jnp.stack([forward(model.params, image) for image in images])
    assert logits.shape == (40, 5)
    assert float(jnp.abs(logits - single).max()) < 1e-12


# A pytree.


def test_leaves_are_parameters_and_settings(model):
    leaves = jax.tree.leaves(model)
    settings = [value for value in vars(model.config).values() if isinstance(value, float)]
    assert len(leaves) == len(jax.tree.leaves(model.params)) + len(settings)
    rebuilt = jax.tree.unflatten(jax.tree.structure(model), leaves)
    assert dataclasses.replace(rebuilt, params=None) == dataclasses.replace(model, params=None)


def test_tree_map_makes_models(model, images):
    silent = jax.tree.map(jnp.zeros_like, model)
    assert isinstance(silent, dave.Model) and silent.class_names == NAMES
    assert not silent.logits(images).any()


def test_passes_through_jit(model, images):
    logits = jax.jit(lambda model, images: model.logits(images))
    assert float(jnp.abs(logits(model, images) - model.logits(images)).max()) < 1e-6  # compiled another way
    other = dataclasses.replace(model, params=tiny_model(seed=5).params, config=dave.DaveConfig(num_samples=4, noise_alpha=0.1))
    with count_compilations() as compiled:
        logits(other, images)
    assert compiled == []


def test_an_ensemble_is_a_model_with_one_more_axis(images):
    members = [tiny_model(seed) for seed in (0, 1)]
    ensemble = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    logits = jax.vmap(lambda model: model.logits(images))(ensemble)
    expected = jnp.stack([member.logits(images) for member in members])
    assert float(jnp.abs(expected[0] - expected[1]).max()) > 0.1
    assert float(jnp.abs(logits - expected).max()) < 1e-5


def test_the_gradient_by_a_model_is_a_model(model, images):
    gradient = jax.grad(lambda model: jnp.sum(model.logits(images)[:, 2]))(model)
    assert isinstance(gradient, dave.Model)
    assert gradient.params["head"]["bias"].tolist() == [0.0, 0.0, 3.0, 0.0, 0.0]
    assert float(gradient.config.noise_alpha) == 0.0


def test_immutable(model):
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.name = "other"
