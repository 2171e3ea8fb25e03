"""`Method`: a way to explain. Settings, and one function from an image to its maps; batches, checks and compilation are here, once.

class InputTimesGradient(Method):                         the whole of a new method
    def attribute(self, forward, params, image, cotangents, key): ...

maps = InputTimesGradient()(model, images, targets, key=key)      the signature of `explain`
"""

import abc
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from dave_jax.attribution.inputs import as_inputs
from dave_jax.attribution.postprocess import divide_by_maximum
from dave_jax.effective.decomposition import resolve
from dave_jax.models.model import Forward, Model
from dave_jax.models.network import in_precision
from dave_jax.pytree import register_pytree

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def settings(*, static: tuple[str, ...] = ()) -> Callable[[type[T]], type[T]]:
    """Make a class a frozen dataclass and a pytree: the fields named in `static` are compiled in, the others are traced."""

    def decorate(cls: type[T]) -> type[T]:
        cls = dataclasses.dataclass(frozen=True)(cls)
        names = [field.name for field in dataclasses.fields(cls)]  # pyright: ignore[reportArgumentType] it is one now
        return register_pytree(cls, [name for name in names if name not in static], static)

    return decorate


class Method(abc.ABC):
    """A way to explain an image. Subclasses are made with `settings` and define `attribute`.

    Attributes:
        random: whether the maps depend on the key.
    """

    random: ClassVar[bool] = False

    @abc.abstractmethod
    def attribute(
        self, forward: Forward, params: Any, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"], key: PRNGKeyArray
    ) -> Float[Array, "k h w"]:
        """Signed maps of one image, one for each cotangent on the logits; traced."""

    def heat_map(self, signed: Float[Array, "h w"]) -> Float[Array, "h w"]:
        """From a signed map to what is shown, in [0, 1]; traced."""
        return divide_by_maximum(jnp.maximum(signed, 0.0))

    def fitted(self, model: Model, image: jax.ShapeDtypeStruct, num_targets: int) -> "Method":
        """The method with what depends on the model filled in, such as how much to compute at once."""
        return self

    def __call__(
        self,
        model: Model,
        images: ArrayLike,
        targets: Any,
        *,
        key: PRNGKeyArray | None = None,
        image_ids: ArrayLike | None = None,
        raw: bool = False,
    ) -> Float[Array, "..."]:
        """Explain a batch of images.

        Args:
            model: what predicts.
            images: normalised images Float[b h w 3].
            targets: class ids or cotangents, as in `explain`.
            key: of all randomness; methods without any do not need it.
            image_ids: Integer[b], as in `explain`.
            raw: return signed maps instead of heat maps.

        Returns:
            Heat maps Float[b h w] in [0, 1] (Float[b k h w] for k targets an image); by default the positive part, divided by its maximum.
            With `raw` the signed maps, channels summed.

        Raises:
            ValueError, TypeError: images, targets or a model that the method cannot take; no key for a random method.
        """
        given = as_inputs(model, images, targets, image_ids)
        if key is None and self.random:
            raise ValueError(f"{type(self).__name__} is random and needs a key: pass key=jax.random.key(0).")
        key = jax.random.key(0) if key is None else key
        method: Any = self.fitted(model, given.image, given.num_targets)
        if hasattr(method, "decomposition"):  # itself, not its name: a name that is given to another is another program
            method = dataclasses.replace(method, decomposition=resolve(method.decomposition))
        maps = _attribute(model.forward, raw, method, model.params, given.images, given.cotangents, key, given.image_ids)
        return maps[:, 0] if given.single else maps


@partial(jax.jit, static_argnums=(0, 1))
def _attribute(
    forward: Forward,
    raw: bool,
    method: Method,
    params: Any,
    images: Float[Array, "b h w 3"],
    cotangents: Float[Array, "b k classes"],
    key: PRNGKeyArray,
    image_ids: Integer[Array, " b"],
) -> Float[Array, "b k h w"]:
    # methods look inside networks, and add what they find to images and cotangents
    params = in_precision(forward, params, "float32", images.dtype)

    def one(job):
        image, cotangents, number = job
        maps = method.attribute(forward, params, image, cotangents, jax.random.fold_in(key, number))
        return maps if raw else jax.vmap(method.heat_map)(maps)

    return jax.lax.map(one, (images, cotangents, image_ids))
