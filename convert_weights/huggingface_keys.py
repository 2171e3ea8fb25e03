"""The keys of transformers' vision transformers, as it writes them and as its modules name them since version 5."""

import dataclasses
from collections.abc import Mapping
from functools import partial

import numpy as np

from convert_weights.layouts import dense, norm, parts, patches, tokens, vector
from convert_weights.table import Entry
from dave_jax.models.vit_config import ViTConfig
from dave_jax.models.vit_positions import RELATIVE


def _with_registers(count: int, array: np.ndarray) -> np.ndarray:
    """(1, n, d) to (n + count, d): the registers behind the class token have no position."""
    rows = tokens(array)
    return np.concatenate([rows[:1], np.zeros((count, rows.shape[1]), rows.dtype), rows[1:]])


def _for_every_block(depth: int, array: np.ndarray) -> np.ndarray:
    """What all blocks share, for each of them."""
    return np.broadcast_to(array, (depth, *array.shape))


def table(arrays: Mapping[str, np.ndarray], config: ViTConfig, *, prefix: str, heads: tuple[str, ...]) -> list[Entry]:
    """The rows for every parameter; where a name has two forms, for the one that the checkpoint has, else for the first.

    Args:
        arrays: the checkpoint.
        config: the network; layer scale is what tells DINOv2's names from ViT's, and the missing biases of keys BEiT's from both.
        prefix: of the backbone's keys, where they have one.
        heads: the names of the linear classifiers.
    """
    beit, dino = not config.key_bias, config.layer_scale and config.key_bias
    start = prefix if any(key.startswith(prefix) for key in arrays) else ""

    def either(*names: str, leaf: str = "weight") -> str:
        return next((name for name in names if f"{start}{name.format(i=0)}.{leaf}" in arrays), names[0])

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
    if beit:
        shared = either("encoder.relative_position_bias", "shared_position_bias", leaf="relative_position_bias_table")
        tables = f"{layer}.attention.attention.relative_position_bias" if layer.startswith("encoder") else f"{layer}.relative_position_bias"
        rows += [Entry(f"{layer}.lambda_{n}", f"{block}{name}_scale/scale", vector) for n, name in ((1, "attention"), (2, "mlp"))]
        rows.append(Entry("embeddings.position_embeddings", "position_embedding", tokens))
        rows += norm("pooler.layernorm", "final_norm") if config.final_norm == "pooled" else ()
        if f"{start}{shared}.relative_position_bias_table" in arrays:
            rows.append(Entry(f"{shared}.relative_position_bias_table", RELATIVE, partial(_for_every_block, config.depth)))
        else:
            rows.append(Entry(f"{tables}.relative_position_bias_table", RELATIVE, vector))
    elif dino:
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


def dinov3_table(arrays: Mapping[str, np.ndarray], config: ViTConfig, *, prefix: str, heads: tuple[str, ...]) -> list[Entry]:
    """The rows for DINOv3.

    Args:
        arrays: the checkpoint.
        config: the network.
        prefix: of the layers' keys, where they have one.
        heads: it has none.
    """
    layer = f"{prefix if any(key.startswith(prefix) for key in arrays) else ''}layer.{{i}}"
    attention, mlp = "blocks/attention", "blocks/mlp"
    return [
        *dense("embeddings.patch_embeddings", "patch_embedding", patches),
        Entry("embeddings.cls_token", "class_token", tokens),
        Entry("embeddings.register_tokens", "register_tokens", tokens),
        *(row for name in ("query", "key", "value") for row in dense(f"{layer}.attention.{name[0]}_proj", f"{attention}/{name}")),
        *dense(f"{layer}.attention.o_proj", f"{attention}/proj"),
        *norm(f"{layer}.norm1", "blocks/attention_norm"),
        *norm(f"{layer}.norm2", "blocks/mlp_norm"),
        Entry(f"{layer}.layer_scale1.lambda1", "blocks/attention_scale/scale", vector),
        Entry(f"{layer}.layer_scale2.lambda1", "blocks/mlp_scale/scale", vector),
        *dense(f"{layer}.mlp.up_proj", f"{mlp}/fc1"),
        *dense(f"{layer}.mlp.gate_proj", f"{mlp}/gate"),
        *dense(f"{layer}.mlp.down_proj", f"{mlp}/fc2"),
        *norm("norm", "final_norm"),
    ]
