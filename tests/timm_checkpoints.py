"""Random checkpoints in timm's layout, made by hand from our parameters: the converter's twin, the other way round."""

import json
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import load_file, save_file

from convert_weights.architectures import architectures
from convert_weights.timm import config_from_options
from dave_jax.models.vit_config import ViTConfig, init_params

TINY = {"img_size": 16, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 2, "mlp_ratio": 2, "num_classes": 3}


def random_params(config: ViTConfig, seed: int = 0):
    """Parameters of which no two are alike, biases and scales too."""
    draw = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda key: init_params(key, config), jax.random.key(0))
    return jax.tree.map(lambda leaf: draw.normal(size=leaf.shape).astype(np.float32), shapes)


def to_timm(params, config: ViTConfig, *, packed_gate: bool = True) -> dict[str, np.ndarray]:
    """The state dict of timm's VisionTransformer that has these parameters."""
    state: dict[str, np.ndarray] = {}

    def fused(name, *parts):
        state[f"{name}.weight"] = np.concatenate([part["kernel"].T for part in parts])
        if "bias" in parts[0]:
            state[f"{name}.bias"] = np.concatenate([part["bias"] for part in parts])

    def norm(name, part):
        state.update({f"{name}.{'weight' if leaf == 'scale' else leaf}": value for leaf, value in part.items()})

    height, width = config.patch_size
    patch = params["patch_embedding"]
    state["patch_embed.proj.weight"] = np.einsum("hwco->ochw", patch["kernel"].reshape(height, width, 3, -1))
    if "bias" in patch:
        state["patch_embed.proj.bias"] = patch["bias"]
    for name, key in {
        "pos_embed": "position_embedding",
        "cls_token": "class_token",
        "dist_token": "distillation_token",
        "reg_token": "register_tokens",
    }.items():
        if key in params:
            state[name] = params[key][None]
    last = "fc_norm" if config.final_norm == "pooled" else "norm"
    for name, key in {"patch_embed.norm": "patch_norm", "norm_pre": "pre_norm", last: "final_norm"}.items():
        if key in params:
            norm(name, params[key])
    for name, key in {"head": "head", "head_dist": "distillation_head"}.items():
        if key in params:
            fused(name, params[key])
    for i in range(config.depth):
        block = jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"])
        attention, mlp, at = block["attention"], block["mlp"], f"blocks.{i}"
        norm(f"{at}.norm1", block["attention_norm"])
        norm(f"{at}.norm2", block["mlp_norm"])
        fused(f"{at}.attn.qkv", attention["query"], attention["key"], attention["value"])
        fused(f"{at}.attn.proj", attention["proj"])
        fused(f"{at}.mlp.fc2", mlp["fc2"])
        for name, part in {
            "attn.q_norm": attention.get("query_norm"),
            "attn.k_norm": attention.get("key_norm"),
            "attn.norm": attention.get("norm"),
            "mlp.norm": mlp.get("norm"),
        }.items():
            if part:
                norm(f"{at}.{name}", part)
        for name, key in {"ls1": "attention_scale", "ls2": "mlp_scale"}.items():
            if key in block:
                state[f"{at}.{name}.gamma"] = block[key]["scale"]
        if "gate" not in mlp:
            fused(f"{at}.mlp.fc1", mlp["fc1"])
        elif packed_gate:
            fused(f"{at}.mlp.fc1", mlp["gate"], mlp["fc1"])
        else:
            fused(f"{at}.mlp.fc1_g", mlp["gate"])
            fused(f"{at}.mlp.fc1_x", mlp["fc1"])
    if "pool" in params:
        pool = params["pool"]
        state["attn_pool.latent"] = pool["latent"][None]
        fused("attn_pool.q", pool["attention"]["query"])
        fused("attn_pool.kv", pool["attention"]["key"], pool["attention"]["value"])
        fused("attn_pool.proj", pool["attention"]["proj"])
        norm("attn_pool.norm", pool["mlp_norm"])
        fused("attn_pool.mlp.fc1", pool["mlp"]["fc1"])
        fused("attn_pool.mlp.fc2", pool["mlp"]["fc2"])
    return {name: np.ascontiguousarray(value) for name, value in state.items()}


def write_checkpoint(folder: Path, *, seed: int = 0, architecture: str = "vision_transformer", options=None, dtype=np.float32, **document):
    """A tiny random model as timm saves it; returns its parameters."""
    options = TINY | (options or {})
    config = config_from_options(architectures().get(architecture, {"options": {}})["options"] | options)
    params = random_params(config, seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.astype(dtype) for name, value in to_timm(params, config).items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": architecture, "model_args": options} | document))
    return params


def assert_same(tree, other):
    """Bit for bit."""
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for (path, leaf), twin in zip(jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(leaf, twin, err_msg=jax.tree_util.keystr(path))


def shard(folder: Path) -> None:
    """Split the weights of a folder in two."""
    arrays = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {key: f"part-{1 + i % 2}.safetensors" for i, key in enumerate(arrays)}
    for name in set(where.values()):
        save_file({key: array for key, array in arrays.items() if where[key] == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
