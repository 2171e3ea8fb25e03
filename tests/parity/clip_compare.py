"""A loaded image-text model against the one that it was saved from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import torch
from clip_twins import SENTENCES

import dave_jax as dave


def close(ours, theirs, tolerance):
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def draw_images(model):
    """Two, for JAX and for torch."""
    images = np.random.default_rng(0).standard_normal((2, *model.preprocessing.image_size, 3), np.float32)
    return images, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_()


def compare(model, ids, theirs, logits_of):
    """Token ids, logits and the gradient of a contrast; `logits_of(images, ids)` are those of the module `theirs`.

    In double precision the logits are the same to 1e-8 of the largest. In single precision they are as near to those as 1e-5 of the
    largest, or as PyTorch comes twice: random towers have small cosines, whose rounding is that of vectors of length 1.
    """
    np.testing.assert_array_equal(model.token_ids(SENTENCES), ids.numpy())
    images, tensors = draw_images(model)
    expected = logits_of(tensors, ids)
    (slopes,) = torch.autograd.grad((expected[:, 0] - expected[:, 1]).sum(), tensors)
    prompted = model.prompts(SENTENCES)
    contrast = jnp.zeros(len(SENTENCES)).at[0].set(1.0).at[1].set(-1.0)
    ours = jax.vmap(lambda image: dave.effective_transformation(prompted, image, contrast, decomposition="gradient"))(jnp.asarray(images))
    close(ours, slopes.numpy().transpose(0, 2, 3, 1), 1e-4)

    theirs.double()
    exact = logits_of(tensors.detach().double(), ids).detach().numpy()
    theirs.float()
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), model.params)
        close(dataclasses.replace(model, params=params).prompts(SENTENCES).logits(images.astype(float)), exact, 1e-8)
    rounding = np.abs(expected.detach().numpy() - exact).max()
    assert np.abs(prompted.logits(images) - exact).max() <= max(1e-5 * np.abs(exact).max(), 2 * rounding)
