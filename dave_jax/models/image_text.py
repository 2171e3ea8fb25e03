"""Models of images and text, CLIP (arXiv 2103.00020) and SigLIP (arXiv 2303.15343), and the classifiers that sentences make of them.

    logit_i = exp(logit_scale) <image / |image|, text_i / |text_i|> + logit_bias

The sentences once embedded, this is a vision transformer whose head reads features divided by their length: `ViTConfig.unit_features`.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.precision import narrow, wide
from dave_jax.models import text_config, vit_config
from dave_jax.models.model import Model, batch_logits, check_images
from dave_jax.models.text import TextTower
from dave_jax.models.text_config import TextConfig
from dave_jax.models.tokenizer import Tokenizer, check_texts
from dave_jax.models.vit import ViT
from dave_jax.models.vit_config import ViTConfig
from dave_jax.pytree import register_pytree


@dataclasses.dataclass(frozen=True)
class ImageTextConfig:
    """An image tower and a text tower whose embeddings are compared.

    Attributes:
        image: the image tower, without a head: `num_classes=0`, `unit_features=True`.
        text: the text tower.
        logit_bias: whether a number is added to every scaled similarity (SigLIP).
    """

    image: ViTConfig
    text: TextConfig
    logit_bias: bool = False

    def __post_init__(self):
        if self.image.num_classes or not self.image.unit_features:
            raise ValueError("The image tower of an image-text model needs num_classes=0 and unit_features=True.")
        if self.image.num_features != self.text.num_features:
            raise ValueError(
                "The embeddings of images and sentences must have one width; the towers' have "
                f"{self.image.num_features} and {self.text.num_features}."
            )


def init_params(key: PRNGKeyArray, config: ImageTextConfig) -> dict[str, Any]:
    """Random parameters of both towers, a scale of `exp(2.66)` and a bias of -10."""
    first, second = jax.random.split(key)
    params: dict[str, Any] = {
        "image": vit_config.init_params(first, config.image),
        "text": text_config.init_params(second, config.text),
        "logit_scale": jnp.asarray(2.66),
    }
    return params | ({"logit_bias": jnp.asarray(-10.0)} if config.logit_bias else {})


@dataclasses.dataclass(frozen=True)
class Towers:
    """The two forward passes of a configuration; without sentences there are no logits, and a call says so."""

    config: ImageTextConfig

    @property
    def image(self) -> ViT:
        """From one normalised image to its embedding of length 1."""
        return ViT(self.config.image)

    @property
    def text(self) -> TextTower:
        """From the token ids of one sentence to its embedding of length 1."""
        return TextTower(self.config.text)

    def __call__(self, params: Any, image: Float[Array, "h w 3"], decomposition: str | Decomposition = "gradient") -> NoReturn:
        """Raises the error that says what is missing."""
        raise ValueError(
            "A model of images and text has logits only for sentences. Give some: "
            'model.prompts(["a photo of a cat", "a photo of a dog"]); on the command line, --prompt "a photo of a cat".'
        )


@dataclasses.dataclass(frozen=True)
class ImageText(Model):
    """A model of images and text: `prompts` makes a classifier of it, which `explain` and all else take.

    Attributes:
        params: `image`, `text`, `logit_scale` and, for SigLIP, `logit_bias`.
        forward: `Towers`.
        config: the settings of `explain` that suit this model.
        preprocessing: from photographs to normalised images.
        class_names: None.
        name: what to call it.
        source: where the parameters came from (path or repository, revision, checksum), for provenance.
        tokenizer: from sentences to token ids.

    Example:
        >>> from dave_jax.testing import tiny_image_text
        >>> model = tiny_image_text().prompts(["a cat", "a dog"])
        >>> model.class_names, model.logits(jnp.zeros((1, 16, 16, 3))).shape
        (('a cat', 'a dog'), (1, 2))
    """

    tokenizer: Tokenizer | None = None

    def __post_init__(self):
        if not isinstance(self.forward, Towers) or self.tokenizer is None:
            raise TypeError("An ImageText needs Towers as its forward, and a tokenizer.")

    def prompts(self, texts: Sequence[str], *, templates: Sequence[str] = ("{}",)) -> Model:
        """The classifier whose logits are scaled cosine similarities with sentences, SigLIP's with its bias.

        Args:
            texts: the sentences, or what `templates` make sentences of; they become the names of the classes.
            templates: sentences with `{}` where a text goes. The embeddings of a text's sentences are averaged, each of length 1, and the
                average is divided by its length (CLIP, section 3.1.4).

        Raises:
            TypeError: texts or templates that are no lists of strings.
            ValueError: there is none, one is empty, or a template lacks its `{}`.

        Example:
            >>> from dave_jax.testing import tiny_image_text
            >>> tiny_image_text().prompts(["cat", "dog"], templates=["a photo of a {}", "a drawing of a {}"]).class_names
            ('cat', 'dog')
        """
        texts, templates = check_texts(texts), check_texts(templates, "templates")
        if wrong := [template for template in templates if template.count("{}") != 1]:
            raise ValueError(f"A template must hold {{}} once, where the text goes, as in 'a photo of a {{}}'; got {wrong}.")
        embeddings = self.embed_texts([template.replace("{}", text) for text in texts for template in templates])
        mean = embeddings.reshape(len(texts), len(templates), -1).mean(axis=1)
        mean = mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)
        scale = self.params["logit_scale"]
        head = {"kernel": narrow((jnp.exp(wide(scale)) * mean).T, scale)}
        if "logit_bias" in self.params:
            head["bias"] = jnp.full(len(texts), self.params["logit_bias"])
        model = self.image_model()
        config = dataclasses.replace(self.towers.config.image, num_classes=len(texts), head_bias="bias" in head)
        return dataclasses.replace(model, params=model.params | {"head": head}, forward=ViT(config), class_names=tuple(texts))

    def image_model(self) -> Model:
        """The image tower alone, whose outputs are the embeddings of images.

        Example:
            >>> from dave_jax.testing import tiny_image_text
            >>> tiny_image_text().image_model().logits(jnp.zeros((1, 16, 16, 3))).shape
            (1, 8)
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(Model)}
        return Model(**(fields | {"params": self.params["image"], "forward": self.towers.image}))

    def embed_images(self, images: ArrayLike) -> Float[Array, "b features"]:
        """The embeddings, of length 1, of normalised images Float[b h w 3]."""
        return batch_logits(self.towers.image, self.params["image"], check_images(images, self.preprocessing.image_size))

    def embed_texts(self, texts: Sequence[str]) -> Float[Array, "texts features"]:
        """The embeddings, of length 1, of sentences.

        Raises:
            TypeError: no list of strings.
            ValueError: there is none, one is empty, or the tokenizer has tokens that the text tower does not know.
        """
        ids = self.token_ids(check_texts(texts, "texts"))
        return _embed(self.towers.text, self.params["text"], jnp.asarray(ids))

    def token_ids(self, texts: Sequence[str]) -> Int32[Any, "texts context"]:
        """The token ids of sentences, padded; what does not fit is cut off, with a warning.

        Raises:
            ValueError: the tokenizer has tokens that the text tower does not know.
        """
        assert self.tokenizer is not None  # `__post_init__` has checked
        ids = self.tokenizer(texts)
        size = self.towers.config.text.vocab_size
        if ids.max() >= size:
            raise ValueError(
                f"The tokenizer must be the text tower's, which has {size} tokens; a sentence has the token {ids.max()}. "
                "Copy the tokenizer's files from where the weights come from."
            )
        return ids

    @property
    def towers(self) -> Towers:
        """The two forward passes."""
        assert isinstance(self.forward, Towers)  # `__post_init__` has checked
        return self.forward


register_pytree(ImageText, ["params", "config"], ["forward", "preprocessing", "class_names", "name", "source", "tokenizer"])


@partial(jax.jit, static_argnums=0)
def _embed(tower: TextTower, params: Any, ids: Int32[Array, "texts context"]) -> Float[Array, "texts features"]:
    """At most 32 sentences at a time."""
    return jax.lax.map(lambda one: tower(jax.tree.map(wide, params), one), ids, batch_size=min(32, len(ids)))
