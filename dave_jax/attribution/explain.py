"""`explain`: the one compiled program, from images to heat maps.

    image --T--> T x --noise--> x_t = (1 - t) T x + sqrt(1 - (1 - t)^2) eps --frozen forward--> <cotangent, logits>
    sample_i = image * T^T (1 - t) W_eff(x_t)^T cotangent                     one `jax.vjp` through model, noise and transform
    {sample_i} --MAD mean over i--> (h, w, 3) --post-processing--> heat map (h, w)

A network that sees [x, 1 - x] (B-cos) is multiplied by what it sees: `neighbourhood.times_input`.

DAVE, arXiv 2602.06613, eqs. 6 to 9. Images run one after the other, an image's samples in chunks, so memory is set by the chunk. On several
devices both axes can be spread: pass a mesh.
"""

import contextlib
import dataclasses
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from dave_jax.attribution.aggregate import ROBUST_WEIGHTS
from dave_jax.attribution.fit import fitted
from dave_jax.attribution.inputs import as_inputs
from dave_jax.attribution.neighbourhood import attribute_image, contribution
from dave_jax.attribution.postprocess import postprocess
from dave_jax.attribution.targets import as_cotangents
from dave_jax.config import DaveConfig, Scalar
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.models.model import Forward, Model, check_images, count_classes
from dave_jax.sampling.transforms import Transform

Image = Float[Array, "h w 3"]


def explain(
    model: Model,
    images: ArrayLike,
    targets: Any,
    *,
    key: PRNGKeyArray,
    config: DaveConfig | None = None,
    decomposition: str | Decomposition = "effective",
    image_ids: ArrayLike | None = None,
    raw: bool = False,
    return_samples: bool = False,
    mesh: Mesh | None = None,
) -> Any:
    """Explain a batch of images: which pixels speak for a target.

    Args:
        model: what predicts.
        images: normalised images Float[b h w 3], from `model.preprocess`.
        targets: class ids Int[b] or Int[b k], or cotangents on the logits Float[b classes] or Float[b k classes]. The targets of an image
            share its samples and their forward passes.
        key: of all randomness. The same key gives the same map.
        config: settings; default the model's own.
        decomposition: its name or itself; "effective" is DAVE.
        image_ids: Integer[b], what tells images apart in the randomness: image j has the key `fold_in(key, id_j)`, of which with the
            independent sampler sample i has `fold_in(., i)`. By default `image_id` of the pixels, so that a map depends neither on the
            batch that an image came in nor on its place there. Pass equal ids to use the same transforms and noise for every image.
        raw: return the aggregated attributions (h, w, 3) instead of heat maps.
        return_samples: return the samples too.
        mesh: devices to spread the work over, with axes called `data` (images; their number must be a multiple of the axis's) and
            `samples` (the samples of each image; likewise), or one of them. The parameters go to every device.

    Returns:
        Heat maps Float[b h w] in [0, 1] for one target an image, Float[b k h w] for k; with `raw`, Float[b (k) h w 3]. With
        `return_samples`, a pair of that and the samples Float[b (k) samples h w 3].

    Raises:
        ValueError, TypeError: images, targets or settings that do not fit the model; the message says what must hold.

    Example:
        >>> import dave_jax as dave
        >>> model = dave.testing.tiny_model()
        >>> images = jnp.ones((2, 16, 16, 3))
        >>> config = dave.DaveConfig(num_samples=4, noise_alpha=0.3)
        >>> dave.explain(model, images, jnp.array([0, 1]), key=jax.random.key(0), config=config).shape
        (2, 16, 16)
    """
    config, rules = model.config if config is None else config, resolve(decomposition)
    given = as_inputs(model, images, targets, image_ids)
    if return_samples and config.aggregation == "streaming_mean":
        raise ValueError("aggregation='streaming_mean' never holds the samples; use aggregation='mean' with return_samples=True.")
    wanted, (images, mesh) = mesh, _placed(given.images, mesh)
    if return_samples and config.mad_pilot is None:
        config = dataclasses.replace(config, mad_pilot=config.num_samples)
    config = fitted(config, model, rules, given.image, given.num_targets, 1 if mesh is None else mesh.shape.get("samples", 1))
    if return_samples and config.mad_pilot != config.num_samples and config.aggregation in ROBUST_WEIGHTS:
        raise ValueError(
            f"mad_pilot={config.mad_pilot} does not hold all {config.num_samples} samples; leave it out with return_samples=True."
        )
    params, cotangents, ids = model.params, given.cotangents, given.image_ids
    if mesh is not None:
        whole, spread = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, _by_images(mesh))
        params, key = jax.device_put((params, key), whole)
        cotangents, ids = jax.device_put((cotangents, ids), spread)
    with contextlib.nullcontext() if mesh is None else jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # not a caller's own
        maps, samples = _explain(model.forward, rules, params, images, cotangents, key, ids, config, raw, return_samples, mesh)
        if given.single:
            maps, samples = maps[:, 0], None if samples is None else samples[:, 0]
    if wanted is not None:
        maps, samples = jax.device_put((maps, samples), NamedSharding(wanted, _by_images(wanted)))
    return (maps, samples) if return_samples else maps


