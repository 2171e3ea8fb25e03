"""Small random Swin transformers of transformers, saved by it and loaded by name of their folder: logits, gradients, keys."""

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from conv_twins import assert_close
from safetensors.torch import save_file

import dave_jax as dave

pytestmark = pytest.mark.parity

SMALL = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [2, 3], "num_heads": [2, 4], "window_size": 4, "mlp_ratio": 2.0}
NAMED = SMALL | {"id2label": {0: "cat", 1: "dog", 2: "owl"}}
CASES = {  # class, options of its configuration, edges of the image
    "v1": ("SwinForImageClassification", NAMED, (32, 32)),
    "v1, larger, no biases": ("SwinForImageClassification", NAMED | {"qkv_bias": False, "hidden_act": "silu"}, (48, 32)),
    "v1, features, one window": ("SwinModel", SMALL | {"window_size": 8}, (32, 32)),
    "v2": ("Swinv2ForImageClassification", NAMED | {"pretrained_window_sizes": [3, 2]}, (32, 32)),
    "v2, features, a smaller map": ("Swinv2Model", SMALL | {"window_size": 16}, (32, 32)),
}


def build(case):
    name, options, _ = CASES[case]
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**options)).eval()
    generator = torch.Generator().manual_seed(list(CASES).index(case))
    with torch.no_grad():
        for key, value in model.named_parameters():
            spread = 0.3 * torch.randn(value.shape, generator=generator)
            value.copy_(1 + spread if "norm" in key and key.endswith("weight") else spread)
    return model


@pytest.mark.parametrize("case", CASES)
def test_equals_transformers(case, tmp_path):
    theirs, size = build(case), CASES[case][2]
    theirs.save_pretrained(tmp_path)
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    model = dave.load(tmp_path, image_size=size)
    assert model.class_names == (None if "features" in case else ("cat", "dog", "owl"))
    draw = np.random.default_rng(0)
    image = draw.standard_normal((*size, 3), np.float32)
    tensor = torch.from_numpy(image.transpose(2, 0, 1)[None].copy()).requires_grad_()
    result = theirs(tensor, interpolate_pos_encoding=size != (32, 32))
    expected = result.logits if hasattr(result, "logits") else result.pooler_output
    cotangent = draw.standard_normal(expected.shape[1], np.float32)
    (slope,) = torch.autograd.grad(expected, tensor, torch.from_numpy(cotangent[None]))

    def ours(params, image):
        logits, pull = jax.vjp(lambda image: model.forward(params, image), image)
        return logits, pull(cotangent)[0]

    logits, gradients = jax.jit(ours)(model.params, image)
    assert_close(logits, expected[0].detach(), 1e-5)
    assert_close(gradients, slope[0].permute(1, 2, 0), 1e-4)
    memory = {key: value.contiguous() for key, value in theirs.state_dict().items()}  # under the names that modules have
    save_file(memory, tmp_path / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, dave.load(tmp_path, image_size=size).params, model.params)
    with pytest.raises(ValueError, match=r"must be tiled by square windows.*Take another image_size"):
        dave.load(tmp_path, image_size=(40, 36))
