"""What is wrong with the fields of a `ViTConfig`."""

import math
from typing import Any

from dave_jax.effective.activations import MULTIPLIERS
from dave_jax.models.config_checks import problems_of
from dave_jax.models.positions import RESAMPLINGS
from dave_jax.models.stem import strides

MOST_PATCHES = 2**16


def problems_of_vit(config: Any) -> list[str]:
    """In words, one for each; none for a vision transformer.

    Args:
        config: a `ViTConfig`.

    Example:
        >>> from dave_jax.models.vit_config import ViTConfig
        >>> problems_of_vit(ViTConfig())
        []
    """
    problems = problems_of(
        config,
        allowed={
            "position_resampling": RESAMPLINGS,
            "pooling": ("token", "avg", "map", "token_and_mean"),
            "norm": ("layer_norm", "rms_norm"),
            "activation": MULTIPLIERS,
            "final_norm": ("tokens", "pooled", "none"),
        },
        least=dict.fromkeys(("width", "depth", "num_heads", "mlp_width", "pooled_blocks"), 1)
        | dict.fromkeys(("num_classes", "num_registers", "projection"), 0),
    )
    if config.rotary and not problems and (config.width // config.num_heads) % 4:
        problems.append(f"rotary needs heads of a multiple of 4 channels; got {config.num_heads} heads for width {config.width}")
    if config.pool_num_heads is not None and (config.pool_num_heads < 1 or config.width % config.pool_num_heads):
        problems.append(f"pool_num_heads must divide width; got {config.pool_num_heads} heads for width {config.width}")
    if config.pool_mlp_width is not None and config.pool_mlp_width < 1:
        problems.append(f"pool_mlp_width must be at least 1; got {config.pool_mlp_width}")
    if config.relative_position and (not config.class_token or config.num_prefix != 1):
        problems.append("relative_position needs class_token=True and no other token in front")
    for size, patch in zip(config.image_size, config.patch_size, strict=True):
        if patch < 1 or size < patch or (size % patch and not config.overhang):
            problems.append(f"image_size must be a multiple of patch_size {config.patch_size}; got {config.image_size}")
            break
    else:
        if config.grid[0] * config.grid[1] > MOST_PATCHES:
            problems.append(f"image_size must hold at most {MOST_PATCHES} patches; got {config.image_size} of {config.patch_size}")
    if config.pooling in ("token", "token_and_mean") and not config.class_token:
        problems.append(f"pooling {config.pooling!r} needs class_token=True")
    if config.pooling == "token_and_mean" and (config.final_norm == "pooled" or config.pool_prefix):
        problems.append("pooling 'token_and_mean' needs final_norm 'tokens' or 'none', and pool_prefix=False")
    if config.distillation_token and (config.pooling != "token" or config.final_norm == "pooled"):
        problems.append("distillation_token needs pooling 'token' and final_norm 'tokens' or 'none'")
    if config.stem_widths and (min(config.stem_widths) < 1 or config.patch_size != (math.prod(strides(config.stem_widths)),) * 2):
        problems.append(f"stem_widths must be positive, their strides making up patch_size {config.patch_size}; got {config.stem_widths}")
    if config.pooled_blocks > config.depth:
        problems.append(f"pooled_blocks must be at most depth; got {config.pooled_blocks} of {config.depth}")
    if config.pooled_blocks > 1 and (config.pooling not in ("token", "token_and_mean") or config.final_norm == "pooled"):
        problems.append("pooled_blocks needs pooling 'token' or 'token_and_mean' and final_norm 'tokens' or 'none'")
    if config.pooled_blocks > 1 and (config.distillation_token or config.projection):
        problems.append("pooled_blocks needs distillation_token=False and projection=0")
    if config.distillation_token and (config.projection or config.unit_features):
        problems.append("distillation_token needs projection=0 and unit_features=False")
    return problems
