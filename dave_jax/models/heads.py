"""Heads of a classifier: the network without its own, and with another."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dave_jax.effective import layers
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.effective.precision import cast
from dave_jax.models.bcos import BcosViT
from dave_jax.models.families import family_of
from dave_jax.models.image_text import ImageText
from dave_jax.models.model import Forward, Model, count_classes
from dave_jax.models.network import in_half
from dave_jax.models.vit import ViT

_HEADS = ("head", "distillation_head")


@dataclasses.dataclass(frozen=True)
class WithHead:
    """A linear head on what another forward pass returns.

    Attributes:
        features: a forward pass; its parameters are `params["features"]`, the head's `params["head"]`.
    """

    features: Forward

    def __call__(
        self, params: Any, image: Float[Array, "h w 3"], decomposition: str | Decomposition = "gradient"
    ) -> Float[Array, " classes"]:
        """Logits of one normalised image."""
        features = self.features(params["features"], image, decomposition)
        return layers.dense(params["head"], features[None], resolve(decomposition))[0][0]


def without_head(model: Model, *, pooling: str | None = None, pooled_blocks: int | None = None) -> Model:
    """The model whose outputs are the features that its head sees; of images and text, the embeddings of images.

    A model of a network that is not ours is taken to have no head.

    Args:
        model: a classifier, or a network that has no head.
        pooling: another than the network's own, for a vision transformer: see `ViTConfig`.
        pooled_blocks: of how many of the last blocks the class token is read, if not the network's own number: see `ViTConfig`.

    Raises:
        ValueError: a pooling for a network that is no `ViT`, or one that it cannot have; a B-cos network.

    Example:
        >>> from dave_jax.testing import tiny_model
        >>> without_head(tiny_model(), pooling="token_and_mean").logits(jnp.zeros((1, 16, 16, 3))).shape
        (1, 32)
    """
    model = model.image_model() if isinstance(model, ImageText) else model
    network: Any = model.forward
    if not (pooling is None and pooled_blocks is None) and not isinstance(network, ViT):
        raise ValueError(
            f"Only a vision transformer of ours can pool in another way; this is a {type(network).__name__}. Leave pooling out, and "
            "pooled_blocks."
        )
    if family_of(network) is None:
        return dataclasses.replace(model, class_names=None)
    _check_linear(network)
    left_out: set[str] = set(_HEADS)
    changes: dict[str, Any] = {"num_classes": 0}
    if pooled_blocks is not None:
        changes["pooled_blocks"] = pooled_blocks
    if pooling is not None and pooling != network.config.pooling:
        changes["pooling"] = pooling
        left_out.add("pool")
        if pooling == "map":
            raise ValueError("pooling='map' needs the attention that a network was trained to pool with; this one has none. Take another.")
        if network.config.projection and "token_and_mean" in (pooling, network.config.pooling):
            raise ValueError(f"The projection behind pooling {network.config.pooling!r} does not fit {pooling!r}. Leave pooling out.")
    network = dataclasses.replace(network, config=dataclasses.replace(network.config, **changes))
    params = {name: value for name, value in model.params.items() if name not in left_out}
    return dataclasses.replace(model, params=params, forward=network, class_names=None)


def with_head(features: Model, kernel: ArrayLike, bias: ArrayLike, class_names: tuple[str, ...] | None = None) -> Model:
    """The classifier `logits = features W + b`.

    Args:
        features: a model without a head (`without_head`).
        kernel: W, Float[features classes].
        bias: b, Float[classes].
        class_names: one for each class.

    Raises:
        ValueError: shapes that do not fit each other or the features; a B-cos network.

    Example:
        >>> from dave_jax.testing import tiny_model
        >>> model = with_head(without_head(tiny_model()), jnp.zeros((16, 2)), jnp.array([1.0, 2.0]), ("cat", "dog"))
        >>> model.logits(jnp.zeros((1, 16, 16, 3))).tolist(), model.forward.config.num_classes
        ([[1.0, 2.0]], 2)
    """
    head = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
    network: Any = features.forward
    if family_of(network) is not None and in_half(features.params):
        head = cast(head, jnp.bfloat16)
    _check_linear(network)
    count = count_classes(features)
    if head["kernel"].shape != (count, head["bias"].size) or head["bias"].ndim != 1:
        raise ValueError(
            f"kernel must have shape (features, classes), here ({count}, classes), and bias (classes,); got {head['kernel'].shape} and "
            f"{head['bias'].shape}. PyTorch's weight is the kernel's transpose."
        )
    if class_names is not None and len(class_names) != head["bias"].size:
        raise ValueError(f"class_names must be one for each class; got {len(class_names)} for {head['bias'].size} classes.")
    if family_of(network) is None:
        params: Any = {"features": features.params, "head": head}
        return dataclasses.replace(features, params=params, forward=WithHead(network), class_names=class_names)
    changes: dict[str, Any] = {"num_classes": len(head["bias"])}
    params = features.params | {"head": head}
    if isinstance(network, ViT):
        changes["head_bias"] = True
        if network.config.distillation_token:  # one head on both tokens is one on their mean
            params["distillation_head"] = head
    network = dataclasses.replace(network, config=dataclasses.replace(network.config, **changes))
    return dataclasses.replace(features, params=params, forward=network, class_names=class_names)


def _check_linear(network: Any) -> None:
    if isinstance(network, BcosViT):
        raise ValueError(
            "A B-cos network's head divides by the lengths of its weights and of its input: no linear one can stand in for it."
        )