def effective_transformation(
    model: Model,
    image: ArrayLike,
    target: Any,
    *,
    matrix: ArrayLike | None = None,
    noise: ArrayLike | None = None,
    t: Scalar = 0.0,
    decomposition: str | Decomposition = "effective",
    pull_back: Literal["adjoint", "inverse"] = "adjoint",
) -> Image:
    """The effective transformation of one given neighbour, pulled back to the clean image: `T^T (1 - t) W_eff(x_t)^T e_target`.

    The deterministic core of `explain`, before the product with the image.

    Args:
        model: what predicts.
        image: one normalised image Float[h w 3].
        target: a class id, or a cotangent on the logits Float[classes].
        matrix: the transform Float[3 3], input pixels (x, y, 1) to output pixels; None for none.
        noise: eps Float[h w 3]; None for zeros.
        t: the noise level, in [0, 1].
        decomposition: its name or itself.
        pull_back: `adjoint` or `inverse`; see `sampling.transforms.pull_back`.

    Raises:
        ValueError, TypeError: an image, target, matrix or noise of a wrong shape or type, or a level out of range.

    Example:
        >>> import dave_jax as dave
        >>> effective_transformation(dave.testing.tiny_model(), jnp.ones((16, 16, 3)), 2).shape
        (16, 16, 3)
    """
    if pull_back not in ("adjoint", "inverse"):
        raise ValueError(f"pull_back must be 'adjoint' or 'inverse'; got {pull_back!r}.")
    if isinstance(t, (int, float)) and not 0 <= t <= 1:  # traced levels cannot be looked at
        raise ValueError(f"t must lie in [0, 1]; got {t}.")
    if jnp.ndim(image) != 3:
        raise ValueError(f"image must be one image (h, w, 3); got shape {jnp.shape(image)}. Use jax.vmap over a batch.")
    image = check_images(jnp.asarray(image)[None], model.preprocessing.image_size)[0]
    cotangents, _ = as_cotangents(jnp.asarray(target)[None], 1, count_classes(model, image.dtype), image.dtype)
    for name, given, shape in (("matrix", matrix, (3, 3)), ("noise", noise, image.shape)):
        if given is not None and jnp.shape(given) != shape:
            raise ValueError(f"{name} must have shape {shape}; got {jnp.shape(given)}.")
    transform = None if matrix is None else Transform(jnp.asarray(matrix, image.dtype))
    noise = jnp.zeros_like(image) if noise is None else jnp.asarray(noise, image.dtype)
    level = jnp.asarray(t, image.dtype)
    return _transformation(model.forward, resolve(decomposition), pull_back, model.params, image, cotangents[0], transform, noise, level)[0]


_transformation = jax.jit(contribution, static_argnums=(0, 1, 2))


def _placed(images: Float[Array, "b h w 3"], mesh: Mesh | None) -> tuple[Array, Mesh | None]:
    """The images where the mesh has them, and the mesh with axes that the compiler may also use.

    Raises:
        ValueError: axes that we do not know, or images that cannot be spread evenly.
    """
    if mesh is None:
        return images, None
    if not mesh.axis_names or set(mesh.axis_names) - {"data", "samples"}:
        raise ValueError(
            f"A mesh has the axes 'data' and 'samples', or one of them; got {mesh.axis_names}. For example jax.make_mesh((8,), ('data',))."
        )
    if len(images) % mesh.shape.get("data", 1):
        raise ValueError(
            f"The number of images must be a multiple of the mesh's data axis, {mesh.shape['data']}; got {len(images)}. "
            "Repeat the last image to fill up, or spread the samples."
        )
    mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
    return jax.device_put(images, NamedSharding(mesh, _by_images(mesh))), mesh


def _by_images(mesh: Mesh) -> PartitionSpec:
    return PartitionSpec("data" if "data" in mesh.axis_names else None)


@partial(jax.jit, static_argnums=(0, 1, 8, 9, 10))
def _explain(
    forward: Forward,
    rules: Decomposition,
    params: Any,
    images: Float[Array, "b h w 3"],
    cotangents: Float[Array, "b k classes"],
    key: PRNGKeyArray,
    image_ids: Integer[Array, " b"],
    config: DaveConfig,
    raw: bool,
    return_samples: bool,
    mesh: Mesh | None,
) -> tuple[Array, Array | None]:
    axes = () if mesh is None else mesh.axis_names

    def here(params, images, cotangents, key, image_ids, config):
        def finish(job):
            image, cotangents, number = job
            image_key = jax.random.fold_in(key, number)
            aggregated, samples = attribute_image(
                forward, rules, params, image, cotangents, image_key, config, return_samples, axis="samples" if "samples" in axes else None
            )
            return aggregated if raw else jax.vmap(lambda one: postprocess(one, config))(aggregated), samples

        return jax.lax.map(finish, (images, cotangents, image_ids))

    if mesh is not None:
        spread, whole = _by_images(mesh), PartitionSpec()
        here = jax.shard_map(here, mesh=mesh, in_specs=(whole, spread, spread, whole, spread, whole), out_specs=spread, check_vma=False)
    return here(params, images, cotangents, key, image_ids, config)
