"""`explain_rounds`: the maps of `explain` while its samples arrive, from a grainy first one to the last, which is that of `explain`.

    round r:  samples  (r m, ..., (r + 1) m - 1)  of an order any run of which is spread evenly over the noise levels
    map_r   = the aggregate of all samples so far

Samples that the aggregation must hold wait on the device; every round is one call of one compiled program.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from dave_jax.attribution.aggregate import ROBUST_WEIGHTS, divide, mad_bounds, median, weighted
from dave_jax.attribution.fit import fitted
from dave_jax.attribution.inputs import as_inputs
from dave_jax.attribution.neighbourhood import pilot_numbers, sample_of
from dave_jax.attribution.postprocess import postprocess
from dave_jax.config import DaveConfig
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.models.model import Forward, Model

_GOLDEN = 0.6180339887


@dataclasses.dataclass(frozen=True)
class Round:
    """What is known after a round.

    Attributes:
        maps: heat maps Float[b h w] or Float[b k h w], or attributions with `raw`, of the samples so far.
        num_samples: how many these are, of each image.
    """

    maps: Float[Array, "..."]
    num_samples: int


def explain_rounds(
    model: Model,
    images: ArrayLike,
    targets: Any,
    *,
    key: PRNGKeyArray,
    round_size: int | None = None,
    config: DaveConfig | None = None,
    decomposition: str | Decomposition = "effective",
    image_ids: ArrayLike | None = None,
    raw: bool = False,
) -> Iterator[Round]:
    """`explain` in rounds of samples: an iterator over maps that become sharper, the last of which is `explain`'s.

    The last map is aggregated from the same samples as `explain` with the same key and settings, and differs by rounding: in double
    precision by 1e-12 of the map's largest value, in float32 by about 1e-5. (A sample that lies on a bound of `mad_mean` to the last digit
    may be taken in here and left out there, which moves its pixel.) Stopping early wastes nothing but the round in flight.

    Where the aggregation holds samples (see `DaveConfig`), it holds those of all images at once: for one or a few images.

    Args:
        model: what predicts.
        images: normalised images Float[b h w 3].
        targets: as in `explain`.
        key: of all randomness.
        round_size: samples of each image between two maps; default what is computed at once. The last round may be smaller.
        config: settings; default the model's own.
        decomposition: its name or itself.
        image_ids: as in `explain`.
        raw: return attributions instead of heat maps.

    Raises:
        ValueError, TypeError: as `explain`, when it is called; a round of no samples; settings that smooth.

    Example:
        >>> import dave_jax as dave
        >>> model, images = dave.testing.tiny_model(), jnp.ones((1, 16, 16, 3))
        >>> rounds = list(explain_rounds(model, images, [2], key=jax.random.key(0), round_size=3))
        >>> [found.num_samples for found in rounds], rounds[-1].maps.shape
        ([3, 4], (1, 16, 16))
    """
    if round_size is not None and round_size < 1:
        raise ValueError(f"round_size must be at least 1, or None to choose it; got {round_size}.")
    rules, config = resolve(decomposition), model.config if config is None else config
    given = as_inputs(model, images, targets, image_ids)
    if config.smoothing:
        raise ValueError("explain_rounds does not smooth: leave smoothing out of its settings, or use explain.")
    config = fitted(config, model, rules, given.image, given.num_targets)
    fixed = (given.images, given.cotangents, key, given.image_ids, config)
    return _rounds(model, rules, fixed, min(round_size or config.chunk_size or 1, config.num_samples), raw, given.single)


class _State(NamedTuple):
    """The samples that are held, infinite where none is yet, and the sums of the others with their weights."""

    held: Float[Array, "b held k h w 3"]
    total: Float[Array, "b k h w 3"]
    weight: Float[Array, "b k h w 3"]


def _rounds(
    model: Model, rules: Decomposition, fixed: tuple[Array, Array, Array, Array, DaveConfig], size: int, raw: bool, single: bool
) -> Iterator[Round]:
    images, cotangents, _, _, config = fixed
    order, num_held = _in_order(config)
    shape = (len(images), cotangents.shape[1], *images.shape[1:])
    state = _State(
        jnp.asarray(np.full((shape[0], num_held, *shape[1:]), np.inf, images.dtype)), *(jnp.zeros(shape, images.dtype) for _ in range(2))
    )
    for first in range(0, len(order), size):
        arrived = np.arange(first, first + size)
        numbers = order[np.minimum(arrived, len(order) - 1)]  # a last round that is not full computes its last sample again
        known = min(first + size, len(order))
        maps, state = _round(model.forward, rules, raw, model.params, *fixed, state, numbers, arrived, jnp.asarray(known))
        yield Round(maps[:, 0] if single else maps, known)


def _in_order(config: DaveConfig) -> tuple[Integer[np.ndarray, " samples"], int]:
    """The samples' numbers in the order in which they are computed, and how many of the first are held."""

    def spread(numbers: np.ndarray) -> np.ndarray:
        return numbers[np.argsort(np.arange(len(numbers)) * _GOLDEN % 1.0)]

    everything = np.arange(config.num_samples)
    if config.aggregation in ("mean", "streaming_mean"):
        return spread(everything), 0
    if config.aggregation == "median":
        return spread(everything), config.num_samples
    pilot = pilot_numbers(config.num_samples, config.mad_pilot or config.num_samples)  # as `explain` takes its bounds from
    return np.concatenate([spread(pilot), spread(np.setdiff1d(everything, pilot))]), len(pilot)


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=9)
def _round(
    forward: Forward,
    rules: Decomposition,
    raw: bool,
    params: Any,
    images: Float[Array, "b h w 3"],
    cotangents: Float[Array, "b k classes"],
    key: PRNGKeyArray,
    image_ids: Integer[Array, " b"],
    config: DaveConfig,
    state: _State,
    numbers: Integer[Array, " m"],
    arrived: Integer[Array, " m"],
    known: Integer[Array, ""],
) -> tuple[Array, _State]:
    """The maps after the samples of these numbers, which arrived in these places of the order, and the state with them."""

    def finish(job):
        image, cotangents, number, (held, total, weight) = job
        sample = sample_of(forward, rules, params, image, cotangents, jax.random.fold_in(key, number), config)
        samples = jax.lax.map(sample, numbers, batch_size=config.chunk_size)
        num_held = len(held)
        held = held.at[jnp.where(arrived < known, arrived, num_held)].set(samples, mode="drop")
        weigh = _weights(config, held, jnp.minimum(known, num_held))

        def sums(samples: Array, among: Array) -> tuple[Array, Array]:
            weights = jnp.where(among[:, None, None, None, None], jax.vmap(weigh)(samples), 0.0)
            return jnp.sum(weighted(samples, weights), axis=0), jnp.sum(weights, axis=0)

        more = sums(samples, (arrived >= num_held) & (arrived < known))  # of the samples that are not held
        total, weight = total + more[0], weight + more[1]
        if config.aggregation == "median":
            aggregated = median(held, count=jnp.minimum(known, num_held))
        else:
            own = sums(held, jnp.arange(num_held) < known)
            aggregated = divide(total + own[0], weight + own[1])
        maps = aggregated if raw else jax.vmap(lambda one: postprocess(one, config))(aggregated)
        return maps, _State(held, total, weight)

    return jax.lax.map(finish, (images, cotangents, image_ids, state))


def _weights(
    config: DaveConfig, held: Float[Array, "held k h w 3"], count: Integer[Array, ""]
) -> Callable[[Float[Array, "k h w 3"]], Float[Array, "k h w 3"]]:
    """The function from a sample to its weight in the mean."""
    if config.aggregation not in ROBUST_WEIGHTS:
        return jnp.ones_like
    bounds = mad_bounds(held, config.mad_threshold, count)
    return lambda sample: ROBUST_WEIGHTS[config.aggregation](sample, *bounds)
