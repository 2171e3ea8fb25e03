"""timm's `Eva` (EVA, EVA-02, DINOv3, Perception Encoder, RoPE-ViT and others): constructor options and state-dict keys."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from convert_weights import timm
from convert_weights.layouts import dense, part, vector
from convert_weights.options import NORMS, Options, pair
from convert_weights.table import Entry
from dave_jax.models.rotary import Rotary
from dave_jax.models.vit_config import ViTConfig

_TRAINING = ("rope_shift_coords", "rope_jitter_coords", "rope_rescale_coords")
"""Options of timm that do nothing to a trained network."""

_BUFFERS = ("rope.periods", "rope.bands", "rope.pos_embed")
"""Keys known and left out: tables that the options say."""


def config_from_options(options: Mapping[str, Any]) -> ViTConfig:
    """A timm constructor's options as a `ViTConfig`.

    Raises:
        ValueError: listing every unknown or unsupported option.

    Example:
        >>> config_from_options({"use_rot_pos_emb": True, "ref_feat_shape": 16}).rotary.reference
        (16, 16)
    """
    read = Options(options)
    read.read.update(_TRAINING)
    width, heads = int(read.get("embed_dim", 768)), int(read.get("num_heads", 12))
    norm, norm_arguments = read.choose("norm_layer", "layernorm", NORMS)
    pooling, gated = read.get("global_pool", "avg"), bool(read.get("swiglu_mlp", False))
    ratio, mlp_norm, align = float(read.get("mlp_ratio", 4.0)), bool(read.get("scale_mlp", False)), int(read.get("swiglu_align_to", 0))
    post_norm, scaled = bool(read.get("use_post_norm", False)), options.get("init_values") is not None
    read.get("init_values", None)
    hidden = int(width * ratio)
    if gated and align and (mlp_norm or not post_norm):
        hidden += -hidden % align
    fc_norm = bool(read.get("use_fc_norm", pooling == "avg"))
    last_norm = bool(read.get("use_post_transformer_norm", not fc_norm))
    pre_norm, registers = bool(read.get("use_pre_transformer_norm", False)), int(read.get("num_reg_tokens", 0))
    attention = read.get("attn_type", "eva")
    read.get("qkv_fused", True)  # the keys say it
    read.get("num_kv_heads", None)  # the arrays do
    read.only("in_chans", 3)
    read.only("dynamic_img_pad", False)
    if attention not in ("eva", "rope"):
        read.problems.append(f"attn_type {attention!r} is none of ['eva', 'rope']")
    if pooling not in ("token", "avg", "map"):
        read.problems.append(f"global_pool {pooling!r} is none of ['avg', 'map', 'token']")
    if fc_norm and last_norm:
        read.problems.append("use_fc_norm and use_post_transformer_norm together are not supported")
    if gated and pooling == "map":
        read.problems.append("global_pool='map' with swiglu_mlp is not supported")
    pool_heads, pool_ratio = read.get("attn_pool_num_heads", heads), float(read.get("attn_pool_mlp_ratio", ratio))
    mapped = pooling == "map"
    fields: dict[str, Any] = dict(
        image_size=pair(read.get("img_size", 224)),
        patch_size=pair(read.get("patch_size", 16)),
        width=width,
        depth=int(read.get("depth", 12)),
        num_heads=heads,
        mlp_width=hidden,
        num_classes=int(read.get("num_classes", 1000)),
        class_token=bool(read.get("class_token", True)),
        num_registers=registers,
        position_embedding=bool(read.get("use_abs_pos_emb", True)),
        position_on_prefix=not read.get("no_embed_class", False),
        rotary=_rotary(read),
        pooling=pooling,
        pool_prefix=mapped,
        pool_num_heads=int(pool_heads) if mapped and pool_heads != heads else None,
        pool_mlp_width=int(width * pool_ratio) if mapped and pool_ratio != ratio else None,
        norm=norm,
        eps=float(norm_arguments.get("eps", 1e-6)),
        activation="silu" if gated else "gelu",
        gated_mlp=gated,
        patch_bias=not pre_norm,
        qkv_bias=bool(read.get("qkv_bias", True)),
        key_bias=attention == "rope",
        query_key_norm=bool(read.get("qk_norm", False)),
        attention_norm=bool(read.get("scale_attn_inner", False)),
        mlp_norm=mlp_norm,
        layer_scale=scaled and not post_norm,
        mlp_layer_scale=not read.get("attn_only_layer_scale", False),
        post_norm=post_norm,
        pre_norm=pre_norm,
        final_norm="pooled" if fc_norm else "tokens" if last_norm else "none",
    )
    read.check("Eva")
    return ViTConfig(**fields)


def _rotary(read: Options) -> Rotary | None:
    """The options that begin with `rope`, and their company."""
    kind, order = read.get("rope_type", "cat"), read.get("rope_grid_indexing", "ij")
    temperature, offset = float(read.get("rope_temperature", 10000.0)), float(read.get("rope_grid_offset", 0.0))
    halves, reference = bool(read.get("rope_rotate_half", False)), read.get("ref_feat_shape", None)
    if not read.get("use_rot_pos_emb", False):
        return None
    if kind not in ("cat", "dinov3", "mixed"):
        read.problems.append(f"rope_type {kind!r} is none of ['cat', 'dinov3', 'mixed']")
    if order not in ("ij", "xy"):
        read.problems.append(f"rope_grid_indexing {order!r} is none of ['ij', 'xy']")
    return Rotary(
        frequencies="learned" if kind == "mixed" else "axial",
        temperature=temperature,
        coordinates="centred" if kind == "dinov3" else "index",
        offset=0.0 if kind == "mixed" else offset,
        reference=pair(reference) if reference is not None and kind == "cat" else None,
        order="xy" if order == "xy" else "yx",
        pairs="halves" if halves else "adjacent",
    )


def rows(arrays: Mapping[str, np.ndarray], config: ViTConfig) -> list[Entry]:
    """The rows in which a state dict of `Eva` or `Beit` is not one of `VisionTransformer`.

    Args:
        arrays: the state dict; where keys and values have fewer heads than queries, each of theirs serves several.
        config: the network.
    """
    block, attention = "blocks/", "blocks/attention"

    def repeated(array: np.ndarray) -> np.ndarray:
        head_width = config.width // config.num_heads
        heads = array.reshape(-1, head_width, *array.shape[1:])
        return np.repeat(heads, max(config.num_heads // len(heads), 1), axis=0).reshape(-1, *array.shape[1:]).T

    found = [
        Entry("blocks.{i}.gamma_1", f"{block}attention_scale/scale", vector),
        Entry("blocks.{i}.gamma_2", f"{block}mlp_scale/scale", vector),
        Entry("rope.freqs", f"{attention}/frequencies", lambda array: array.swapaxes(0, 1)),
    ]
    if config.post_norm:
        for number, name in ((1, "attention"), (2, "mlp")):
            found += [
                Entry(f"blocks.{{i}}.norm{number}.{theirs}", f"{block}{name}_post_norm/{ours}", vector)
                for theirs, ours in (("weight", "scale"), ("bias", "bias"))
            ]
    if "blocks.0.attn.q_proj.weight" in arrays:
        for name in ("query", "key", "value"):
            found += dense(f"blocks.{{i}}.attn.{name[0]}_proj", f"{attention}/{name}", repeated)
            found[-1] = Entry(found[-1].source, found[-1].target, repeated)
    elif not config.key_bias:  # biases beside the fused product, none for the keys
        for index, name in enumerate(("query", "key", "value")):
            found += [
                Entry("blocks.{i}.attn.qkv.weight", f"{attention}/{name}/kernel", part(index, 3)),
                Entry(f"blocks.{{i}}.attn.{name[0]}_bias", f"{attention}/{name}/bias", vector),
            ]
    return found


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
    options = {"checkpoint_size": checkpoint_size, "not_needed": (*not_needed, *_BUFFERS), "what": what, "dtype": dtype}
    return timm.params_from_arrays(arrays, config, rows=rows(arrays, config), **options)
