"""The real ViT-S in timm's layout, and rewritten by hand to transformers' layout of DINOv2: one network."""

import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import dave_jax as dave

KEYS = {
    r"cls_token": "dinov2.embeddings.cls_token",
    r"pos_embed": "dinov2.embeddings.position_embeddings",
    r"patch_embed\.proj\.(\w+)": r"dinov2.embeddings.patch_embeddings.projection.\1",
    r"blocks\.(\d+)\.norm(\d)\.(\w+)": r"dinov2.encoder.layer.\1.norm\2.\3",
    r"blocks\.(\d+)\.attn\.proj\.(\w+)": r"dinov2.encoder.layer.\1.attention.output.dense.\2",
    r"blocks\.(\d+)\.ls(\d)\.gamma": r"dinov2.encoder.layer.\1.layer_scale\2.lambda1",
    r"blocks\.(\d+)\.mlp\.fc(\d)\.(\w+)": r"dinov2.encoder.layer.\1.mlp.fc\2.\3",
    r"norm\.(\w+)": r"dinov2.layernorm.\1",
    r"head\.bias": "classifier.bias",
}


def rewritten(state):
    """The state dict with transformers' keys: queries, keys and values apart, a classifier that ignores the mean of the patches."""
    found = {}
    for key, array in state.items():
        if match := re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(\w+)", key):
            for name, part in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                found[f"dinov2.encoder.layer.{match[1]}.attention.attention.{name}.{match[2]}"] = part
        elif key == "head.weight":
            found["classifier.weight"] = np.concatenate([array, np.zeros_like(array)], axis=1)
        else:
            (pattern,) = (pattern for pattern in KEYS if re.fullmatch(pattern, key))
            found[re.sub(pattern, KEYS[pattern], key)] = array
    return found


@jax.jit
def logit_and_slope(model, image):
    """A logit, and its effective derivative."""
    return jax.value_and_grad(lambda image: model.forward(model.params, image, "effective")[0])(image)


@pytest.mark.slow
def test_logits_and_derivatives_are_the_same(shared, tmp_path, key):
    folder = shared / "models" / "vit_s14_photos98"
    timms = dave.load(folder)
    save_file(rewritten(load_file(folder / "model.safetensors")), tmp_path / "model.safetensors")
    document = {
        **{"model_type": "dinov2", "architectures": ["Dinov2ForImageClassification"], "image_size": 224, "patch_size": 14},
        **{"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "mlp_ratio": 4, "layer_norm_eps": 1e-6},
        "id2label": {str(number): name for number, name in enumerate(timms.class_names)},
    }
    (tmp_path / "config.json").write_text(json.dumps(document))
    processor = {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    theirs = dave.load(tmp_path)
    assert theirs.class_names == timms.class_names
    image = jax.random.normal(key, (224, 224, 3))
    logit, slope = logit_and_slope(timms, image)
    other_logit, other_slope = logit_and_slope(theirs, image)
    # the classifier sums twice as many products, half of them zero
    np.testing.assert_allclose(other_logit, logit, rtol=1e-5)
    np.testing.assert_allclose(other_slope, slope, atol=1e-5 * float(np.abs(slope).max()))
