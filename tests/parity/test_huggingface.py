"""Small random models of transformers, saved by it and loaded by name of their folder: values, gradients, layers, photographs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

import dave_jax as dave
from convert_weights.image_processor import read_preprocessing

pytestmark = pytest.mark.parity

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
PLAIN = SMALL | {"intermediate_size": 48, "id2label": {0: "cat", 1: "dog", 2: "owl"}}
DINO = SMALL | {"mlp_ratio": 2, "layerscale_value": 0.5, "id2label": {0: "cat", 1: "dog", 2: "owl"}}
CASES = {  # class of the model, options of its configuration, the size that its image processor makes
    "vit": ("ViTForImageClassification", PLAIN, 32),
    "vit, no biases, tanh, larger": ("ViTForImageClassification", PLAIN | {"qkv_bias": False, "hidden_act": "gelu_new"}, 48),
    "vit, features": ("ViTModel", PLAIN | {"hidden_act": "quick_gelu"}, 32),
    "deit": ("DeiTForImageClassification", PLAIN, 24),
    "deit, two heads": ("DeiTForImageClassificationWithTeacher", PLAIN, 32),
    "dinov2, smaller": ("Dinov2ForImageClassification", DINO, 16),
    "dinov2, features": ("Dinov2Model", DINO, 32),
    "registers, larger": ("Dinov2WithRegistersForImageClassification", DINO | {"num_register_tokens": 2}, 48),
    "registers, swiglu": ("Dinov2WithRegistersForImageClassification", DINO | {"num_register_tokens": 3, "use_swiglu_ffn": True}, 32),
    "ijepa": ("IJepaForImageClassification", PLAIN, 32),
    "beit": ("BeitForImageClassification", PLAIN | {"use_relative_position_bias": True, "use_mask_token": True}, 32),
    "beit, larger": ("BeitForImageClassification", PLAIN | {"use_relative_position_bias": True}, 48),
    "beit, shared, absolute, token, smaller": (
        "BeitForImageClassification",
        PLAIN
        | dict.fromkeys(("use_shared_relative_position_bias", "use_absolute_position_embeddings"), True)
        | {"use_mean_pooling": False},
        24,
    ),
    "beit, features": ("BeitModel", PLAIN | {"use_relative_position_bias": True, "layer_scale_init_value": 0.0}, 32),
    "dinov3, features, larger": ("DINOv3ViTModel", SMALL | {"intermediate_size": 48, "num_register_tokens": 2}, 48),
    "dinov3, features, gated": (
        "DINOv3ViTModel",
        SMALL | {"intermediate_size": 40, "num_register_tokens": 4, "use_gated_mlp": True, "hidden_act": "silu", "rope_theta": 50.0},
        32,
    ),
    "dinov3, features, biases": (
        "DINOv3ViTModel",
        SMALL | {"intermediate_size": 48, "num_register_tokens": 1, "key_bias": True, "mlp_bias": False, "proj_bias": False},
        32,
    ),
}


def build(case):
    """The model of transformers, with random weights everywhere, biases and scales too, and the size of its images."""
    name, options, size = CASES[case]
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**options)).eval()
    generator = torch.Generator().manual_seed(list(CASES).index(case))
    with torch.no_grad():
        for key, value in model.named_parameters():
            spread = 0.3 * torch.randn(value.shape, generator=generator)
            value.copy_(1 + spread if "norm" in key and key.endswith("weight") else spread)
    return model, size


def save(model, size, folder, **options):
    model.save_pretrained(folder, **options)
    transformers.ViTImageProcessorPil(size={"height": size, "width": size}).save_pretrained(folder)


def outputs(model, images, size):
    """Logits or features, and the tokens before and after the blocks."""
    options = {} if "dino" in model.config.model_type else {"interpolate_pos_encoding": size != model.config.image_size}
    result = model(images, output_hidden_states=True, **options)
    if hasattr(result, "logits"):
        return result.logits, result.hidden_states
    pooled = model.config.model_type in ("beit", "dinov3_vit")  # their pooler has no layer of its own
    return result.pooler_output if pooled else result.last_hidden_state[:, 0], result.hidden_states


@pytest.mark.parametrize("case", CASES)
def test_equals_transformers(case, tmp_path):
    theirs, size = build(case)
    save(theirs, size, tmp_path)
    model = dave.load(tmp_path)
    draw = np.random.default_rng(0)
    images = draw.standard_normal((2, size, size, 3), np.float32)
    tensors = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_()
    expected, hidden = outputs(theirs, tensors, size)
    cotangents = draw.standard_normal(expected.shape, np.float32)
    (slopes,) = torch.autograd.grad(expected, tensors, torch.from_numpy(cotangents))

    def ours(params, image, cotangent):
        logits, pull, inside = jax.vjp(lambda image: model.forward.intermediates(params, image), image, has_aux=True)
        return logits, pull(cotangent)[0], inside.tokens

    logits, gradients, tokens = jax.jit(jax.vmap(ours, (None, 0, 0)))(model.params, images, cotangents)
    close(logits, expected.detach().numpy(), 1e-5)
    close(gradients, slopes.numpy().transpose(0, 2, 3, 1), 1e-4)
    close(tokens[:, 1], hidden[1].detach().numpy(), 1e-5)
    assert model.class_names == (None if "features" in case else ("cat", "dog", "owl"))


def close(ours, theirs, tolerance):
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("case", CASES)
def test_the_names_that_modules_have_in_memory(case, tmp_path):
    """transformers writes the names of its older versions; a state dict saved by hand has the newer ones."""
    theirs, size = build(case)
    save(theirs, size, tmp_path)
    written, memory = load_file(tmp_path / "model.safetensors"), theirs.state_dict()
    assert set(written) != set(memory)
    params = dave.load(tmp_path).params
    save_file({key: value.contiguous() for key, value in memory.items()}, tmp_path / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, dave.load(tmp_path).params, params)


def test_shards_and_half_precision(tmp_path):
    theirs, size = build("vit")
    save(theirs.to(torch.bfloat16), size, tmp_path, max_shard_size="30KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    model = dave.load(tmp_path)
    expected = theirs.float()(torch.zeros(1, 3, size, size)).logits.detach().numpy()
    close(model.logits(jnp.zeros((1, size, size, 3))), expected, 1e-5)


PROCESSORS = {
    "vit": ("ViTImageProcessorPil", {}),
    "vit, oblong": ("ViTImageProcessorPil", {"size": {"height": 160, "width": 96}, "resample": 3}),
    "vit, no statistics": ("ViTImageProcessorPil", {"do_normalize": False, "resample": 0, "size": 64}),
    "deit": ("DeiTImageProcessorPil", {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}),
    "deit, lanczos": ("DeiTImageProcessorPil", {"size": 146, "crop_size": 128, "resample": 1}),
    "dinov2": ("BitImageProcessorPil", {"size": {"shortest_edge": 256}, "image_mean": [0.485, 0.456, 0.406]}),
    "clip": ("CLIPImageProcessorPil", {"size": 112, "crop_size": 96}),
    "siglip": ("SiglipImageProcessorPil", {}),
    "beit": ("BeitImageProcessorPil", {}),
    "beit, cropped": ("BeitImageProcessorPil", {"size": 256, "do_center_crop": True, "resample": 2}),
}
PHOTOS = [(320, 213), (213, 320), (250, 187), (333, 333), (101, 459), (64, 64)]


@pytest.mark.parametrize("case", PROCESSORS)
def test_photographs(case, tmp_path):
    """Equal to the processors that use Pillow; what transformers saves leaves nothing to its defaults, an empty file everything."""
    name, options = PROCESSORS[case]
    processor = getattr(transformers, name)(**options)
    processor.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    ours = read_preprocessing(written, processor="ViT")
    assert ours == read_preprocessing(options, processor=name.removesuffix("ImageProcessorPil"))
    draw = np.random.default_rng(0)
    for width, height in PHOTOS:
        photo = Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8))
        expected = processor(photo, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        np.testing.assert_allclose(ours(photo)[0], expected, rtol=0, atol=1e-5, err_msg=f"{photo.size}")


@pytest.mark.parametrize(("name", "most"), [("Bit", 2.01), ("DINOv3ViT", 1.01)])
def test_the_faster_processors_differ_by_grey_levels(name, most, tmp_path):
    """transformers' default resizes tensors in torchvision: of 8 bits, which rounds otherwise than Pillow, or of floats (DINOv3), which
    rounds not at all; noise is the worst case."""
    processor = getattr(transformers, f"{name}ImageProcessor")()
    processor.save_pretrained(tmp_path)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (213, 320, 3), np.uint8))
    ours = read_preprocessing(json.loads((tmp_path / "preprocessor_config.json").read_text()), processor=name)
    theirs = processor(photo, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    levels = np.abs(ours(photo)[0] - theirs) * np.array(ours.std) * 255
    print(f"{name}: {levels.max():.3f} grey levels")
    assert levels.max() < most
