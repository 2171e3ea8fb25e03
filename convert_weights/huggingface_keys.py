"""The keys of transformers' vision transformers, as it writes them and as its modules name them since version 5."""

import dataclasses
from collections.abc import Mapping
from functools import partial

import numpy as np

from convert_weights.layouts import dense, norm, parts, patches, tokens, vector
from convert_weights.table import Entry
from dave_jax.models.vit_config import ViTConfig


def _with_registers(count: int, array: np.ndarray) -> np.ndarray:
    """(1, n, d) to (n + count, d): the registers behind the class token have no position."""
    rows = tokens(array)
    return np.concatenate([rows[:1], np.zeros((count, rows.shape[1]), rows.dtype), rows[1:]])


def table(arrays: Mapping[str, np.ndarray], config: ViTConfig, *, prefix: str, heads: tuple[str, ...]) -> list[Entry]:
    """The rows for every parameter; where a name has two forms, for the one that the checkpoint has, else for the first.

    Args:
        arrays: the checkpoint.
        config: the network; layer scale is what tells DINOv2's names from ViT's.
        prefix: of the backbone's keys, where they have one.
        heads: the names of the linear classifiers.
    """
    dino, start = config.layer_scale, prefix if any(key.startswith(prefix) for key in arrays) else ""

    def either(*names: str) -> str:
        return next((name for name in names if f"{start}{name.format(i=0)}.weight" in arrays), names[0])

    layer = either("encoder.layer.{i}.layernorm_before", "layers.{i}.layernorm_before").removesuffix(".layernorm_before")
    layer = "encoder.layer.{i}" if dino else layer
    attention, block, mlp = "blocks/attention", "blocks/", "blocks/mlp"
    rows = [
        *dense("embeddings.patch_embeddings.projection", "patch_embedding", patches),
        Entry("embeddings.cls_token", "class_token", tokens),
        *norm(f"{layer}.{'norm1' if dino else 'layernorm_before'}", f"{block}attention_norm"),
        *(
            row
            for old, new, name in (("query", "q", "query"), ("key", "k", "key"), ("value", "v", "value"))
            for row in dense(either(f"{layer}.attention.attention.{old}", f"{layer}.attention.{new}_proj"), f"{attention}/{name}")
        ),
        *dense(either(f"{layer}.attention.output.dense", f"{layer}.attention.o_proj"), f"{attention}/proj"),
        *norm(f"{layer}.{'norm2' if dino else 'layernorm_after'}", f"{block}mlp_norm"),
        *norm("layernorm", "final_norm"),
    ]
    if dino:
        rows += [
            Entry(f"{layer}.layer_scale{n}.lambda1", f"{block}{name}_scale/scale", vector) for n, name in ((1, "attention"), (2, "mlp"))
        ]
        rows.append(Entry("embeddings.register_tokens", "register_tokens", tokens))
        rows.append(Entry("embeddings.position_embeddings", "position_embedding", partial(_with_registers, config.num_registers)))
    else:
        token = "distillation_token" if config.distillation_token else "register_tokens"
        rows.append(Entry("embeddings.distillation_token", token, tokens))
        rows.append(Entry("embeddings.position_embeddings", "position_embedding", tokens))
    if config.gated_mlp:
        packed = either(f"{layer}.mlp.weights_in", f"{layer}.mlp.gate_proj")
        if packed.endswith("weights_in"):
            rows += parts(packed, mlp, ("gate", "fc1"))
        else:
            rows += [*dense(packed, f"{mlp}/gate"), *dense(f"{layer}.mlp.up_proj", f"{mlp}/fc1")]
        rows += dense(either(f"{layer}.mlp.weights_out", f"{layer}.mlp.down_proj"), f"{mlp}/fc2")
    else:
        rows += dense(f"{layer}.mlp.fc1" if dino else either(f"{layer}.intermediate.dense", f"{layer}.mlp.fc1"), f"{mlp}/fc1")
        rows += dense(f"{layer}.mlp.fc2" if dino else either(f"{layer}.output.dense", f"{layer}.mlp.fc2"), f"{mlp}/fc2")
    rows = [dataclasses.replace(row, source=start + row.source) for row in rows]
    for name, target in zip(heads, ("head", "distillation_head"), strict=False):
        rows += dense(name, target)
    return rows
