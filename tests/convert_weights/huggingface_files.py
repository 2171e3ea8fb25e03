"""Tiny checkpoints as transformers saves them, without transformers."""

import json
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file
from timm_checkpoints import random_params

from convert_weights.huggingface import describe

TINY = {
    **{"model_type": "vit", "architectures": ["ViTForImageClassification"], "id2label": {"1": "dog", "0": "cat", "2": "owl"}},
    **{"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 16, "patch_size": 4},
}
SIXTEEN = {"size": {"height": 16, "width": 16}, "image_processor_type": "ViTImageProcessor"}


def to_transformers(params, config) -> dict[str, np.ndarray]:
    """The state dict of ViTForImageClassification that has these parameters."""
    state: dict[str, np.ndarray] = {}

    def put(name, part):
        for leaf, value in part.items():
            state[f"{name}.{'bias' if leaf == 'bias' else 'weight'}"] = value.T if leaf == "kernel" else value

    embeddings = "vit.embeddings"
    state[f"{embeddings}.cls_token"] = params["class_token"][None]
    state[f"{embeddings}.position_embeddings"] = params["position_embedding"][None]
    kernel = params["patch_embedding"]["kernel"].reshape(*config.patch_size, 3, -1)
    state[f"{embeddings}.patch_embeddings.projection.weight"] = np.einsum("hwco->ochw", kernel)
    state[f"{embeddings}.patch_embeddings.projection.bias"] = params["patch_embedding"]["bias"]
    put("vit.layernorm", params["final_norm"])
    put("classifier", params["head"])
    for i in range(config.depth):
        block = jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"])
        at = f"vit.encoder.layer.{i}"
        put(f"{at}.layernorm_before", block["attention_norm"])
        put(f"{at}.layernorm_after", block["mlp_norm"])
        for name in ("query", "key", "value"):
            put(f"{at}.attention.attention.{name}", block["attention"][name])
        put(f"{at}.attention.output.dense", block["attention"]["proj"])
        put(f"{at}.intermediate.dense", block["mlp"]["fc1"])
        put(f"{at}.output.dense", block["mlp"]["fc2"])
    return {name: np.ascontiguousarray(value) for name, value in state.items()}


def write(folder: Path, processor=SIXTEEN, **document):
    """A tiny random model as transformers saves it; returns its parameters."""
    document = TINY | document
    config = describe(document, SIXTEEN).config
    params = random_params(config)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(to_transformers(params, config), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(document))
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return params
