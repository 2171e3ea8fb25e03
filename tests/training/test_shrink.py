"""From a large network to a small one: each step is the identity where it has nothing to leave out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convert_weights.table import flatten
from dave_jax.models.vit import ViT
from dave_jax.testing import tiny_model
from dave_jax.training.shrink import at_image_size, fit_head, keep_first_blocks, narrow_mlp, narrow_mlps

pytestmark = pytest.mark.slow


def logits(params, config, images):
    return jax.jit(jax.vmap(ViT(config), (None, 0)))(params, images)


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(1), (6, 16, 16, 3))


def test_first_blocks_and_a_silent_head(images):
    """The features are the mean of the patches after the blocks that are kept."""
    model = tiny_model(depth=3, num_registers=1)
    params, config = keep_first_blocks(model.params, model.forward.config, depth=2, num_classes=7)
    assert not logits(params, config, images).any()
    assert (config.depth, config.num_classes, config.pooling, config.final_norm) == (2, 7, "avg", "pooled")
    for path, leaf in flatten(params["blocks"]).items():
        np.testing.assert_array_equal(leaf, flatten(model.params["blocks"])[path][:2])
    assert set(flatten(params)) == set(flatten(model.params))


def test_another_image_size(images):
    model = tiny_model()
    params, config = at_image_size(model.params, model.forward.config, 24)
    assert config == dataclasses.replace(model.forward.config, image_size=(24, 24))
    assert params["position_embedding"].shape == (1 + 36, 16)
    assert logits(params, config, jnp.zeros((2, 24, 24, 3))).shape == (2, 5)
    same, _ = at_image_size(model.params, model.forward.config, 16)
    np.testing.assert_array_equal(same["position_embedding"], model.params["position_embedding"])


@pytest.mark.parametrize("options", [{}, {"layer_scale": True, "activation": "quick_gelu"}], ids=str)
def test_all_units_kept_is_the_identity(options, images):
    """Up to the ridge, which is as small as float32 allows; and units that say nothing cost nothing."""
    model = tiny_model(**options)
    narrowed, config = narrow_mlps(model.params, model.forward.config, images, mlp_width=32, ridge=1e-6)
    before = logits(model.params, model.forward.config, images)
    assert config == model.forward.config
    assert float(jnp.abs(logits(narrowed, config, images) - before).max()) < 1e-3 * float(jnp.abs(before).max())


def test_units_without_weight_go_first(images):
    model = tiny_model()
    kernel = model.params["blocks"]["mlp"]["fc2"]["kernel"]
    silent = np.array([3, 8, 20])
    mlp = model.params["blocks"]["mlp"] | {"fc2": model.params["blocks"]["mlp"]["fc2"] | {"kernel": kernel.at[:, silent].set(0.0)}}
    params = model.params | {"blocks": model.params["blocks"] | {"mlp": mlp}}
    narrowed, config = narrow_mlps(params, model.forward.config, images, mlp_width=29, ridge=1e-6)
    kept = np.setdiff1d(np.arange(32), silent)
    np.testing.assert_array_equal(narrowed["blocks"]["mlp"]["fc1"]["kernel"], mlp["fc1"]["kernel"][:, :, kept])
    before = logits(params, model.forward.config, images)
    assert config.mlp_width == 29
    assert float(jnp.abs(logits(narrowed, config, images) - before).max()) < 1e-3 * float(jnp.abs(before).max())


def test_the_output_layer_is_the_least_squares_one():
    """Against NumPy's solver, where units that are left out are mixtures of those that stay."""
    generator = np.random.default_rng(0)
    units = generator.normal(size=(200, 6)).astype(np.float32)
    units[:, 4:] = 1 + units[:, :2] @ generator.normal(size=(2, 2)).astype(np.float32)
    kernel = np.concatenate([10 * generator.normal(size=(4, 3)), 0.1 * generator.normal(size=(2, 3))]).astype(np.float32)
    layer = {"kernel": np.eye(6, dtype=np.float32), "bias": np.zeros(6, np.float32)}
    narrowed = narrow_mlp({"fc1": layer, "fc2": {"kernel": kernel, "bias": np.ones(3, np.float32)}}, units, 4, 1e-9)
    assert narrowed.kept.tolist() == [0, 1, 2, 3]
    output = units[:, :4] @ narrowed.params["fc2"]["kernel"] + narrowed.params["fc2"]["bias"]
    np.testing.assert_allclose(output, units @ kernel + 1, rtol=0, atol=2e-4)
    noisy = generator.normal(size=(200, 6)).astype(np.float32)  # now something is lost, and least squares loses least
    narrowed = narrow_mlp({"fc1": layer, "fc2": {"kernel": kernel, "bias": np.ones(3, np.float32)}}, noisy, 4, 1e-9)
    design = np.column_stack([noisy[:, narrowed.kept], np.ones(200)])
    solution, *_ = np.linalg.lstsq(design, noisy @ kernel + 1, rcond=None)
    np.testing.assert_allclose(narrowed.params["fc2"]["kernel"], solution[:-1], rtol=0, atol=1e-4)
    np.testing.assert_allclose(narrowed.params["fc2"]["bias"], solution[-1], rtol=0, atol=1e-4)


def test_a_ridge_shrinks_the_output_layer():
    generator = np.random.default_rng(0)
    units = generator.normal(size=(50, 4)).astype(np.float32)
    layer = {"kernel": np.eye(4, dtype=np.float32), "bias": np.zeros(4, np.float32)}
    sizes = [np.abs(narrow_mlp({"fc1": layer, "fc2": layer}, units, 3, ridge).params["fc2"]["kernel"]).sum() for ridge in (1e-6, 1.0, 1e3)]
    assert sizes[0] > sizes[1] > sizes[2] and sizes[2] < 0.01


def test_fitted_head_tells_classes_apart():
    """Four classes of images with a colour each, from the features of a random network."""
    model = tiny_model(num_classes=4)
    labels = np.arange(40) % 4
    colours = jax.random.normal(jax.random.key(2), (4, 1, 1, 3))
    images = colours[labels] + 0.1 * jax.random.normal(jax.random.key(3), (40, 16, 16, 3))
    params = fit_head(model.params, model.forward.config, images, labels, ridge=1.0)
    np.testing.assert_array_equal(jnp.argmax(logits(params, model.forward.config, images), axis=-1), labels)
    assert {path for path in flatten(params) if not np.array_equal(flatten(params)[path], flatten(model.params)[path])} == {
        "head/kernel",
        "head/bias",
    }
