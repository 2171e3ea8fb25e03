"""What to explain, as cotangents on the logits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dave_jax.models.model import check_class_ids, is_finite


def as_cotangents(targets: Any, batch: int, classes: int, dtype: Any = float) -> tuple[Float[Array, "b k classes"], bool]:
    """Targets as cotangents, and whether there was one target for each image.

    Args:
        targets: class ids, Int[b] or Int[b k] (a plain integer for every image of the batch); or any cotangents on the logits,
            Float[b classes] or Float[b k classes]: `e_i - e_j` explains why i rather than j.
        batch: number of images.
        classes: number of logits.
        dtype: of the cotangents.

    Raises:
        ValueError: a wrong shape, a class out of range, or cotangents that are not finite.
        TypeError: neither integers nor floats.

    Example:
        >>> cotangents, single = as_cotangents(jnp.array([2]), 1, 3)
        >>> cotangents.tolist(), single
        ([[[0.0, 0.0, 1.0]]], True)
    """
    targets = targets if isinstance(targets, jax.Array) else np.asarray(targets)
    if jnp.issubdtype(targets.dtype, jnp.integer):
        if targets.ndim == 0:
            targets = targets.reshape(1).repeat(batch)
        if targets.ndim not in (1, 2) or targets.shape[0] != batch or not targets.size:
            raise ValueError(
                f"Class ids must have shape ({batch},) or ({batch}, k), a row for each image; got {targets.shape}. "
                "For several classes of one image pass [[3, 7]]."
            )
        check_class_ids(targets, classes)
        single = targets.ndim == 1
        return jax.nn.one_hot(jnp.asarray(targets).reshape(batch, -1), classes, dtype=dtype), single
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        raise TypeError(f"Targets are class ids (integers) or cotangents on the logits (floats); got {targets.dtype}.")
    if targets.ndim not in (2, 3) or targets.shape[0] != batch or targets.shape[-1] != classes or not targets.size:
        raise ValueError(
            f"Cotangents must have shape ({batch}, {classes}) or ({batch}, k, {classes}); got {targets.shape}. "
            "Class ids must be integers: targets.astype(int)."
        )
    if not is_finite(targets):
        raise ValueError("Cotangents must be finite; got infinite numbers or NaN. A class that does not count has cotangent 0.")
    return jnp.asarray(targets, dtype).reshape(batch, -1, classes), targets.ndim == 2
