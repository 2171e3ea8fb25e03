"""timm's `VisionTransformer` and `VisionTransformerDistilled`: constructor options and state-dict keys.

    config = config_from_options({"patch_size": 16, "embed_dim": 384, "num_heads": 6})
    params = params_from_arrays(safetensors.numpy.load_file("model.safetensors"), config)

The options are those of timm's constructor, as `options` reads them.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from convert_weights.layouts import dense, norm, parts, patches, tokens, vector
from convert_weights.options import ACTIVATIONS, NORMS, Options, named, pair
from convert_weights.table import Entry, convert
from dave_jax.models.positions import overhangs
from dave_jax.models.relative import num_entries
from dave_jax.models.vit_config import ViTConfig, init_params
from dave_jax.models.vit_positions import RELATIVE, resamplings

_MLPS = {"mlp": None, "swiglu": "split", "glumlp": "packed", "swiglupacked": "packed"}


_NOT_NEEDED = re.compile(r"mask_token|(.*\.)?\w*norm\d?\.C")
"""Keys known and left out: masked pre-training's token, and the centering matrices that the DAVE authors' code adds to LayerNorms."""


def config_from_options(options: Mapping[str, Any]) -> ViTConfig:
    """A timm constructor's options as a `ViTConfig`.

    `distilled=True` stands for the class `VisionTransformerDistilled`.

    Raises:
        ValueError: listing every unknown or unsupported option.

    Example:
        >>> config_from_options({"embed_dim": 192, "num_heads": 3, "init_values": 1e-5}).layer_scale
        True
    """
    read = Options(options)
    width = int(read.get("embed_dim", 768))
    norm, norm_arguments = read.choose("norm_layer", "layernorm", NORMS)
    patch_norm = options.get("embed_norm_layer") is not None
    patch_norm_kind, patch_norm_arguments = read.choose("embed_norm_layer", norm or "layernorm", NORMS)
    if patch_norm and patch_norm_kind != norm:
        read.problems.append("embed_norm_layer and norm_layer must be of one kind")
    activation, _ = read.choose("act_layer", "gelu", ACTIVATIONS)
    gated, gate_arguments = read.choose("mlp_layer", "mlp", _MLPS)
    if options.get("mlp_layer") and named(options["mlp_layer"])[0] == "glumlp" and gate_arguments.get("gate_last") != "False":
        read.problems.append(f"mlp_layer={options['mlp_layer']!r} has its gate last; only GluMlp(gate_last=False) is supported")
    hidden = int(width * float(read.get("mlp_ratio", 4.0)))
    pooling = read.get("global_pool", "token")
    fc_norm = read.get("fc_norm", pooling == "avg")
    distilled = bool(read.get("distilled", False))
    post_norm, _ = read.choose("block_fn", "block", {"block": False, "respostblock": True})
    read.only("attn_layer", "attention", "attn", "")
    read.only("embed_layer", "patchembed")
    read.only("pos_embed", "learn")
    read.only("in_chans", 3)
    read.only("dynamic_img_pad", False)
    if pooling not in ("token", "avg", "map"):
        read.problems.append(f"global_pool {pooling!r} is none of ['avg', 'map', 'token']")
    if distilled and (fc_norm or pooling != "token" or options.get("reg_tokens")):
        read.problems.append("a distilled model pools its class token, without fc_norm and reg_tokens")
    if gated == "packed" and pooling == "map":
        read.problems.append("global_pool='map' with a packed gated MLP is not supported")
    pre_norm = bool(read.get("pre_norm", False))
    size, patch = pair(read.get("img_size", 224)), pair(read.get("patch_size", 16))
    fields: dict[str, Any] = dict(
        image_size=size,
        patch_size=patch,
        overhang=overhangs(size, patch),
        width=width,
        depth=int(read.get("depth", 12)),
        num_heads=int(read.get("num_heads", 12)),
        mlp_width=hidden // 2 if gated == "packed" else hidden,
        num_classes=int(read.get("num_classes", 1000)),
        class_token=bool(read.get("class_token", True)),
        distillation_token=distilled,
        num_registers=int(read.get("reg_tokens", 0)),
        position_on_prefix=not read.get("no_embed_class", False),
        pooling=pooling,
        pool_prefix=bool(read.get("pool_include_prefix", False)),
        norm=norm,
        eps=float(norm_arguments.get("eps", 1e-6)),
        activation=activation,
        gated_mlp=gated is not None,
        patch_bias=not pre_norm,
        qkv_bias=bool(read.get("qkv_bias", True)),
        proj_bias=bool(read.get("proj_bias", True)),
        query_key_norm=bool(read.get("qk_norm", False)),
        attention_norm=bool(read.get("scale_attn_norm", False)),
        mlp_norm=bool(read.get("scale_mlp_norm", False)),
        patch_norm=patch_norm,
        patch_norm_eps=float(patch_norm_arguments.get("eps", 1e-6)),
        layer_scale=bool(read.get("init_values", False)) and not post_norm,  # there it is where the norms' scales start
        post_norm=bool(post_norm),
        pre_norm=pre_norm,
        final_norm="none" if not read.get("final_norm", True) else "pooled" if fc_norm else "tokens",
    )
    read.check("VisionTransformer")
    return ViTConfig(**fields)


def table(config: ViTConfig, *, packed_gate: bool) -> list[Entry]:
    """The rows for every parameter that a configuration may have.

    Args:
        config: the configuration.
        packed_gate: whether a gated MLP's two products are one array in the checkpoint, the gate first.
    """
    block, attention, mlp = "blocks/", "blocks/attention", "blocks/mlp"
    place = "post_norm" if config.post_norm else "norm"
    rows = [
        *dense("patch_embed.proj", "patch_embedding", patches),
        *norm("patch_embed.norm", "patch_norm"),
        Entry("pos_embed", "position_embedding", tokens),
        Entry("cls_token", "class_token", tokens),
        Entry("dist_token", "distillation_token", tokens),
        Entry("reg_token", "register_tokens", tokens),
        *norm("norm_pre", "pre_norm"),
        *norm("blocks.{i}.norm1", f"{block}attention_{place}"),
        *parts("blocks.{i}.attn.qkv", attention, ("query", "key", "value")),
        *norm("blocks.{i}.attn.q_norm", f"{attention}/query_norm"),
        *norm("blocks.{i}.attn.k_norm", f"{attention}/key_norm"),
        *norm("blocks.{i}.attn.norm", f"{attention}/norm"),
        *dense("blocks.{i}.attn.proj", f"{attention}/proj"),
        Entry("blocks.{i}.ls1.gamma", f"{block}attention_scale/scale", vector),
        *norm("blocks.{i}.norm2", f"{block}mlp_{place}"),
        *norm("blocks.{i}.mlp.norm", f"{mlp}/norm"),
        *dense("blocks.{i}.mlp.fc2", f"{mlp}/fc2"),
        Entry("blocks.{i}.ls2.gamma", f"{block}mlp_scale/scale", vector),
        *norm("fc_norm" if config.final_norm == "pooled" else "norm", "final_norm"),
        Entry("attn_pool.latent", "pool/latent", tokens),
        *dense("attn_pool.q", "pool/attention/query"),
        *parts("attn_pool.kv", "pool/attention", ("key", "value")),
        *dense("attn_pool.proj", "pool/attention/proj"),
        *norm("attn_pool.norm", "pool/mlp_norm"),
        *dense("attn_pool.mlp.fc1", "pool/mlp/fc1"),
        *dense("attn_pool.mlp.fc2", "pool/mlp/fc2"),
        *dense("head", "head"),
        *dense("head_dist", "distillation_head"),
    ]
    if config.gated_mlp and packed_gate:
        rows += parts("blocks.{i}.mlp.fc1", mlp, ("gate", "fc1"))
    elif config.gated_mlp:
        rows += [*dense("blocks.{i}.mlp.fc1_g", f"{mlp}/gate"), *dense("blocks.{i}.mlp.fc1_x", f"{mlp}/fc1")]
    else:
        rows += dense("blocks.{i}.mlp.fc1", f"{mlp}/fc1")
    return rows


def params_from_arrays(
    arrays: Mapping[str, np.ndarray],
    config: ViTConfig,
    *,
    checkpoint_size: tuple[int, int] | None = None,
    not_needed: Iterable[str] = (),
    what: str = "the checkpoint",
    dtype: Any = np.float32,
    rows: Iterable[Entry] = (),
) -> dict[str, Any]:
    """A timm state dict as parameters of `config`, on the default device.

    A position embedding or bias of another grid is resampled to `config.image_size` as timm does.

    Args:
        arrays: the state dict.
        config: the network to fill.
        checkpoint_size: height and width of the images that the state dict is for; None, or a size that does not fit its position
            embedding, takes `config.image_size` or else a square.
        not_needed: how keys begin that are known and left out.
        what: what to call the state dict in errors.
        dtype: of the parameters.
        rows: of the table, instead of those for the same parameters.

    Raises:
        ConversionError: listing missing, leftover and misshapen arrays.
    """
    expected = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    height, width = checkpoint_size or config.image_size
    old_grid = height // config.patch_size[0], width // config.patch_size[1]
    lengths = {
        "position_embedding": old_grid[0] * old_grid[1] + config.num_prefix * config.position_on_prefix,
        RELATIVE: num_entries(old_grid),
    }

    def resample(path: str, array: np.ndarray) -> np.ndarray:
        told = checkpoint_size and array.shape[-2] == lengths[path]
        return np.asarray(resamplings(config, old_grid if told else None)[path](array))

    return convert(
        arrays,
        [*table(config, packed_gate=not any(re.search(r"\.fc1_g\.", key) for key in arrays)), *rows],
        expected,
        ignored=[key for key in arrays if _NOT_NEEDED.fullmatch(key) or key.startswith(tuple(not_needed))],
        adapt={path: partial(resample, path) for path in lengths},
        what=what,
        dtype=dtype,
    )
