"""One image: the attributions of its neighbours, and their average. What `explain` runs for every image.

With a mesh axis the samples are spread over its devices: each computes its share, and the averages are made of all of them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from dave_jax.attribution.aggregate import AGGREGATIONS, ROBUST_WEIGHTS, divide, mad_bounds, weighted, weighted_mean
from dave_jax.attribution.chunk import sum_over
from dave_jax.attribution.smoothing import smooth
from dave_jax.config import DaveConfig, Scalar
from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.precision import cast, narrow
from dave_jax.models.model import Forward
from dave_jax.models.network import Encoded, Network, in_half, in_precision
from dave_jax.sampling.noise import add_noise
from dave_jax.sampling.samplers import Neighbour, sampler_called
from dave_jax.sampling.transforms import Transform, apply_transform, pull_back

Image = Float[Array, "h w 3"]

AT_ONCE = 8
"""Backward passes of a sample that are computed together: more gain nothing, and take memory."""


def contribution(
    forward: Forward,
    rules: Decomposition,
    kind: Literal["adjoint", "inverse"],
    params: Any,
    image: Image,
    cotangents: Float[Array, "k classes"],
    transform: Transform | None,
    noise: Image,
    t: Scalar,
    warp_adjoint: Literal["scatter", "gather"] = "scatter",
) -> Float[Array, "k h w 3"]:
    """The effective transformation of one neighbour for several cotangents: one forward pass, one backward pass for each.

    Of networks of ours whose every operator is frozen, several backward passes are one by `vmap`. Of others they come one after the other,
    as in every method: XLA on the CPU (jaxlib 0.10, not 0.12) gets `g - sum(p g)` wrong where p is broadcast along a leading axis and the
    arrays are large, which is softmax's derivative for several cotangents g; and a function that is not ours may differentiate one.
    """
    ours = isinstance(forward, Network)
    together = min(len(cotangents), AT_ONCE) if ours and rules.is_frozen else 1
    rules = rules.backwards() if ours else rules

    def neighbour(image: Image) -> Image:
        return add_noise(image if transform is None else apply_transform(transform, image, warp_adjoint), noise, t)

    if kind == "adjoint" or transform is None:
        _, pull = jax.vjp(lambda image: forward(params, neighbour(image), rules), image)
        return jax.lax.map(lambda cotangent: pull(cotangent)[0], cotangents, batch_size=together)
    _, pull = jax.vjp(lambda moved: forward(params, moved, rules), neighbour(image))
    return jax.lax.map(lambda cotangent: pull_back(transform, (1.0 - t) * pull(cotangent)[0], "inverse"), cotangents, batch_size=together)


def times_input(
    forward: Forward,
    rules: Decomposition,
    params: Any,
    image: Image,
    cotangents: Float[Array, "k classes"],
    neighbour: Neighbour,
    config: DaveConfig,
) -> Float[Array, "k h w 3"]:
    """A sample: the image times `contribution`. A network that makes channels c of the image (`Encoded`) gets their products, summed

        over the channels j made of one of the image's:  c_j(x) * [T^T (1 - t) d logit / d c_j (c(x_t))]

    which for [x, 1 - x] is the image times `contribution`, and the contribution of the constant one of 1 - x, where it arises.
    """
    kind, adjoint = config.pull_back, config.warp_adjoint or "scatter"
    if not isinstance(forward, Encoded):
        return image[None] * contribution(forward, rules, kind, params, image, cotangents, *neighbour, adjoint)
    transform, noise, t = neighbour
    made = cast(params, image.dtype)
    channels, _ = forward.channels(made, image)
    seen, _ = forward.channels(made, add_noise(apply_transform(transform, image), noise, t))

    def logits(seen: Array) -> Array:
        return narrow(forward.on_channels(params, seen.astype(jnp.bfloat16) if in_half(params) else seen, rules.backwards())[0], seen)

    _, pull = jax.vjp(logits, seen)
    back = partial(pull_back, transform, kind=kind, warp_adjoint=adjoint)
    products = jax.lax.map(lambda cotangent: channels * back((1.0 - t) * pull(cotangent)[0]), cotangents)
    return products.reshape(*products.shape[:-1], -1, 3).sum(-2)


def attribute_image(
    forward: Forward,
    rules: Decomposition,
    params: Any,
    image: Image,
    cotangents: Float[Array, "k classes"],
    key: PRNGKeyArray,
    config: DaveConfig,
    return_samples: bool = False,
    first: int | Integer[Array, ""] = 0,
    axis: str | None = None,
) -> tuple[Float[Array, "k h w 3"], Float[Array, "k samples h w 3"] | None]:
    """The aggregated attributions of one image, smoothed if `config` says so, and its samples if wanted; traced. `config` must be `fitted`.

    Args:
        forward, rules, params, image, cotangents, key, config: as in `explain`.
        return_samples: whether to return the samples.
        first: the number of the first sample, which tells samples of several calls apart.
        axis: the mesh axis over which the samples are spread, inside `jax.shard_map`.
    """
    sample = sample_of(forward, rules, params, image, cotangents, key, config)
    aggregated, halves, samples = _aggregate(lambda number: sample(first + number), config, return_samples, axis)
    if halves is not None:
        aggregated = jax.vmap(lambda all_, one, other: smooth(all_, one, other, image))(aggregated, *halves)
    return aggregated, samples


def _aggregate(
    one: Callable[[Array], Array], config: DaveConfig, return_samples: bool, axis: str | None
) -> tuple[Float[Array, "k h w 3"], Float[Array, "2 k h w 3"] | None, Float[Array, "k samples h w 3"] | None]:
    """The average of all samples, those of two halves of them where they are to be smoothed, and the samples if wanted."""
    everything, chunk = np.arange(config.num_samples), config.chunk_size or 1
    if config.aggregation == "streaming_mean":
        total = _total(sum_over(lambda number: _by_halves(one(number), number, config), _mine(everything, axis), chunk), axis)
        halves = jnp.stack([part / count for part, count in zip(total, _sizes(config), strict=True)])
        return total.sum(0) / config.num_samples, halves if config.smoothing else None, None
    if config.aggregation in ROBUST_WEIGHTS and not return_samples:
        return *robust_mean(one, config, axis), None
    samples = _everywhere(jax.lax.map(one, _mine(everything, axis), batch_size=chunk), axis)
    halves = halves_of(samples, config) if config.smoothing else None
    return AGGREGATIONS[config.aggregation](samples, config.mad_threshold), halves, jnp.swapaxes(samples, 0, 1) if return_samples else None


def _half(number: Any) -> Any:
    """Which half a sample belongs to: pairs by turns, for the lattice's flips follow single numbers."""
    return number // 2 % 2


