"""How many samples to compute at once: what the device's memory holds; and sums that hold no more."""

import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dave_jax.effective.decomposition import Decomposition

SHARE = 0.25
"""The part of the device's memory that a chunk may take."""

MOST, MOST_BACKWARD = {"cpu": 5}, {"cpu": 10}
"""Samples at once, and samples times targets. A CPU's cores are busy with a few images, and what more of them keep leaves its cache: four
samples of a ViT-B take 0.95 of the time of eight, and for five targets of a ViT-S two samples 0.8 of that."""

_GUESS = 8 * 2**30


def device_memory(platform: str | None = None) -> int:
    """Bytes of memory of the default device, or a guess of 8 GiB where it does not say, or is for another platform."""
    device = jax.local_devices()[0]  # of a device of another process nothing is told
    if platform not in (None, _kind(device.platform)):
        return _GUESS
    if device.platform == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    stats = device.memory_stats() or {}
    return int(stats.get("bytes_limit", _GUESS))


def _kind(platform: str) -> str:
    """JAX's name of a backend: `gpu` for both kinds of these."""
    return "gpu" if platform in ("cuda", "rocm") else platform


@partial(jax.jit, static_argnums=(0, 1))  # for its cache: an image size and model seen before are not traced again
def _residuals(forward: Any, rules: Decomposition, params: Any, images: Array) -> Any:
    return jax.vjp(jax.vmap(lambda image: forward(params, image, rules)), images)[1]


def sample_bytes(forward: Any, params: Any, image: jax.ShapeDtypeStruct, rules: Decomposition, num_targets: int) -> int:
    """What one sample keeps between its forward and its backward pass, in bytes, found without running it: the residuals of `jax.vjp`."""

    def total(tree):
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    def of(count):
        images = jax.ShapeDtypeStruct((count, *image.shape), image.dtype)
        return total(_residuals.eval_shape(forward, rules, params, images))

    kept = of(2) - of(1)  # residuals hold parameters too, which do not grow
    return 2 * max(kept, 0) + (2 + num_targets) * image.size * image.dtype.itemsize


def choose_chunk(num_samples: int, fit: int, most: int) -> int:
    """The largest chunk that fits; a divisor of `num_samples` when one is near, for a remainder is compiled a second time. Else one that
    leaves a large remainder.

    Example:
        >>> choose_chunk(50, 1000, 8), choose_chunk(17, 1000, 8), choose_chunk(4, 1000, 8)
        (5, 6, 4)
    """
    limit = max(1, min(num_samples, fit, most))
    divisor = max(size for size in range(1, limit + 1) if num_samples % size == 0)
    return divisor if 2 * divisor >= limit else -(-num_samples // -(-num_samples // limit))


def default_chunk(
    forward: Any,
    params: Any,
    image_shape: tuple[int, ...],
    rules: Decomposition,
    num_samples: int,
    num_targets: int,
    platform: str | None = None,
) -> int:
    """The chunk for a model, an image size and the default device, or one of a platform (`cpu`, `gpu`, `tpu`)."""
    each = sample_bytes(forward, params, jax.ShapeDtypeStruct(image_shape, jnp.result_type(float)), rules, num_targets)
    fit = math.floor(SHARE * device_memory(platform) / max(each, 1))
    kind = platform or jax.default_backend()
    most = MOST.get(kind, 128)
    if num_targets and kind in MOST_BACKWARD:
        most = min(most, max(1, MOST_BACKWARD[kind] // num_targets))
    return choose_chunk(num_samples, fit, most)


def sum_over(function: Callable[[Any], Any], inputs: Any, chunk_size: int) -> Any:
    """The sum of `function` over the leading axis of the inputs, both pytrees, with one chunk in memory at a time.

    Example:
        >>> sum_over(lambda x: x**2, jnp.arange(5), 2).item()
        30
    """
    count = len(jax.tree.leaves(inputs)[0])
    chunk = min(chunk_size, count)
    whole = count - count % chunk

    def summed(part):
        return jax.tree.map(lambda values: values.sum(0), jax.vmap(function)(part))

    def add(total, part):
        return jax.tree.map(jnp.add, total, summed(part)), None

    parts = jax.tree.map(lambda leaf: leaf[:whole].reshape(whole // chunk, chunk, *leaf.shape[1:]), inputs)
    shapes = jax.eval_shape(summed, jax.tree.map(lambda leaf: leaf[0], parts))
    total, _ = jax.lax.scan(add, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), parts)
    if whole < count:
        total, _ = add(total, jax.tree.map(lambda leaf: leaf[whole:], inputs))
    return total
