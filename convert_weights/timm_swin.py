"""timm's `SwinTransformer` and `SwinTransformerV2`: constructor options and state-dict keys."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from convert_weights.layouts import dense, norm, part, parts, patches, vector
from convert_weights.options import ACTIVATIONS, NORMS, Options, pair
from convert_weights.table import Entry, convert
from dave_jax.models.relative import num_entries
from dave_jax.models.swin_config import SwinConfig, init_params
from dave_jax.models.swin_positions import at_size, table_resamplings

_BUFFERS = (".attn_mask", ".relative_position_index", ".relative_coords_table")
"""How keys end that older files have, and that the image size says."""


def config_from_options(options: Mapping[str, Any], *, version: int = 1) -> SwinConfig:
    """A timm constructor's options as a `SwinConfig`, of `SwinTransformer` (version 1) or `SwinTransformerV2` (2).

    Raises:
        ValueError: listing every unknown or unsupported option.

    Example:
        >>> config = config_from_options({"window_size": [7, 7, 14, 7], "depths": [2, 2, 6, 2]})
        >>> config.windows[2], config.mlp_widths
        ((14, 14), (384, 768, 1536, 3072))
    """
    read = Options(options)
    depths = tuple(int(depth) for depth in read.get("depths", (2, 2, 6, 2)))
    width, count = int(read.get("embed_dim", 96)), len(depths)
    ratios = read.get("mlp_ratio", 4.0)
    ratios = [ratios] * count if isinstance(ratios, (int, float)) else ratios
    norm_kind, norm_arguments = read.choose("norm_layer", "layernorm", NORMS)
    if norm_kind == "rms_norm":
        read.problems.append("norm_layer='rmsnorm' is not supported; only ['layernorm']")
    fields: dict[str, Any] = {"version": version, "pretrained_windows": (0,) * count}
    if version == 1:
        read.only("embed_layer", "patchembed")
        read.get("head_dim", None)
        if read.options.get("head_dim") is not None:
            read.problems.append("head_dim is not supported; heads have the width between them")
    else:
        fields["activation"], _ = read.choose("act_layer", "gelu", ACTIVATIONS)
        fields["pretrained_windows"] = tuple(int(edge) for edge in read.get("pretrained_window_sizes", (0,) * count))
    read.get("strict_img_size", True)
    read.only("global_pool", "avg")
    read.only("in_chans", 3)
    fields |= dict(
        image_size=pair(read.get("img_size", 224)),
        patch_size=pair(read.get("patch_size", 4)),
        width=width,
        depths=depths,
        num_heads=tuple(int(heads) for heads in read.get("num_heads", (3, 6, 12, 24))),
        mlp_widths=tuple(int(width * 2**stage * ratio) for stage, ratio in enumerate(ratios)),
        windows=_windows(read.get("window_size", 7), count),
        num_classes=int(read.get("num_classes", 1000)),
        always_partition=bool(read.get("always_partition", False)),
        eps=float(norm_arguments.get("eps", 1e-5)),
        qkv_bias=bool(read.get("qkv_bias", True)),
    )
    read.check("SwinTransformer" if version == 1 else "SwinTransformerV2")
    return SwinConfig(**fields)


def _windows(size: Any, count: int) -> tuple[tuple[int, int], ...]:
    """Of every stage, from one number, a pair (which two numbers are), or one of either for each stage."""
    if isinstance(size, (int, float)) or (len(size) == 2 and not isinstance(size[0], (tuple, list))):
        return (pair(size),) * count
    return tuple(pair(window) for window in size)


def table(config: SwinConfig, *, merged_behind: bool = False) -> list[Entry]:
    """The rows for every parameter that a configuration may have.

    Args:
        config: the configuration.
        merged_behind: whether patches are merged at the end of a stage, as in the files of Swin's authors, instead of the beginning.
    """
    rows = [*dense("patch_embed.proj", "patch_embedding", patches), *norm("patch_embed.norm", "patch_norm")]
    names = ("query", "key", "value")
    for stage in range(len(config.depths)):
        theirs, ours = f"layers.{stage}.blocks.{{i}}", f"stages/{stage}/blocks"
        attention, merge = f"{ours}/attention", f"stages/{stage}/merge"
        behind = "norm" if config.version == 1 else "post_norm"
        down = f"layers.{stage - merged_behind}.downsample"
        rows += [
            *norm(f"{theirs}.norm1", f"{ours}/attention_{behind}"),
            *norm(f"{theirs}.norm2", f"{ours}/mlp_{behind}"),
            *dense(f"{theirs}.attn.proj", f"{attention}/proj"),
            *dense(f"{theirs}.mlp.fc1", f"{ours}/mlp/fc1"),
            *dense(f"{theirs}.mlp.fc2", f"{ours}/mlp/fc2"),
            *dense(f"{down}.reduction", f"{merge}/reduction"),
            *norm(f"{down}.norm", f"{merge}/{behind}"),
        ]
        if config.version == 1:
            rows += [
                *parts(f"{theirs}.attn.qkv", attention, names),
                Entry(f"{theirs}.attn.relative_position_bias_table", f"{attention}/relative_position", vector),
            ]
            continue
        network = f"{attention}/position_mlp"
        for index, name in enumerate(names):
            rows.append(Entry(f"{theirs}.attn.qkv.weight", f"{attention}/{name}/kernel", part(index, 3)))
            rows.append(Entry(f"{theirs}.attn.{name[0]}_bias", f"{attention}/{name}/bias", vector))
        rows += [
            Entry(f"{theirs}.attn.logit_scale", f"{attention}/logit_scale", lambda array: array.reshape(-1)),
            Entry(f"{theirs}.attn.cpb_mlp.0.weight", f"{network}/fc1/kernel", np.transpose),
            Entry(f"{theirs}.attn.cpb_mlp.0.bias", f"{network}/fc1/offset", vector),
            Entry(f"{theirs}.attn.cpb_mlp.2.weight", f"{network}/fc2/kernel", np.transpose),
        ]
    return [*rows, *norm("norm", "final_norm"), *dense("head" if merged_behind else "head.fc", "head")]


def params_from_arrays(
    arrays: Mapping[str, np.ndarray],
    config: SwinConfig,
    *,
    checkpoint_size: tuple[int, int] | None = None,
    what: str = "the checkpoint",
    dtype: Any = np.float32,
) -> dict[str, Any]:
    """A timm state dict as parameters of `config`, on the default device.

    A table of relative positions for other windows is resampled as timm does.

    Args:
        arrays: the state dict.
        config: the network to fill.
        checkpoint_size: height and width of the images that the state dict is for; None, or a size that does not fit its tables, takes
            `config.image_size` or else square windows.
        what: what to call the state dict in errors.
        dtype: of the parameters.

    Raises:
        ConversionError: listing missing, leftover and misshapen arrays.
    """
    size = checkpoint_size or config.image_size
    told, inferred = table_resamplings(config, size), table_resamplings(config, None)

    def resample(path: str, array: np.ndarray) -> np.ndarray:
        window = at_size(config, size).cuts(int(path.split("/")[1]))[0].window
        known = checkpoint_size and array.shape[:1] == (num_entries(window, class_token=False),)
        return np.asarray((told if known else inferred)[path](array))

    return convert(
        arrays,
        table(config, merged_behind="layers.0.downsample.reduction.weight" in arrays),
        jax.eval_shape(lambda: init_params(jax.random.key(0), config)),
        ignored=[key for key in arrays if key.endswith(_BUFFERS)],
        adapt={path: partial(resample, path) for path in told},
        what=what,
        dtype=dtype,
    )
