"""Convergence: how many samples a map needs, by its likeness to a map of many samples.

Every number of samples is a run of its own, with randomness of its own. The first n samples of a longer run will not do: noise levels run
from 0 to `noise_alpha` over the samples of a run, so that these are its cleanest ones, and no run of n samples. Nor will the same key:
sample i draws alike in runs of any length, so that a run would be compared with a reference that holds its own draws.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.evaluation.similarity import checked_maps, pearson, top_overlap


@dataclasses.dataclass(frozen=True)
class Convergence:
    """Likeness to the map at many samples.

    Attributes:
        num_samples: of each run.
        correlation: with the reference, Float[runs b].
        overlap: of the highest tenth of the pixels with the reference's, Float[runs b]; chance gives 0.1.
        reference: samples of the reference.
    """

    num_samples: tuple[int, ...]
    correlation: Float[Array, "runs b"]
    overlap: Float[Array, "runs b"]
    reference: int


def convergence(
    attribute: Callable[[Array, Any, int, PRNGKeyArray], Any],
    images: ArrayLike,
    targets: Any,
    *,
    key: PRNGKeyArray,
    num_samples: Sequence[int] = (1, 4, 8, 16, 50),
    reference: int = 200,
) -> Convergence:
    """Compare maps of few samples with a map of many.

    The reference has an error of its own, so that no likeness reaches 1: with `reference` among `num_samples`, its row is the likeness of
    two independent runs of that length, the most to expect.

    Args:
        attribute: `attribute(images, targets, num_samples, key)`, signed maps Float[b h w]; of a method, `lambda images, targets,
            num_samples, key: Dave(num_samples=num_samples)(model, images, targets, key=key, raw=True)`.
        images: normalised images Float[b h w channels].
        targets: class ids Int[b].
        key: of all randomness; every run gets its own.
        num_samples: of the runs, each at least 1.
        reference: samples of the map to compare with, no fewer than those of any run.

    Example:
        >>> def attribute(images, targets, num_samples, key):
        ...     noise = jax.random.normal(key, (num_samples, *images.shape[:3]))
        ...     return images.sum(-1) + noise.mean(0)
        >>> images = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
        >>> found = convergence(attribute, images, [0], key=jax.random.key(1), num_samples=(1, 64))
        >>> bool(found.correlation[1, 0] > found.correlation[0, 0])
        True
    """
    counts = tuple(int(count) for count in num_samples)
    if not counts or min(counts) < 1 or max(counts) > reference:
        raise ValueError(f"num_samples must lie in 1 to reference={reference}; got {list(counts)}. Raise reference, or leave some out.")
    images = jnp.asarray(images)
    shape = images.shape[:3]

    def maps(count: int, run: int) -> Array:
        return checked_maps(attribute(images, targets, count, jax.random.fold_in(key, np.uint32(run))), shape)

    many = maps(reference, 0)
    runs = [maps(count, run) for run, count in enumerate(counts, start=1)]
    correlation, overlap = (jnp.stack([compare(few, many) for few in runs]) for compare in (pearson, top_overlap))
    return Convergence(counts, correlation, overlap, reference)
