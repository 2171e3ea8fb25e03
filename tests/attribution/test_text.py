"""The tokens of a sentence explained: completeness, an independent twin, what comes back and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.testing import tiny_image_text


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(5), (3, 16, 16, 3))


@pytest.mark.slow
@pytest.mark.parametrize("siglip", [False, True])
def test_scores_padding_and_biases_make_the_logit(siglip, images, x64):
    model = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tiny_image_text(siglip=siglip))
    found = dave.explain_text(model, images.astype(jnp.float64), "a photo of the cat")
    assert float(found.residual.max()) < 1e-12
    assert (float(jnp.abs(found.padding).max()) > 1e-3) == siglip  # CLIP's tokens do not see it
    np.testing.assert_allclose(found.logit, model.prompts(["a photo of the cat"]).logits(images.astype(jnp.float64))[:, 0], rtol=1e-6)
    assert found.tokens == (*(() if siglip else ("<start>",)), "a", "photo", "of", "the", "cat", "<end>")
    rough = dave.explain_text(model, images.astype(jnp.float64), "a photo of the cat", decomposition="gradient")
    np.testing.assert_allclose(rough.logit, found.logit, rtol=1e-12)
    assert float(rough.residual.min()) > 1e-3  # the gradient is not complete


def test_the_gradient_of_a_logit_written_out(images):
    """Without a decomposition the scores are gradient times token embedding, by differences."""
    model = tiny_image_text()
    text, params, ids = model.towers.text, model.params["text"], jnp.asarray(model.token_ids(["the cat"])[0])
    found = dave.explain_text(model, images[:1], "the cat", decomposition="gradient")
    embedded, unit = text.embed(params, ids), model.embed_images(images[:1])[0]

    def logit(factor):
        moved = embedded.at[2].multiply(factor)
        return float(jnp.exp(model.params["logit_scale"]) * text.encode(params, moved, text.place(ids)) @ unit)

    assert (logit(1.01) - logit(0.99)) / 0.02 == pytest.approx(float(found.scores[0, 2]), rel=1e-2, abs=1e-3)  # of float32 differences


def test_a_table(images):
    printed = str(dave.explain_text(tiny_image_text(), images, "a cat"))
    assert [line.split()[0] for line in printed.splitlines()] == ["<start>", "a", "cat", "<end>", "(padding)", "(bias)", "(logit)"]


def test_what_is_refused(images):
    model = tiny_image_text()
    for arguments, error, message in (
        ((model.prompts(["a cat"]), images, "a cat"), TypeError, "before model.prompts"),
        ((model, images, "  "), ValueError, "none may be empty"),
        ((model, images[0], "a cat"), ValueError, r"images\[None\]"),
    ):
        with pytest.raises(error, match=message):
            dave.explain_text(*arguments)
    with pytest.raises(ValueError, match="A decomposition is one of"):
        dave.explain_text(model, images, "a cat", decomposition="effectiv")
