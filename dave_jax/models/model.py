"""`Model`: a forward pass with its parameters, and what an explanation needs to know about it."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dave_jax.config import DaveConfig
from dave_jax.effective.precision import wide
from dave_jax.effective.trace.kinds import Policy
from dave_jax.models.preprocess import Photo, Preprocessing
from dave_jax.models.traced import Traced
from dave_jax.pytree import register_pytree

Forward = Callable[..., Float[Array, " classes"]]
"""`forward(params, image, decomposition) -> logits`: one normalised image (h, w, 3); hashable, and equal when it computes the same."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A classifier to explain: a pytree whose leaves are its parameters and the floats of its `config`.

    Attributes:
        params: the parameters, any pytree.
        forward: `forward(params, image, decomposition)`, the logits of one normalised image; a static function.
        config: the settings of `explain` that suit this model.
        preprocessing: from photographs to normalised images.
        class_names: one name for each logit, or None.
        name: what to call it.
        source: where the parameters came from (path or repository, revision, checksum), for provenance.

    Example:
        >>> from dave_jax.models.vit import ViT
        >>> from dave_jax.models.vit_config import ViTConfig, init_params
        >>> vit = ViT(ViTConfig(image_size=(8, 8), patch_size=(4, 4), width=8, depth=1, num_heads=2, mlp_width=8, num_classes=3))
        >>> model = Model(init_params(jax.random.key(0), vit.config), vit, preprocessing=Preprocessing(image_size=(8, 8)))
        >>> model.logits(jnp.zeros((2, 8, 8, 3))).shape
        (2, 3)
    """

    params: Any
    forward: Forward
    config: DaveConfig = DaveConfig()
    preprocessing: Preprocessing = Preprocessing()
    class_names: tuple[str, ...] | None = None
    name: str = "model"
    source: str = ""

    @classmethod
    def from_function(cls, function: Callable[..., Any], params: Any = None, *, gate: Policy = "gate", **fields: Any) -> "Model":
        """A model from any JAX function of an image, which `dave.decompose` takes apart.

        Args:
            function: `function(params, image)`, or `function(image)` without parameters: one normalised image (h, w, 3) to its logits.
                Pass the same function again, not a new lambda, or everything compiles again.
            params: a pytree of arrays; what the function closes over instead is compiled in.
            gate: as in `dave.decompose`.
            fields: the others of `Model`.

        Example:
            >>> model = Model.from_function(lambda image: jax.nn.silu(image).sum((0, 1)), preprocessing=Preprocessing(image_size=(8, 8)))
            >>> model.logits(jnp.zeros((2, 8, 8, 3))).shape
            (2, 3)
        """
        fields.setdefault("name", getattr(function, "__name__", type(function).__name__))
        return cls(params=params, forward=Traced(function, gate), **fields)

    def preprocess(self, photos: Photo | Iterable[Photo]) -> Float[Array, "b h w 3"]:
        """Photographs (paths, PIL images or arrays; one or several) as a batch of normalised images."""
        return jnp.asarray(self.preprocessing(photos))

    def logits(self, images: ArrayLike) -> Float[Array, "b classes"]:
        """The logits of normalised images Float[b h w 3]."""
        return batch_logits(self.forward, self.params, check_images(images, self.preprocessing.image_size))

    def prompts(self, texts: Sequence[str], *, templates: Sequence[str] = ("{}",)) -> "Model":
        """The classifier that sentences make of a model of images and text: see `ImageText.prompts`.

        Raises:
            TypeError: the model has classes of its own.
        """
        raise TypeError(
            f"Only a model of images and text takes prompts; {self.name!r} has classes of its own. Load a CLIP or SigLIP with both towers."
        )

    def class_name(self, index: int) -> str:
        """The name of a class, or its number where the model has no names."""
        return self.class_names[index] if self.class_names else str(index)

    def class_index(self, name: str) -> int:
        """The number of the class of that name (any case, `_` for a space), or of that number.

        Raises:
            ValueError: there is none; the message names the nearest.
        """
        names = [canonical(known) for known in self.class_names or ()]
        if canonical(name) in names:
            return names.index(canonical(name))
        if name.isdecimal():
            return int(name)
        near = difflib.get_close_matches(canonical(name), names, n=3)
        hint = f" Near names: {near}." if near else f" The model has {len(names)} named classes; give a class number."
        raise ValueError(f"A target is a class number or a class name of the model; got {name!r}.{hint}")


def canonical(name: str) -> str:
    """A class name as names are compared: in lower case, with blanks for underscores."""
    return name.replace("_", " ").strip().lower()


register_pytree(Model, ["params", "config"], ["forward", "preprocessing", "class_names", "name", "source"])


@partial(jax.jit, static_argnames="forward")
def batch_logits(forward: Forward, params: Any, images: Float[Array, "b h w 3"]) -> Float[Array, "b classes"]:
    """Logits of a batch, at most 32 images at a time."""
    return jax.lax.map(lambda image: forward(params, image, "gradient"), images, batch_size=min(32, len(images)))


@partial(jax.jit, static_argnums=0)
def _logits(forward: Forward, params: Any, image: Array) -> Float[Array, " classes"]:
    return forward(params, image, "gradient")


def count_classes(model: Model, dtype: Any = float) -> int:
    """The number of logits of a model, for images of that type. Nothing is computed, and a shape seen before is not traced again."""
    image = jax.ShapeDtypeStruct((*model.preprocessing.image_size, 3), jnp.result_type(dtype))
    (classes,) = _logits.eval_shape(model.forward, model.params, image).shape
    return classes


def check_class_ids(ids: Any, classes: int) -> None:
    """Raise unless every class id is one of the model's; ids that are traced cannot be looked at.

    Raises:
        ValueError: an id below 0, or not below `classes`.
    """
    if isinstance(ids, Tracer):
        return
    wrong = np.unique(np.asarray(ids)[(np.asarray(ids) < 0) | (np.asarray(ids) >= classes)])
    if wrong.size:
        raise ValueError(f"Class ids must lie in 0 to {classes - 1}, for the model has {classes} logits; got {wrong.tolist()}.")


def check_images(images: Any, image_size: tuple[int, int]) -> Float[Array, "b h w 3"]:
    """The images as a float array on the device, checked; those in half precision as float32, in which maps are.

    Raises:
        TypeError: the pixels are integers.
        ValueError: not a batch (b, h, w, 3) of the model's size, or pixels that are not finite.
    """
    if not hasattr(images, "shape") or not hasattr(images, "dtype"):
        raise TypeError(f"images must be an array of shape (b, h, w, 3); got {type(images).__name__}. Use model.preprocess(photos).")
    expected = (*image_size, 3)
    if len(images.shape) != 4 or tuple(images.shape[1:]) != expected or not images.shape[0]:
        single = tuple(images.shape) == expected
        remedy = "Add a batch axis: images[None]." if single else "Use model.preprocess(photos), or dave.load(..., image_size=...)."
        raise ValueError(f"images must have shape (b, {', '.join(map(str, expected))}) with b >= 1; got {tuple(images.shape)}. {remedy}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            f"images must be floating point, normalised by the model's mean and standard deviation; got {images.dtype}. "
            "Pass uint8 photographs through model.preprocess first."
        )
    if not is_finite(images):
        bad = [i for i, image in enumerate(images) if not is_finite(image)]
        raise ValueError(f"pixels must be finite; images {bad} of the batch hold NaN or infinity. Check how they were normalised.")
    return wide(jnp.asarray(images))


def is_finite(array: Any) -> bool:
    """Whether all numbers of an array are finite, also where a caller traces; of one that is traced itself nothing is known: True.

    Example:
        >>> is_finite(jnp.ones(2)), is_finite(jnp.array([1.0, jnp.nan]))
        (True, False)
    """
    if isinstance(array, Tracer):
        return True
    with jax.ensure_compile_time_eval():
        return bool(jnp.isfinite(array).all())
