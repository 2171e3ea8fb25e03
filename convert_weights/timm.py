"""timm's `VisionTransformer` and `VisionTransformerDistilled`: constructor options and state-dict keys.

    config = config_from_options({"patch_size": 16, "embed_dim": 384, "num_heads": 6})
    params = params_from_arrays(safetensors.numpy.load_file("model.safetensors"), config)

The options are those of timm's constructor, written as JSON: layers by name, `"LayerNorm(eps=1e-05)"` where they carry arguments.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from convert_weights.table import Entry, convert
from dave_jax.models.positions import resample_positions
from dave_jax.models.vit_config import ViTConfig, init_params

_NORMS = {"layernorm": "layer_norm", "rmsnorm": "rms_norm"}
_ACTIVATIONS = {"gelu": "gelu", "gelutanh": "gelu_tanh", "quickgelu": "quick_gelu", "silu": "silu", "swish": "silu", "relu": "relu"}
_MLPS = {"mlp": None, "swiglu": "split", "glumlp": "packed", "swiglupacked": "packed"}
_LEFT_OUT = {  # options that change training or bookkeeping only, or that the arrays and the other options already say
    *("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"),
    *("weight_init", "fix_init", "dynamic_img_size", "device", "dtype", "pretrained", "pretrained_strict"),
}


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _named(value: Any) -> tuple[str, dict[str, str]]:
    """`"LayerNorm(eps=1e-05)"` as `("layernorm", {"eps": "1e-05"})`."""
    name, _, arguments = str(value).partition("(")
    pairs = (pair.split("=") for pair in arguments.rstrip(")").split(",") if pair)
    return _plain(name), {key.strip(): argument.strip() for key, argument in pairs}


_NOT_NEEDED = re.compile(r"mask_token|(.*\.)?\w*norm\d?\.C")
"""Keys known and left out: masked pre-training's token, and the centering matrices that the DAVE authors' code adds to LayerNorms."""


class _Options:
    """Constructor options being read: remembers what was read, and every problem."""

    def __init__(self, options: Mapping[str, Any]):
        self.options, self.read, self.problems = dict(options), set(_LEFT_OUT), []

    def get(self, name: str, default: Any) -> Any:
        self.read.add(name)
        value = self.options.get(name)
        return default if value is None else value

    def pair(self, name: str, default: int) -> tuple[int, int]:
        value = self.get(name, default)
        return (int(value), int(value)) if isinstance(value, (int, float)) else (int(value[0]), int(value[1]))

    def choose(self, name: str, default: str, choices: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
        key, arguments = _named(self.get(name, default))
        if key not in choices:
            self.problems.append(f"{name} {self.options[name]!r} is none of {sorted(choices)}")
        return choices.get(key), arguments

    def only(self, name: str, *allowed: Any) -> None:
        """The option must be one of `allowed`, the first being its default."""
        value = self.get(name, allowed[0])
        if (_plain(value) if isinstance(value, str) else value) not in allowed:
            self.problems.append(f"{name}={self.options[name]!r} is not supported; only {list(allowed)}")


def config_from_options(options: Mapping[str, Any]) -> ViTConfig:
    """A timm constructor's options as a `ViTConfig`.

    `distilled=True` stands for the class `VisionTransformerDistilled`.

    Raises:
        ValueError: listing every unknown or unsupported option.

    Example:
        >>> config_from_options({"embed_dim": 192, "num_heads": 3, "init_values": 1e-5}).layer_scale
        True
    """
    read = _Options(options)
    width = int(read.get("embed_dim", 768))
    norm, norm_arguments = read.choose("norm_layer", "layernorm", _NORMS)
    patch_norm = options.get("embed_norm_layer") is not None
    patch_norm_kind, patch_norm_arguments = read.choose("embed_norm_layer", norm or "layernorm", _NORMS)
    if patch_norm and patch_norm_kind != norm:
        read.problems.append("embed_norm_layer and norm_layer must be of one kind")
    activation, _ = read.choose("act_layer", "gelu", _ACTIVATIONS)
    gated, gate_arguments = read.choose("mlp_layer", "mlp", _MLPS)
    if options.get("mlp_layer") and _named(options["mlp_layer"])[0] == "glumlp" and gate_arguments.get("gate_last") != "False":
        read.problems.append(f"mlp_layer={options['mlp_layer']!r} has its gate last; only GluMlp(gate_last=False) is supported")
    hidden = int(width * float(read.get("mlp_ratio", 4.0)))
    pooling = read.get("global_pool", "token")
    fc_norm = read.get("fc_norm", pooling == "avg")
    distilled = bool(read.get("distilled", False))
    read.only("block_fn", "block")
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
    fields: dict[str, Any] = dict(
        image_size=read.pair("img_size", 224),
        patch_size=read.pair("patch_size", 16),
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
        layer_scale=bool(read.get("init_values", False)),
        pre_norm=pre_norm,
        final_norm="none" if not read.get("final_norm", True) else "pooled" if fc_norm else "tokens",
    )
    read.problems += [f"unknown option {name}={options[name]!r}" for name in sorted(set(options) - read.read)]
    if read.problems:
        raise ValueError(
            "dave_jax builds timm's VisionTransformer from options that it knows; it does not know these:\n  "
            + "\n  ".join(read.problems)
            + "\nCorrect config.json's model_args, or use another architecture (dave-jax models lists them)."
        )
    return ViTConfig(**fields)


def _vector(array: np.ndarray) -> np.ndarray:
    return array


def _linear(array: np.ndarray) -> np.ndarray:
    """(out, in) to (in, out)."""
    return array.T


def _tokens(array: np.ndarray) -> np.ndarray:
    """(1, n, d) to (n, d)."""
    return array.reshape(array.shape[-2:])


def _patches(array: np.ndarray) -> np.ndarray:
    """(out, channels, h, w) to (h * w * channels, out)."""
    return array.transpose(2, 3, 1, 0).reshape(-1, array.shape[0])


def _part(index: int, parts: int, array: np.ndarray) -> np.ndarray:
    """One of `parts` equal groups of rows of a fused product, (out, in) to (in, out / parts); of a vector, its part."""
    return np.split(array, parts)[index].T


def _dense(source: str, target: str, layout=_linear) -> list[Entry]:
    return [Entry(f"{source}.weight", f"{target}/kernel", layout), Entry(f"{source}.bias", f"{target}/bias", _vector)]


def _norm(source: str, target: str) -> list[Entry]:
    return [Entry(f"{source}.weight", f"{target}/scale", _vector), Entry(f"{source}.bias", f"{target}/bias", _vector)]


def _parts(source: str, target: str, names: tuple[str, ...]) -> list[Entry]:
    """The rows of a fused product that holds several of ours."""
    return [
        Entry(f"{source}.{kind}", f"{target}/{name}/{leaf}", partial(_part, index, len(names)))
        for index, name in enumerate(names)
        for kind, leaf in (("weight", "kernel"), ("bias", "bias"))
    ]


def table(config: ViTConfig, *, packed_gate: bool) -> list[Entry]:
    """The rows for every parameter that a configuration may have.

    Args:
        config: the configuration.
        packed_gate: whether a gated MLP's two products are one array in the checkpoint, the gate first.
    """
    block, attention, mlp = "blocks/", "blocks/attention", "blocks/mlp"
    rows = [
        *_dense("patch_embed.proj", "patch_embedding", _patches),
        *_norm("patch_embed.norm", "patch_norm"),
        Entry("pos_embed", "position_embedding", _tokens),
        Entry("cls_token", "class_token", _tokens),
        Entry("dist_token", "distillation_token", _tokens),
        Entry("reg_token", "register_tokens", _tokens),
        *_norm("norm_pre", "pre_norm"),
        *_norm("blocks.{i}.norm1", f"{block}attention_norm"),
        *_parts("blocks.{i}.attn.qkv", attention, ("query", "key", "value")),
        *_norm("blocks.{i}.attn.q_norm", f"{attention}/query_norm"),
        *_norm("blocks.{i}.attn.k_norm", f"{attention}/key_norm"),
        *_norm("blocks.{i}.attn.norm", f"{attention}/norm"),
        *_dense("blocks.{i}.attn.proj", f"{attention}/proj"),
        Entry("blocks.{i}.ls1.gamma", f"{block}attention_scale/scale", _vector),
        *_norm("blocks.{i}.norm2", f"{block}mlp_norm"),
        *_norm("blocks.{i}.mlp.norm", f"{mlp}/norm"),
        *_dense("blocks.{i}.mlp.fc2", f"{mlp}/fc2"),
        Entry("blocks.{i}.ls2.gamma", f"{block}mlp_scale/scale", _vector),
        *_norm("fc_norm" if config.final_norm == "pooled" else "norm", "final_norm"),
        Entry("attn_pool.latent", "pool/latent", _tokens),
        *_dense("attn_pool.q", "pool/attention/query"),
        *_parts("attn_pool.kv", "pool/attention", ("key", "value")),
        *_dense("attn_pool.proj", "pool/attention/proj"),
        *_norm("attn_pool.norm", "pool/mlp_norm"),
        *_dense("attn_pool.mlp.fc1", "pool/mlp/fc1"),
        *_dense("attn_pool.mlp.fc2", "pool/mlp/fc2"),
        *_dense("head", "head"),
        *_dense("head_dist", "distillation_head"),
    ]
    if config.gated_mlp and packed_gate:
        rows += _parts("blocks.{i}.mlp.fc1", mlp, ("gate", "fc1"))
    elif config.gated_mlp:
        rows += [*_dense("blocks.{i}.mlp.fc1_g", f"{mlp}/gate"), *_dense("blocks.{i}.mlp.fc1_x", f"{mlp}/fc1")]
    else:
        rows += _dense("blocks.{i}.mlp.fc1", f"{mlp}/fc1")
    return rows


def params_from_arrays(
    arrays: Mapping[str, np.ndarray],
    config: ViTConfig,
    *,
    checkpoint_size: tuple[int, int] | None = None,
    not_needed: Iterable[str] = (),
    what: str = "the checkpoint",
) -> dict[str, Any]:
    """A timm state dict as parameters of `config`, NumPy float32.

    A position embedding of another grid is resampled to `config.image_size` as timm does.

    Args:
        arrays: the state dict.
        config: the network to fill.
        checkpoint_size: height and width of the images that the state dict is for; None, or a size that does not fit its position
            embedding, takes `config.image_size` or else a square.
        not_needed: how keys begin that are known and left out.
        what: what to call the state dict in errors.

    Raises:
        ConversionError: listing missing, leftover and misshapen arrays.
    """
    expected = jax.eval_shape(lambda key: init_params(key, config), jax.random.key(0))
    num_prefix = config.num_prefix if config.position_on_prefix else 0

    def resample(array: np.ndarray) -> np.ndarray:
        old_grid = None
        if checkpoint_size:
            old_grid = checkpoint_size[0] // config.patch_size[0], checkpoint_size[1] // config.patch_size[1]
            old_grid = old_grid if old_grid[0] * old_grid[1] == len(array) - num_prefix else None
        return np.asarray(resample_positions(array, config.grid, num_prefix=num_prefix, old_grid=old_grid))

    return convert(
        arrays,
        table(config, packed_gate=not any(re.search(r"\.fc1_g\.", key) for key in arrays)),
        expected,
        ignored=[key for key in arrays if _NOT_NEEDED.fullmatch(key) or key.startswith(tuple(not_needed))],
        adapt={"position_embedding": resample},
        what=what,
    )