def _sizes(config: DaveConfig) -> list[int]:
    """How many samples are in each half, or in all where nothing is smoothed."""
    second = int(_half(np.arange(config.num_samples)).sum())
    return [config.num_samples - second, second] if config.smoothing else [config.num_samples]


def _by_halves(array: Array, number: Array, config: DaveConfig) -> Float[Array, "halves ..."]:
    """The array in the place of its sample's half, zeros in the other; in the only place where nothing is smoothed."""
    return jnp.stack([jnp.where(_half(number) == half, array, 0.0) for half in (0, 1)]) if config.smoothing else array[None]


def halves_of(samples: Float[Array, "samples ..."], config: DaveConfig) -> Float[Array, "2 ..."]:
    """The averages of either half; of those with weights, by the bounds of all samples, as in `robust_mean`."""
    members = [np.flatnonzero(_half(np.arange(len(samples))) == half) for half in (0, 1)]
    if config.aggregation not in ROBUST_WEIGHTS:
        return jnp.stack([AGGREGATIONS[config.aggregation](samples[some], config.mad_threshold) for some in members])
    weigh = jax.vmap(ROBUST_WEIGHTS[config.aggregation], (0, None, None))
    weights = weigh(samples, *mad_bounds(samples, config.mad_threshold))
    return jnp.stack([weighted_mean(samples[some], weights[some]) for some in members])


def sample_of(
    forward: Forward,
    rules: Decomposition,
    params: Any,
    image: Image,
    cotangents: Float[Array, "k classes"],
    key: PRNGKeyArray,
    config: DaveConfig,
) -> Callable[[Integer[Array, ""]], Float[Array, "k h w 3"]]:
    """The function from a sample's number to the image's attributions by it; traced. Arguments as in `attribute_image`."""
    draw, like = sampler_called(config.sampler), jax.ShapeDtypeStruct(image.shape, image.dtype)
    params = in_precision(forward, params, config.precision, image.dtype)

    def sample(number: Integer[Array, ""]) -> Float[Array, "k h w 3"]:
        return times_input(forward, rules, params, image, cotangents, draw(key, number, config, like), config)

    return sample


