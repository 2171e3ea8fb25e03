"""timm's `Beit` (BEiT, BEiT v2): constructor options and state-dict keys."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from convert_weights import timm, timm_eva
from convert_weights.layouts import vector
from convert_weights.options import NORMS, Options, pair
from convert_weights.table import Entry
from dave_jax.models.vit_config import ViTConfig
from dave_jax.models.vit_positions import RELATIVE

_SHARED = "rel_pos_bias.relative_position_bias_table"
"""The table that all blocks use."""


def config_from_options(options: Mapping[str, Any]) -> ViTConfig:
    """A timm constructor's options as a `ViTConfig`.

    Raises:
        ValueError: listing every unknown or unsupported option.

    Example:
        >>> config_from_options({"use_abs_pos_emb": False, "use_rel_pos_bias": True}).relative_position
        True
    """
    read = Options(options)
    width = int(read.get("embed_dim", 768))
    norm, norm_arguments = read.choose("norm_layer", "layernorm", NORMS)
    pooling, gated = read.get("global_pool", "avg"), bool(read.get("swiglu_mlp", False))
    own, shared = bool(read.get("use_rel_pos_bias", False)), bool(read.get("use_shared_rel_pos_bias", False))
    read.only("in_chans", 3)
    if pooling not in ("token", "avg"):
        read.problems.append(f"global_pool {pooling!r} is none of ['avg', 'token']")
    if own and shared:
        read.problems.append("use_rel_pos_bias and use_shared_rel_pos_bias together are not supported")
    fields: dict[str, Any] = dict(
        image_size=pair(read.get("img_size", 224)),
        patch_size=pair(read.get("patch_size", 16)),
        width=width,
        depth=int(read.get("depth", 12)),
        num_heads=int(read.get("num_heads", 12)),
        mlp_width=int(width * float(read.get("mlp_ratio", 4.0))),
        num_classes=int(read.get("num_classes", 1000)),
        position_embedding=bool(read.get("use_abs_pos_emb", True)),
        relative_position=own or shared,
        pooling=pooling,
        norm=norm,
        eps=float(norm_arguments.get("eps", 1e-6)),
        activation="silu" if gated else "gelu",
        gated_mlp=gated,
        qkv_bias=bool(read.get("qkv_bias", True)),
        key_bias=False,
        mlp_norm=bool(read.get("scale_mlp", False)),
        layer_scale=bool(read.get("init_values", False)),
        final_norm="pooled" if read.get("use_fc_norm", pooling == "avg") else "tokens",
    )
    read.check("Beit")
    return ViTConfig(**fields)


def params_from_arrays(
    arrays: Mapping[str, np.ndarray],
    config: ViTConfig,
    *,
    checkpoint_size: tuple[int, int] | None = None,
    not_needed: Iterable[str] = (),
    what: str = "the checkpoint",
    dtype: Any = np.float32,
) -> dict[str, Any]:
    """A timm state dict as parameters of `config`; see `timm.params_from_arrays`.

    Raises:
        ConversionError: listing missing, leftover and misshapen arrays.
    """
    rows = timm_eva.rows(arrays, config)
    if _SHARED in arrays:
        rows.append(Entry(_SHARED, RELATIVE, lambda array: np.broadcast_to(array, (config.depth, *array.shape))))
    else:
        rows.append(Entry("blocks.{i}.attn.relative_position_bias_table", RELATIVE, vector))
    indices = [key for key in arrays if key.endswith("relative_position_index")]  # older files have it; the grid says it
    options = {"checkpoint_size": checkpoint_size, "not_needed": (*not_needed, *indices), "what": what, "dtype": dtype}
    return timm.params_from_arrays(arrays, config, rows=rows, **options)
