"""What methods that evaluate a model at many images share: colours to fill in, scores, and how many images at once."""

from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dave_jax.attribution.chunk import default_chunk
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.models.model import Model

if TYPE_CHECKING:
    Fill = ArrayLike | tuple[float, float, float]
else:  # JAX rebuilds settings with whatever stands for their arrays, so nothing is checked at run time
    Fill = Any

Score = Literal["probability", "logit"]


def check_fill(name: str, fill: Any, image_shape: tuple[int, ...]) -> None:
    """Raise unless a fill is a number, one number for each channel, or an image.

    Raises:
        ValueError: another shape.
    """
    if np.shape(fill) not in ((), (3,), image_shape):
        raise ValueError(
            f"{name} must be a number, three numbers (one for each channel) or an image {image_shape}, in normalised space; "
            f"got shape {np.shape(fill)}."
        )


def as_image(fill: Any, image: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """The image that a fill stands for.

    Example:
        >>> as_image((1.0, 2.0, 3.0), jnp.zeros((2, 2, 3)))[0, 0].tolist()
        [1.0, 2.0, 3.0]
    """
    return jnp.broadcast_to(jnp.asarray(fill, image.dtype), image.shape)


def check_score(name: str, score: str) -> None:
    """Raise unless a score is `probability` or `logit`.

    Raises:
        ValueError: another name.
    """
    if score not in ("probability", "logit"):
        raise ValueError(f"{name}: score must be 'probability' or 'logit'; got {score!r}.")


def scores(logits: Float[Array, " classes"], cotangents: Float[Array, "k classes"], score: Score) -> Float[Array, " k"]:
    """`<softmax(logits), cotangent>` or `<logits, cotangent>` for each cotangent: for a class its probability or its logit.

    Example:
        >>> scores(jnp.array([2.0, 2.0]), jnp.array([[0.0, 1.0]]), "probability").tolist()
        [0.5]
    """
    values = jax.nn.softmax(logits) if score == "probability" else logits
    return jnp.einsum("kc,c->k", cotangents, values, precision="highest")


def chunk_for(
    chosen: int | None,
    model: Model,
    image: jax.ShapeDtypeStruct,
    num_targets: int,
    num_samples: int,
    decomposition: str | Decomposition = "gradient",
) -> int:
    """The chunk size that was chosen, or what fits with a backward pass; forward passes alone need less."""
    if chosen is not None:
        return chosen
    return default_chunk(model.forward, model.params, image.shape, resolve(decomposition), num_samples, num_targets)


def check_counts(method: Any, *names: str) -> None:
    """Raise unless the named settings are integers of at least 1, and the chunk size is one or None.

    Raises:
        ValueError: another value.
    """
    values = {name: getattr(method, name) for name in names} | ({} if method.chunk_size is None else {"chunk_size": method.chunk_size})
    wrong = [f"{name} must be an integer of at least 1; got {value!r}" for name, value in values.items() if not _is_count(value)]
    if wrong:
        raise ValueError(f"{type(method).__name__}: {'; '.join(wrong)}.")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
