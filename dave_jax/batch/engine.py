"""The compiled program of a batch: predictions, heat maps, bias shares and completeness, each device its share of the images.

Images map independently, so devices need not talk to each other: a mesh of this process's devices, images sharded along it, parameters on
all. Every image's randomness comes from its number in the data set, so its map is the same on any number of devices, to rounding.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Integer, PRNGKeyArray

from dave_jax.attribution.bias import share_and_completeness
from dave_jax.attribution.explain import explain
from dave_jax.config import DaveConfig
from dave_jax.effective.decomposition import Decomposition
from dave_jax.models.model import Model, batch_logits

AXIS = "images"
"""Of the mesh."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program for batches of one size; from `compile_program`.

    Attributes:
        compiled: what runs.
        inputs: model, settings and key on the devices.
        mesh: of the devices.
        rows: images of a batch that it takes, a multiple of the devices.
    """

    compiled: Any
    inputs: tuple[Any, ...]
    mesh: Mesh
    rows: int

    def __call__(self, images: Float[np.ndarray, "b h w 3"], numbers: Integer[np.ndarray, " b"], targets: Int[np.ndarray, "b k"]) -> Any:
        """Start a batch of at most `rows` images; returns arrays of `rows` that may still be on their way."""
        sharded = NamedSharding(self.mesh, PartitionSpec(AXIS))
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
    config: DaveConfig,
    rules: Decomposition,
    batch_size: int,
    num_targets: int,
    top: bool,
    dtype: str,
) -> Program:
    """The program of a batch on the devices of this process, compiled.

    Args:
        model: what predicts.
        key: of all randomness.
        config: settings of the maps, with a chunk size.
        rules: the decomposition.
        batch_size: images of a batch, at most.
        num_targets: of each image.
        top: whether they are the most probable classes; otherwise they are given with the batch.
        dtype: of the maps.
    """
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    replicated, sharded = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
    rows = -(-batch_size // mesh.size) * mesh.size
    local = partial(_explain_part, rules=rules, top=top, dtype=dtype)
    parts = (PartitionSpec(),) * 3 + (PartitionSpec(AXIS),) * 3
    program = jax.shard_map(local, mesh=mesh, in_specs=parts, out_specs=PartitionSpec(AXIS), check_vma=False)
    inputs = jax.device_put((model, config, key), replicated)
    shapes = [
        jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=sharded)
        for shape, dtype in (((*model.preprocessing.image_size, 3), jnp.float32), ((), jnp.uint32), ((num_targets,), jnp.int32))
    ]
    jitted = jax.jit(program, in_shardings=(replicated,) * 3 + (sharded,) * 3, out_shardings=sharded)
    return Program(jitted.lower(*inputs, *shapes).compile(), inputs, mesh, rows)


def _explain_part(
    model: Model,
    config: DaveConfig,
    key: PRNGKeyArray,
    images: Float[Array, "b h w 3"],
    numbers: Integer[Array, " b"],
    targets: Int[Array, "b k"],
    *,
    rules: Decomposition,
    top: bool,
    dtype: str,
) -> dict[str, Array]:
    """One device's share of a batch; traced."""
    logits = batch_logits(model.forward, model.params, images)
    if top:
        targets = jax.lax.top_k(logits, targets.shape[1])[1].astype(jnp.int32)
    maps = explain(model, images, targets, key=key, config=config, decomposition=rules, image_ids=numbers)

    def account(one: tuple[Array, Array]) -> tuple[Array, Array]:
        image, ids = one
        return jax.lax.map(lambda target: share_and_completeness(model, image, target, rules), ids)

    shares, residuals = jax.lax.map(account, (images, targets))

    return {
        "maps": maps.astype(dtype),
        "target": targets,
        "logit": jnp.take_along_axis(logits, targets, axis=1).astype(jnp.float32),
        "probability": jnp.take_along_axis(jax.nn.softmax(logits, axis=1), targets, axis=1).astype(jnp.float32),
        "bias_share": shares.astype(jnp.float32),
        "completeness": residuals.astype(jnp.float32),
    }
