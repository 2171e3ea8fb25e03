import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from vit_twin import random_model

import dave_jax as dave
from dave_jax.attribution.baselines.chefer import GenericAttention
from dave_jax.attribution.baselines.full_gradient import FullGradPlus
from dave_jax.attribution.baselines.upsample import as_vit, patch_grid, upsample


def test_nearest_fills_patches():
    patches = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(upsample(jnp.asarray(patches), (4, 12), "nearest"), np.repeat(np.repeat(patches, 2, 0), 4, 1))


def test_bilinear_interpolates_between_centres():
    """Pixel p lies at (p + 1/2) / size - 1/2 patches; beyond the outermost centres the map is constant."""
    patches = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)

    def along(values, size):
        places = (np.arange(size) + 0.5) * len(values) / size - 0.5
        return np.stack([np.interp(places, np.arange(len(values)), column) for column in values.T], axis=1)

    expected = along(along(patches, 12).T, 20).T
    np.testing.assert_allclose(upsample(jnp.asarray(patches), (12, 20)), expected, atol=1e-6)


def test_bicubic_keeps_a_plane():
    patches = jnp.arange(8.0)[:, None] + 2 * jnp.arange(8.0)[None]
    fine = np.asarray(upsample(patches, (32, 32), "bicubic"))[8:24, 8:24]
    rows, columns = np.mgrid[8:24, 8:24]
    np.testing.assert_allclose(fine, (rows + 0.5) / 4 - 0.5 + 2 * ((columns + 0.5) / 4 - 0.5), atol=1e-5)


def test_patches_are_the_last_tokens():
    vit = random_model(num_registers=2, image_size=(8, 16)).forward
    grid = patch_grid(jnp.arange(22.0).reshape(2, 11), vit)
    np.testing.assert_array_equal(grid[0], np.arange(3.0, 11.0).reshape(2, 4))
    assert grid.shape == (2, 2, 4)


def logits(params, image, decomposition):
    return image.mean((0, 1))


def test_other_models_have_no_tokens():
    model = dataclasses.replace(random_model(), params={}, forward=logits)
    for method in (GenericAttention(), FullGradPlus()):
        with pytest.raises(TypeError, match=f"{type(method).__name__} looks at the tokens .* those of function are not known"):
            method(model, jnp.ones((1, 16, 16, 3)), [0])
    assert as_vit(random_model().forward, "any").config.depth == 2


def test_maps_are_zero_where_no_patch_is():
    model = dave.testing.tiny_model(image_size=(18, 23), overhang=True)
    image = jnp.asarray(np.random.default_rng(0).standard_normal((18, 23, 3)), jnp.float32)
    for method in (GenericAttention(), FullGradPlus()):
        signed = method(model, image[None], [0], raw=True)[0]
        assert signed.shape == (18, 23) and float(jnp.abs(signed[:16, :20]).min()) > 0.0
        np.testing.assert_array_equal(signed[16:], 0.0)
        np.testing.assert_array_equal(signed[:, 20:], 0.0)


def test_a_head_on_several_blocks_has_no_last_token():
    with pytest.raises(ValueError, match=r"GenericAttention follows the tokens of the last block, and this head reads .* of 2"):
        GenericAttention()(dave.testing.tiny_model(pooled_blocks=2), jnp.ones((1, 16, 16, 3)), [0])


@pytest.mark.parametrize("make", [lambda: GenericAttention(upsampling="bilinar"), lambda: FullGradPlus(upsampling="bilinar")])
def test_unknown_kind(make):
    with pytest.raises(ValueError, match=r"upsampling must be one of .*got 'bilinar'\. Did you mean 'bilinear'"):
        make()
