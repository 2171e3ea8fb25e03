"""`explain_until`: as many samples as a map needs, and how certain it is.

    round r:  m_r = the aggregated attributions of `num_samples` new samples
    map = mean over r of m_r                    standard error = sd over r of m_r / sqrt(rounds), pixel by pixel
    stop when rms(standard error) <= tolerance * rms(map), for every target

Rounds run in one `jax.lax.while_loop`, image by image: an easy image stops early and costs less.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from dave_jax.attribution.fit import fitted
from dave_jax.attribution.inputs import as_inputs
from dave_jax.attribution.neighbourhood import attribute_image
from dave_jax.attribution.postprocess import postprocess
from dave_jax.config import DaveConfig
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.models.model import Forward, Model


@dataclasses.dataclass(frozen=True)
class Converged:
    """Maps, and how certain they are. For k targets an image, all but `num_samples` have an axis of length k after b.

    Attributes:
        maps: heat maps Float[b h w] in [0, 1], or with `raw` the aggregated attributions Float[b h w 3].
        num_samples: Int[b], samples that an image took.
        standard_error: Float[b h w], of the attribution of each pixel, channels summed; in units of the logit, as `raw` maps are.
        error: Float[b], `rms(standard error) / rms(map)`, what the tolerance is compared with. For a small one, a second map of as many
            samples correlates with this one by about `1 / (1 + error^2)`.
    """

    maps: Float[Array, "..."]
    num_samples: Integer[Array, " b"]
    standard_error: Float[Array, "..."]
    error: Float[Array, "..."]


def explain_until(
    model: Model,
    images: ArrayLike,
    targets: Any,
    *,
    key: PRNGKeyArray,
    tolerance: float,
    max_rounds: int = 50,
    config: DaveConfig | None = None,
    decomposition: str | Decomposition = "effective",
    image_ids: ArrayLike | None = None,
    raw: bool = False,
) -> Converged:
    """`explain` with as many samples as each image needs.

    A round is what `explain` computes with `config.num_samples` new samples, aggregation included; the map is the mean over rounds. With
    the plain mean and without noise that is `explain` with all of the samples at once; noise levels span their range in every round, and a
    robust aggregation works within a round.

    Args:
        model: what predicts.
        images: normalised images Float[b h w 3].
        targets: as in `explain`.
        key: of all randomness.
        tolerance: of the error, relative to the map: 0.3 gives a map that a second run would reproduce with a correlation of 0.9. Traced.
        max_rounds: where to stop at the latest; at least 2, which is how many an error needs.
        config: settings; default the model's own with eight samples a round.
        decomposition: its name or itself.
        image_ids: as in `explain`.
        raw: return attributions instead of heat maps.

    Raises:
        ValueError, TypeError: as `explain`; a tolerance below 0, fewer than two rounds, settings that smooth.

    Example:
        >>> import dave_jax as dave
        >>> model, images = dave.testing.tiny_model(), jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
        >>> found = explain_until(model, images, [0, 1], key=jax.random.key(1), tolerance=0.5)
        >>> found.maps.shape, found.standard_error.shape, bool((found.error <= 0.5).all())
        ((2, 16, 16), (2, 16, 16), True)
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0; got {tolerance}.")
    if max_rounds < 2:
        raise ValueError(f"max_rounds must be at least 2, which a standard error needs; got {max_rounds}.")
    rules = resolve(decomposition)
    config = model.config.with_samples(8) if config is None else config
    given = as_inputs(model, images, targets, image_ids)
    if config.smoothing:
        raise ValueError("explain_until does not smooth: leave smoothing out of its settings, or use explain.")
    config = fitted(config, model, rules, given.image, given.num_targets)
    work = (given.images, given.cotangents, key, given.image_ids, config)
    limits = (jnp.asarray(tolerance, given.images.dtype), jnp.asarray(max_rounds))
    found = _until(model.forward, rules, model.params, *work, *limits, raw)
    maps, num_samples, standard_error, error = found
    if given.single:
        maps, standard_error, error = maps[:, 0], standard_error[:, 0], error[:, 0]
    return Converged(maps, num_samples, standard_error, error)


@partial(jax.jit, static_argnums=(0, 1, 10))
def _until(
    forward: Forward,
    rules: Decomposition,
    params: Any,
    images: Float[Array, "b h w 3"],
    cotangents: Float[Array, "b k classes"],
    key: PRNGKeyArray,
    image_ids: Integer[Array, " b"],
    config: DaveConfig,
    tolerance: Float[Array, ""],
    max_rounds: Integer[Array, ""],
    raw: bool,
) -> tuple[Array, Array, Array, Array]:
    def finish(job):
        image, cotangents, number = job
        image_key = jax.random.fold_in(key, number)

        def certain(rounds: Array, mean: Array, squares: Array) -> tuple[Array, Array]:
            """The standard error of each pixel, and of each map."""
            count = rounds.astype(image.dtype)
            standard_error = jnp.sqrt(squares / (count * jnp.maximum(count - 1.0, 1.0)))
            size = _rms(jnp.sum(mean, axis=-1))
            return standard_error, jnp.where(size == 0, 0.0, _rms(standard_error) / jnp.where(size == 0, 1.0, size))

        def more(state) -> Array:
            rounds, mean, squares = state
            return (rounds < 2) | ((rounds < max_rounds) & (jnp.max(certain(rounds, mean, squares)[1]) > tolerance))

        def another(state):  # Welford's update, so that the squares do not cancel
            rounds, mean, squares = state
            new, _ = attribute_image(forward, rules, params, image, cotangents, image_key, config, first=rounds * config.num_samples)
            away = new - mean
            mean = mean + away / (rounds + 1).astype(image.dtype)
            return rounds + 1, mean, squares + jnp.sum(away, axis=-1) * jnp.sum(new - mean, axis=-1)

        none = jnp.zeros((len(cotangents), *image.shape), image.dtype)
        rounds, mean, squares = jax.lax.while_loop(more, another, (jnp.asarray(0), none, none[..., 0]))
        standard_error, error = certain(rounds, mean, squares)
        maps = mean if raw else jax.vmap(lambda one: postprocess(one, config))(mean)
        return maps, rounds * config.num_samples, standard_error, error

    return jax.lax.map(finish, (images, cotangents, image_ids))


def _rms(maps: Float[Array, "k h w"]) -> Float[Array, " k"]:
    return jnp.sqrt(jnp.mean(jnp.square(maps), axis=(-2, -1)))
