"""The compiled program of a batch: predictions, heat maps, bias shares and completeness, each device its share of the images.

Images map independently, so devices need not talk to each other: a mesh of this process's devices, images sharded along it, parameters on
all. Where a batch has fewer images than there are devices, several devices share DAVE's samples of an image; other methods leave the rest
idle. Every image's randomness comes from its number in the data set, so its map is the same on any number of devices, to rounding.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Integer, PRNGKeyArray

from dave_jax.attribution.bias import share_and_completeness
from dave_jax.attribution.dave import Dave
from dave_jax.attribution.explain import explain
from dave_jax.attribution.method import Method
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.models.model import Model, batch_logits


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program for batches of one size; from `compile_program`.

    Attributes:
        compiled: what runs.
        inputs: model, method and key on the devices.
        mesh: of the devices.
        rows: images of a batch that it takes, a multiple of the mesh's first axis.
    """

    compiled: Any
    inputs: tuple[Any, ...]
    mesh: Mesh
    rows: int

    def __call__(self, images: Float[np.ndarray, "b h w 3"], numbers: Integer[np.ndarray, " b"], targets: Int[np.ndarray, "b k"]) -> Any:
        """Start a batch of at most `rows` images; returns arrays of `rows` that may still be on their way."""
        sharded = NamedSharding(self.mesh, PartitionSpec("data"))
        parts = (images, numbers.astype(np.uint32), targets.astype(np.int32))
        padded = [np.concatenate([part, np.zeros((self.rows - len(part), *part.shape[1:]), part.dtype)]) for part in parts]
        return self.compiled(*self.inputs, *jax.device_put(padded, sharded))

    @property
    def memory(self) -> int:
        """Bytes that the program needs on each device: arguments, results and what lies between."""
        found = self.compiled.memory_analysis()
        if found is None:
            return 0
        return found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes


def compile_program(
    model: Model,
    *,
    key: PRNGKeyArray,
    method: Method,
    batch_size: int,
    num_targets: int,
    top: bool,
    dtype: str,
) -> Program:
    """The program of a batch on the devices of this process, compiled.

    Args:
        model: what predicts.
        key: of all randomness.
        method: how to explain, fitted to the model.
        batch_size: images of a batch, at most.
        num_targets: of each image.
        top: whether they are the most probable classes; otherwise they are given with the batch.
        dtype: of the maps.
    """
    mesh = device_mesh(jax.local_devices(), batch_size, method.config.num_samples if isinstance(method, Dave) and method.config else 1)
    images = mesh.shape["data"]
    replicated, sharded = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    rows = -(-batch_size // images) * images
    inputs = jax.device_put((model, method, key), replicated)
    shapes = [
        jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=sharded)
        for shape, dtype in (((*model.preprocessing.image_size, 3), jnp.float32), ((), jnp.uint32), ((num_targets,), jnp.int32))
    ]
    program = partial(_explain_batch, mesh=mesh, top=top, dtype=dtype)
    jitted = jax.jit(program, in_shardings=(replicated,) * 3 + (sharded,) * 3, out_shardings=sharded)
    return Program(jitted.lower(*inputs, *shapes).compile(), inputs, mesh, rows)


def device_mesh(devices: Sequence[Any], batch_size: int, num_samples: int) -> Mesh:
    """Devices for images, and for the samples of an image where there are more devices than images; the axes of `explain`.

    Example:
        >>> dict(device_mesh(jax.devices()[:1], 8, 50).shape)
        {'data': 1, 'samples': 1}
    """
    count = len(devices)
    enough = (images for images in range(min(batch_size, count), count + 1) if count % images == 0)
    images = next(images for images in enough if num_samples % (count // images) == 0)
    return Mesh(np.array(devices).reshape(images, -1), ("data", "samples"))


def _explain_batch(
    model: Model,
    method: Method,
    key: PRNGKeyArray,
    images: Float[Array, "b h w 3"],
    numbers: Integer[Array, " b"],
    targets: Int[Array, "b k"],
    *,
    mesh: Mesh,
    top: bool,
    dtype: str,
) -> dict[str, Array]:
    """All of a batch; traced."""
    whole, spread = PartitionSpec(), PartitionSpec("data")
    decomposition = getattr(method, "decomposition", None)
    predict = partial(_predict, rules=None if decomposition is None else resolve(decomposition), top=top)
    predict = jax.shard_map(predict, mesh=mesh, in_specs=(whole, spread, spread), out_specs=spread, check_vma=False)
    found = predict(model, images, targets)
    if isinstance(method, Dave):
        rules, config = method.decomposition, method.config
        maps = explain(model, images, found["target"], key=key, config=config, decomposition=rules, image_ids=numbers, mesh=mesh)
    else:

        def share(model, method, key, images, numbers, targets):
            return method(model, images, targets, key=key, image_ids=numbers)

        share = jax.shard_map(share, mesh=mesh, in_specs=(whole,) * 3 + (spread,) * 3, out_specs=spread, check_vma=False)
        maps = share(model, method, key, images, numbers, found["target"])
    return found | {"maps": maps.astype(dtype)}


def _predict(
    model: Model, images: Float[Array, "b h w 3"], targets: Int[Array, "b k"], *, rules: Decomposition | None, top: bool
) -> dict[str, Array]:
    """Everything but the maps, of a device's images; NaN for what is a decomposition's where the method has none."""
    logits = batch_logits(model.forward, model.params, images)
    if top:
        targets = jax.lax.top_k(logits, targets.shape[1])[1].astype(jnp.int32)

    if rules is None:
        shares = residuals = jnp.full(targets.shape, jnp.nan)
    else:
        shares, residuals = jax.lax.map(partial(_account, model, rules), (images, targets))
    return {
        "target": targets,
        "logit": jnp.take_along_axis(logits, targets, axis=1).astype(jnp.float32),
        "probability": jnp.take_along_axis(jax.nn.softmax(logits, axis=1), targets, axis=1).astype(jnp.float32),
        "bias_share": shares.astype(jnp.float32),
        "completeness": residuals.astype(jnp.float32),
    }


def _account(model: Model, rules: Decomposition, one: tuple[Array, Array]) -> tuple[Array, Array]:
    """Bias shares and completeness of an image, for each class."""
    image, ids = one
    return jax.lax.map(lambda target: share_and_completeness(model, image, target, rules), ids)
