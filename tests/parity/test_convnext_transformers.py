"""Small random ConvNeXts of transformers, saved by it and loaded by name of their folder: logits, gradients, maps, photographs."""

import json

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from conv_twins import assert_close
from PIL import Image

import dave_jax as dave
from convert_weights.image_processor import read_preprocessing
from dave_jax.effective.decomposition import gradient

pytestmark = pytest.mark.parity

SMALL = {"depths": [1, 2, 1], "hidden_sizes": [8, 12, 16], "num_stages": 3, "id2label": {0: "cat", 1: "dog", 2: "owl"}}
CASES = {  # class, options of its configuration, edges of the image
    "v1": ("ConvNextForImageClassification", {}, (48, 48)),
    "v1, eps, no layer scale": ("ConvNextForImageClassification", {"layer_norm_eps": 0.1, "layer_scale_init_value": 0.0}, (37, 50)),
    "v1, features": ("ConvNextModel", {"hidden_act": "silu", "patch_size": 2}, (24, 40)),
    "v2": ("ConvNextV2ForImageClassification", {}, (48, 48)),
    "v2, features": ("ConvNextV2Model", {"layer_norm_eps": 0.1}, (37, 50)),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_transformers(case, tmp_path):
    name, options, size = CASES[case]
    kind = getattr(transformers, name)
    theirs = kind(kind.config_class(**SMALL | options)).eval()
    generator = torch.Generator().manual_seed(list(CASES).index(case))
    with torch.no_grad():
        for key, value in theirs.named_parameters():
            spread = 0.3 * torch.randn(value.shape, generator=generator)
            value.copy_(1 + spread if "norm" in key and key.endswith("weight") else spread)
    theirs.save_pretrained(tmp_path)
    transformers.ConvNextImageProcessorPil(size={"shortest_edge": 224}).save_pretrained(tmp_path)
    model = dave.load(tmp_path, image_size=size)
    assert model.class_names == (None if "features" in case else ("cat", "dog", "owl"))
    draw = np.random.default_rng(0)
    image = draw.standard_normal((*size, 3), np.float32)
    tensor = torch.from_numpy(image.transpose(2, 0, 1)[None].copy()).requires_grad_()
    result = theirs(tensor, output_hidden_states=True)
    expected = result.logits if hasattr(result, "logits") else result.pooler_output
    cotangent = draw.standard_normal(expected.shape[1], np.float32)
    (slope,) = torch.autograd.grad(expected, tensor, torch.from_numpy(cotangent[None]))

    def ours(params, image):
        logits, pull = jax.vjp(lambda image: model.forward(params, image), image)
        stem, _ = model.forward.stem(params["stem"], image, gradient)
        return logits, pull(cotangent)[0], stem

    logits, gradients, stem = jax.jit(ours)(model.params, image)
    assert_close(logits, expected[0].detach(), 1e-5)
    assert_close(gradients, slope[0].permute(1, 2, 0), 1e-4)
    assert_close(stem, result.hidden_states[0][0].permute(1, 2, 0).detach(), 1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"size": {"shortest_edge": 224}}, {"size": 224, "crop_pct": 0.95}, {"size": 383, "resample": 2}], ids=str
)
def test_photographs(options, tmp_path):
    """Below 384 pixels a centre crop, from there on the whole photograph, squashed."""
    processor = transformers.ConvNextImageProcessorPil(**options)
    processor.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    ours = read_preprocessing(written, processor="ViT")
    assert ours == read_preprocessing(options, processor="ConvNext")
    draw = np.random.default_rng(0)
    for width, height in [(320, 213), (213, 320), (250, 187), (500, 500)]:
        photo = Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8))
        expected = processor(photo, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        np.testing.assert_allclose(ours(photo)[0], expected, rtol=0, atol=1e-5, err_msg=f"{photo.size}")
