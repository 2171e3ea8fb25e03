"""The families of networks that dave_jax has: what a saved or converted model of each is built from."""

from collections.abc import Callable
from typing import Any, NamedTuple

from dave_jax.models import bcos_config, convnext_config, image_text, resnet_config, swin_config, vit_config
from dave_jax.models.bcos import BcosViT
from dave_jax.models.convnext import ConvNeXt
from dave_jax.models.resnet import ResNet
from dave_jax.models.swin import Swin
from dave_jax.models.vit import ViT


class Family(NamedTuple):
    """A kind of network.

    Attributes:
        network: its forward pass, `network(config)(params, image, decomposition)`; it keeps `config`.
        config: the dataclass of its configuration.
        init_params: `init_params(key, config)`, random parameters.
    """

    network: Any
    config: Any
    init_params: Callable[..., dict[str, Any]]


FAMILIES = {
    "vit": Family(ViT, vit_config.ViTConfig, vit_config.init_params),
    "swin": Family(Swin, swin_config.SwinConfig, swin_config.init_params),
    "resnet": Family(ResNet, resnet_config.ResNetConfig, resnet_config.init_params),
    "convnext": Family(ConvNeXt, convnext_config.ConvNeXtConfig, convnext_config.init_params),
    "image_text": Family(image_text.Towers, image_text.ImageTextConfig, image_text.init_params),
    "bcos_vit": Family(BcosViT, bcos_config.BcosViTConfig, bcos_config.init_params),
}
"""By the name that files give them."""


def family_of(forward: Any) -> str | None:
    """The name of the family that a forward pass belongs to; None for another function.

    Example:
        >>> from dave_jax.testing import tiny_model
        >>> family_of(tiny_model().forward), family_of(len)
        ('vit', None)
    """
    return next((name for name, family in FAMILIES.items() if isinstance(forward, family.network)), None)
