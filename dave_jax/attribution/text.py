"""`explain_text`: which tokens of a sentence speak for an image.

With the operators of the text tower frozen, a logit of an image-text model is affine in the embeddings e_t of the sentence's tokens,

    logit = sum_t <e_t, dlogit/de_t> + padding + biases,

as it is affine in the image's pixels where the image tower's are frozen. The image and its embedding are held fixed.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from dave_jax.attribution.bias import spread_biases
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.effective.precision import cast
from dave_jax.models.image_text import ImageText
from dave_jax.models.model import Model
from dave_jax.models.network import in_half
from dave_jax.models.text import TextTower
from dave_jax.models.tokenizer import check_texts


@dataclasses.dataclass(frozen=True)
class TextExplanation:
    """The parts of the logits of one sentence for several images. `print` shows them, averaged over the images.

    Attributes:
        tokens: of the sentence, as it was written; the name of one that stands for no part of it, such as the end.
        scores: what each token contributes, in units of the logit, Float[b tokens].
        padding: what the padding behind or before the sentence contributes, Float[b]; zero for CLIP, whose tokens do not see it.
        bias: what biases, position embedding and logit bias contribute, Float[b].
        logit: what is explained, Float[b].
    """

    tokens: tuple[str, ...]
    scores: Float[Array, "b tokens"]
    padding: Float[Array, " b"]
    bias: Float[Array, " b"]
    logit: Float[Array, " b"]

    @property
    def residual(self) -> Float[Array, " b"]:
        """What the parts lack of the logit, relative to the largest of them: rounding error under `effective`."""
        parts = jnp.stack([jnp.sum(self.scores, axis=1), self.padding, self.bias])
        largest = jnp.max(jnp.abs(jnp.concatenate([parts, self.logit[None]])), axis=0)
        return jnp.abs(self.logit - jnp.sum(parts, axis=0)) / largest

    def __str__(self) -> str:
        rows = [*zip(self.tokens, np.mean(self.scores, axis=0), strict=True)]
        rows += [(f"({name})", np.mean(getattr(self, name))) for name in ("padding", "bias", "logit")]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}} {value:>10.4g}" for name, value in rows)


def explain_text(model: Model, images: ArrayLike, prompt: str, *, decomposition: str | Decomposition = "effective") -> TextExplanation:
    """Explain a sentence for images: which of its tokens raise or lower its similarity with each.

    Args:
        model: one of images and text, as `dave.load` returns it.
        images: normalised images Float[b h w 3], from `model.preprocess`.
        prompt: the sentence.
        decomposition: of the text tower, its name or itself.

    Raises:
        TypeError: the model has no text tower, or the prompt is no string.
        ValueError: the prompt is empty, or the images do not fit the model.

    Example:
        >>> from dave_jax.testing import tiny_image_text
        >>> found = explain_text(tiny_image_text(), jnp.ones((1, 16, 16, 3)), "a photo of a cat")
        >>> found.tokens, found.scores.shape, bool(found.residual[0] < 1e-5)
        (('<start>', 'a', 'photo', 'of', 'a', 'cat', '<end>'), (1, 7), True)
    """
    if not isinstance(model, ImageText):
        raise TypeError(
            f"A sentence is explained with a model of images and text; got a {type(model).__name__}. "
            "Pass what dave.load returns for a CLIP or SigLIP checkpoint, before model.prompts."
        )
    if not isinstance(prompt, str):
        raise TypeError(f"prompt must be one sentence; got {type(prompt).__name__}. Explain several one after the other.")
    ids = jnp.asarray(model.token_ids(check_texts([prompt], "prompt"))[0])
    assert model.tokenizer is not None  # an ImageText has one
    encoded = model.tokenizer.encode(prompt)
    embeddings = model.embed_images(images)
    params = cast(model.params, embeddings.dtype) if in_half(model.params) else model.params  # the parts' sum needs all digits
    logit, scores, bias = _explain(model.towers.text, resolve(decomposition), params, ids, embeddings)
    sentence = slice(encoded.start, encoded.start + len(encoded.tokens))
    own = scores[:, sentence]
    return TextExplanation(encoded.tokens, own, jnp.sum(scores, axis=1) - jnp.sum(own, axis=1), bias, logit)


@partial(jax.jit, static_argnums=(0, 1))
def _explain(
    tower: TextTower,
    rules: Decomposition,
    params: Any,
    ids: Integer[Array, " tokens"],
    embeddings: Float[Array, "b features"],
) -> tuple[Float[Array, " b"], Float[Array, "b tokens"], Float[Array, " b"]]:
    """Logits, what each token contributes, and what all that is added contributes."""
    embedded, place = tower.embed(params["text"], ids), tower.place(ids)
    biases, fill = spread_biases(tower, params["text"])
    sentence, pull = jax.vjp(lambda embedded, biases: tower.encode(fill(biases), embedded, place, rules), embedded, biases)
    scale, added = jnp.exp(params["logit_scale"]), params.get("logit_bias", jnp.zeros_like(params["logit_scale"]))

    def one(embedding):
        on_tokens, on_biases = pull(scale * embedding)
        total = sum((jnp.vdot(on_biases[path], biases[path]) for path in biases), start=jnp.zeros_like(scale))
        return jnp.vdot(scale * embedding, sentence) + added, jnp.sum(on_tokens * embedded, axis=-1), total + added

    return jax.lax.map(one, embeddings)
