"""What a configuration leaves open, decided for a model, an image size and the device."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.core import Tracer

from dave_jax.attribution.chunk import SHARE, default_chunk, device_memory
from dave_jax.config import DaveConfig
from dave_jax.effective.decomposition import Decomposition
from dave_jax.models.model import Model
from dave_jax.models.network import Encoded, Network, in_half, in_precision
from dave_jax.sampling.warp import WIDEST, reach

LEAST_PILOT = 32
"""Samples that are kept for MAD's bounds even where memory is short."""


def fitted(
    config: DaveConfig,
    model: Model,
    rules: Decomposition,
    image: jax.ShapeDtypeStruct,
    num_targets: int,
    share: int = 1,
    platform: str | None = None,
) -> DaveConfig:
    """The settings with precision, warp adjoint, chunk and pilot: theirs, or what suits the device.

    Args:
        config: the settings.
        model: what predicts.
        rules: the decomposition.
        image: shape and dtype of one image.
        num_targets: of each image.
        share: devices over which the samples are spread.
        platform: `cpu`, `gpu` or `tpu`; None is that of the default device.

    Raises:
        ValueError: half precision of a forward pass that is not ours; smoothing for a network that sees channels made of the image; a
            gathering warp for ranges where it is not exact; samples that cannot be spread evenly.

    Example:
        >>> from dave_jax.effective.decomposition import effective
        >>> from dave_jax.testing import tiny_model
        >>> found = fitted(DaveConfig(num_samples=6), tiny_model(), effective, jax.ShapeDtypeStruct((16, 16, 3), jnp.float32), 1)
        >>> found.chunk_size, found.mad_pilot, found.precision
        (3, 6, 'float32')
    """
    if config.num_samples % share:
        raise ValueError(f"num_samples must be a multiple of the {share} devices that share an image's samples; got {config.num_samples}.")
    accelerator = (platform or jax.default_backend()) in ("gpu", "tpu")
    precision, adjoint = config.precision, config.warp_adjoint
    ours = isinstance(model.forward, Network)
    if precision in ("bfloat16", "bfloat16_products") and not ours:
        raise ValueError(
            f"precision={precision!r} is for networks of ours, which keep norms and softmax in float32; "
            f"this is a {type(model.forward).__name__}. Cast its parameters instead, or leave precision out."
        )
    if config.smoothing and isinstance(model.forward, Encoded):
        raise ValueError(
            f"smoothing is for networks that see the image itself; a {type(model.forward).__name__} sees channels made of it, whose "
            "products with W_eff cannot be told apart. Leave smoothing out."
        )
    if precision is None:
        half = (accelerator and image.dtype == jnp.float32) or in_half(model.params)
        precision = "bfloat16" if ours and half else "float32"
    exact = _gathers(config)
    if adjoint == "gather" and exact is False:
        raise ValueError(
            f"warp_adjoint='gather' is exact up to a reach of {WIDEST} pixels; these scales and rotations go beyond it. Use 'scatter'."
        )
    if adjoint is None:
        adjoint = "gather" if exact else "scatter"
    each = num_targets * math.prod(image.shape) * image.dtype.itemsize
    # samples, deviations and their orders
    pilot = config.mad_pilot or max(LEAST_PILOT, int(SHARE * device_memory(platform) / (4 * each)) * share)
    chunk = config.chunk_size
    if chunk is None:
        params = jax.eval_shape(lambda params: in_precision(model.forward, params, precision, image.dtype), model.params)
        chunk = default_chunk(model.forward, params, image.shape, rules, config.num_samples // share, num_targets, platform)
    return dataclasses.replace(
        config,
        precision=precision,
        warp_adjoint=adjoint,
        chunk_size=min(chunk, config.num_samples // share),
        mad_pilot=min(pilot, config.num_samples),
    )


def _gathers(config: DaveConfig) -> bool | None:
    """Whether a gathering warp is exact for the ranges; None where they are traced and cannot be looked at."""
    if config.random_padding:
        return False  # it shrinks the axes by different factors before the rotation
    values = (config.rotation, config.scale_min, config.scale_max)
    if any(isinstance(value, Tracer) for value in values):
        return None
    angle, *scales = (float(value) for value in values)
    return reach(angle, max(scales)) <= WIDEST
