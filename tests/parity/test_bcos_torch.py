"""B-cos ViTs against PyTorch: the papers' equations under the repository's key names, saved to a folder and loaded from it."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from PIL import Image
from safetensors.torch import save_file
from torch_bcos import Logits, Vit, explaining

import dave_jax as dave
from convert_weights import bcos
from dave_jax.attribution.baselines.bcos import BcosInherent
from dave_jax.models.bcos_config import BcosViTConfig
from dave_jax.models.vit_config import ViTConfig

pytestmark = pytest.mark.parity

SIZES = {"width": 24, "depth": 2, "num_heads": 3, "mlp_width": 40}
PLAIN = {"class_token": False, "pooling": "avg", "final_norm": "pooled", "eps": 1e-5, "qkv_bias": False}
TINY = {
    "bcos_tiny_simple": BcosViTConfig(**SIZES, patch_size=(4, 4)),
    "bcos_tiny_stem": BcosViTConfig(**SIZES, patch_size=(1, 1), stem_widths=(8, 16, 16, 24)),
    "standard_tiny": ViTConfig(**SIZES, patch_size=(4, 4), **PLAIN),
    "standard_tiny_stem": ViTConfig(**SIZES, patch_size=(4, 4), stem_widths=(8, 8, 16), **PLAIN),
}
REAL = ("bcos_simple_vit_ti_patch16_224", "bcos_vitc_ti_patch1_14", "standard_simple_vit_ti_patch16_224", "standard_vitc_ti_patch1_14")
LOGITS = {"bcos_tiny_stem": {"logit_bias": -1.5, "logit_temperature": 0.25}} | {name: {"logit_bias": 0.0} for name in REAL}
"""Of random B-cos networks the logits are small, and the bias of their training would hide errors."""

TENSORS = {"bcos_simple_vit_ti_patch16_224": 75, "bcos_vitc_ti_patch1_14": 77}


def build(config, name: str, classes: int, bias: float, temperature: float) -> torch.nn.Module:
    """Their network, with random norms and biases too."""
    sizes = {"width": config.width, "depth": config.depth, "num_heads": config.num_heads, "hidden": config.mlp_width, "classes": classes}
    stem = getattr(config, "stem_widths", ())
    vit = Vit(bcos=name.startswith("bcos"), patch=1 if stem else config.patch_size[0], stem=stem, **sizes)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in vit.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
            else:  # rows of different lengths
                parameter.mul_(1 + torch.rand((len(parameter), *[1] * (parameter.ndim - 1)), generator=generator))
    return torch.nn.Sequential(vit, Logits(bias, temperature)) if name.startswith("bcos") else vit


def theirs(model: torch.nn.Module, name: str, image: np.ndarray, cotangent: np.ndarray, on: bool):
    """Their logits, and the derivative with respect to the channels that they see (h, w, c)."""
    x = torch.tensor(image).permute(2, 0, 1)[None]
    channels = (torch.cat([x, 1 - x], 1) if name.startswith("bcos") else x).requires_grad_()
    logits = explaining(model, on)(channels)
    (gradient,) = torch.autograd.grad(logits[0] @ torch.tensor(cotangent), channels)
    return logits[0].detach().numpy(), gradient[0].permute(1, 2, 0).numpy()


def ours(model: dave.Model, image: jax.Array, cotangent: jax.Array):
    """The same of ours, by one program."""
    network = model.forward

    def run(params, image):
        found, x = {}, network.channels(params, image)[0] if isinstance(network, dave.BcosViT) else image
        for rules in ("gradient", "effective"):
            if isinstance(network, dave.BcosViT):
                logits, pull = jax.vjp(lambda x, rules=rules: network.on_channels(params, x, rules)[0], x)
            else:
                logits, pull = jax.vjp(lambda x, rules=rules: network(params, x, rules), x)
            found[rules] = logits, pull(cotangent)[0]
        return found

    return jax.jit(run)(model.params, image)


def assert_close(a, b, tolerance):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("name", [*TINY, *REAL])
def test_a_folder_has_their_logits_and_explanations(name, tmp_path, monkeypatch):
    for tiny, config in TINY.items():
        monkeypatch.setitem(bcos.ARCHITECTURES, tiny, config)
    size, classes = ((224, 224), 20) if name in REAL else ((16, 24), 5)
    extra = LOGITS.get(name, {}) if name.startswith("bcos") else {}
    bias, temperature = extra.get("logit_bias", math.log(1 / (classes - 1))), extra.get("logit_temperature", 1.0)
    twin = build(bcos.ARCHITECTURES[name], name, classes, bias, temperature)
    state = twin.state_dict()
    assert len(state) == TENSORS.get(name, len(state))  # as many as their releases have
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": name, "num_classes": classes, **extra}))
    model = dave.load(tmp_path, image_size=size)
    plain = name.startswith("standard")

    draw = np.random.default_rng(0)
    image, cotangent = draw.random((*size, 3), np.float32), draw.standard_normal(classes).astype(np.float32)
    expected = {rules: theirs(twin, name, image, cotangent, rules == "effective") for rules in ("gradient", "effective")}
    for rules, (logits, gradient) in ours(model, jnp.asarray(image), jnp.asarray(cotangent)).items():
        assert_close(logits, expected[rules][0], 1e-5)
        if not plain or rules == "gradient":  # their plain networks have no explanation mode
            assert_close(gradient, expected[rules][1], 1e-4)
    if name in TINY and not plain:
        on_channels = expected["effective"][1]
        contributions = np.concatenate([image, 1 - image], -1) * on_channels
        assert_close(BcosInherent()(model, image[None], cotangent[None], raw=True)[0], contributions.sum(-1), 1e-4)
        three = on_channels[..., :3] - on_channels[..., 3:]
        assert_close(dave.effective_transformation(model, image, cotangent), three, 1e-4)


@pytest.mark.parametrize("size", [(300, 401), (224, 231), (640, 256)])
def test_photographs_as_torchvision_prepares_them(size):
    transforms = pytest.importorskip("torchvision.transforms")
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    bilinear = transforms.InterpolationMode.BILINEAR
    chain = transforms.Compose([transforms.Resize(256, interpolation=bilinear), transforms.CenterCrop(224), transforms.ToTensor()])
    expected = chain(photo).permute(1, 2, 0).numpy()
    prepared = bcos.describe({"architecture": "bcos_vitc_s_patch1_14"}).preprocessing(photo)[0]
    np.testing.assert_array_equal(prepared, expected)
    normalised = (expected - np.array([0.485, 0.456, 0.406], np.float32)) / np.array([0.229, 0.224, 0.225], np.float32)
    prepared = bcos.describe({"architecture": "standard_simple_vit_s_patch16_224"}).preprocessing(photo)[0]
    np.testing.assert_array_equal(prepared, normalised)
