"""timm's `SwinTransformerV2`: constructor options; the keys are `timm_swin`'s."""

from collections.abc import Mapping
from typing import Any

from convert_weights import timm_swin
from convert_weights.timm_swin import params_from_arrays as params_from_arrays
from dave_jax.models.swin_config import SwinConfig


def config_from_options(options: Mapping[str, Any]) -> SwinConfig:
    """A timm constructor's options as a `SwinConfig` of version 2.

    Raises:
        ValueError: listing every unknown or unsupported option.

    Example:
        >>> config_from_options({"pretrained_window_sizes": [12, 12, 12, 6], "window_size": 16}).pretrained_windows
        (12, 12, 12, 6)
    """
    return timm_swin.config_from_options(options, version=2)