def robust_mean(one: Callable[[Array], Array], config: DaveConfig, axis: str | None) -> tuple[Array, Array | None]:
    """`mad_mean` or `biweight`, and those of two halves where they are to be smoothed, in the memory of `mad_pilot` samples: these are
    held, for the bounds; others are added up as they come.

    Args:
        one: from a sample's number to its attributions, shape (...).
        config: `fitted`.
        axis: the mesh axis over which the samples are spread, or None.

    Returns:
        The mean, shape (...), and with `smoothing` those of the halves, shape (2, ...).
    """
    count, pilot, chunk = config.num_samples, config.mad_pilot or config.num_samples, config.chunk_size or 1
    places = pilot_numbers(count, pilot)
    others = np.setdiff1d(np.arange(count), places)
    spare = 0 if axis is None else -pilot % jax.lax.axis_size(axis)  # every device holds as many; those too many tell no bounds
    held = _mine(np.concatenate([places, others[:spare]]), axis)
    samples = jax.lax.map(one, held, batch_size=chunk)
    telling = samples
    if spare:
        tells = _mine(np.arange(pilot + spare), axis) < pilot
        telling = jnp.where(tells.reshape(-1, *[1] * (samples.ndim - 1)), samples, jnp.inf)
    bounds = _by_pixels(lambda values: mad_bounds(values, config.mad_threshold, pilot), telling, axis)

    def with_weight(job: tuple[Array, Array]) -> tuple[Array, Array]:
        sample, number = job
        weight = ROBUST_WEIGHTS[config.aggregation](sample, *bounds)
        return _by_halves(weighted(sample, weight), number, config), _by_halves(weight, number, config)

    total = jax.lax.platform_dependent(
        (samples, held),
        cpu=lambda jobs: sum_over(with_weight, jobs, 1),  # XLA there is slow in sums over a leading axis
        default=lambda jobs: jax.tree.map(lambda part: part.sum(0), jax.vmap(with_weight)(jobs)),
    )
    if pilot + spare < count:
        rest = _mine(others[spare:], axis)
        total = jax.tree.map(jnp.add, total, sum_over(lambda number: with_weight((one(number), number)), rest, chunk))
    total, weight = _total(total, axis)
    halves = divide(total, weight) if config.smoothing else None
    return divide(total.sum(0), weight.sum(0)), halves


def pilot_numbers(count: int, pilot: int) -> Integer[np.ndarray, " pilot"]:
    """Which samples the bounds are taken from: one of each of `pilot` equal parts, at places that follow no period of the sampler's.

    Example:
        >>> pilot_numbers(8, 8).tolist(), pilot_numbers(8, 2).tolist()
        ([0, 1, 2, 3, 4, 5, 6, 7], [0, 6])
    """
    starts = np.arange(pilot + 1) * count // pilot
    within = np.arange(pilot) * 0.6180339887 % 1.0  # the golden ratio's multiples
    return starts[:-1] + (within * np.diff(starts)).astype(int)


def _mine(numbers: np.ndarray, axis: str | None) -> Integer[Array, " n"]:
    """This device's share of the samples' numbers: of n devices each takes every n-th."""
    if axis is None:
        return jnp.asarray(numbers)
    return jnp.asarray(numbers.reshape(-1, jax.lax.axis_size(axis)))[:, jax.lax.axis_index(axis)]


def _total(tree: Any, axis: str | None) -> Any:
    return tree if axis is None else jax.lax.psum(tree, axis)


def _everywhere(samples: Float[Array, "n ..."], axis: str | None) -> Float[Array, "samples ..."]:
    """All samples in the order of their numbers, on every device."""
    if axis is None:
        return samples
    return jnp.swapaxes(jax.lax.all_gather(samples, axis), 0, 1).reshape(-1, *samples.shape[1:])


def _by_pixels(function: Callable[[Array], Any], samples: Float[Array, "n ..."], axis: str | None) -> Any:
    """`function` of all samples, elementwise in all but the first axis: every device takes all samples of its share of the pixels.

    An exchange of each device's samples once, where sending all of them everywhere would take as many times as there are devices.
    """
    if axis is None:
        return function(samples)
    share, shape = jax.lax.axis_size(axis), samples.shape[1:]
    flat = samples.reshape(len(samples), -1)
    flat = jnp.pad(flat, ((0, 0), (0, -flat.shape[1] % share)))
    mine = jax.lax.all_to_all(flat, axis, split_axis=1, concat_axis=0, tiled=True)
    found = jax.tree.map(lambda part: jax.lax.all_gather(part, axis, tiled=True), function(mine))
    return jax.tree.map(lambda part: part[: samples[0].size].reshape(shape), found)
