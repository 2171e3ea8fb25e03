"""The Flax classes of transformers, which its fifth version dropped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo_checks import MARKS, Cases, check, fields, library, randomise

import dave_jax as dave

transformers = library("transformers")
if not hasattr(transformers, "FlaxViTForImageClassification"):
    pytest.skip("this transformers has no Flax classes; see CONTRIBUTING.md", allow_module_level=True)
pytestmark = MARKS

TEXTS = np.arange(14).reshape(2, 7) % 11
LAYERS = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
TOWER = dict(**LAYERS, image_size=16, patch_size=4, num_labels=5)
STAGES = dict(embedding_size=8, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], num_labels=5)


def classifier(name, size, **options):
    config = getattr(transformers, f"{name}Config")(**options)
    module = getattr(transformers, f"Flax{name}ForImageClassification")(config, dtype=jnp.float64, input_shape=(1, size, size, 3))

    def call(params, image):
        return module(image[None].transpose(0, 3, 1, 2), params=params).logits[0]

    return dave.Model.from_function(call, module.params, **fields(size))


def image_text_pair():
    text = LAYERS | dict(vocab_size=11, num_hidden_layers=1, max_position_embeddings=7, eos_token_id=2, bos_token_id=0)
    config = transformers.CLIPConfig(text_config=text, vision_config=LAYERS | dict(image_size=16, patch_size=4), projection_dim=8)
    module = transformers.FlaxCLIPModel(config, dtype=jnp.float64)

    def call(params, image):
        return module(TEXTS, image[None].transpose(0, 3, 1, 2), params=params).logits_per_image[0]

    return dave.Model.from_function(call, module.params, **fields(16))


CASES: Cases = {
    "ViT": lambda: classifier("ViT", 16, **TOWER),
    "BEiT (relative positions)": lambda: classifier("Beit", 16, **TOWER, use_relative_position_bias=True, layer_scale_init_value=0.5),
    "RegNet (squeeze and excite)": lambda: classifier("RegNet", 32, **STAGES, groups_width=4),
    "CLIP, similarity to texts": image_text_pair,
}


@pytest.mark.parametrize("name", CASES)
def test_transformers(name):
    check("transformers", name, CASES[name]())


def test_the_gradient_is_that_of_the_library_with_its_operators_stopped(monkeypatch):
    """An independent twin of the whole network: its softmax, reciprocal deviation and GELU, each stopped where the library calls it."""
    model = CASES["ViT"]()
    params, image = randomise(model.params), jax.random.normal(jax.random.key(0), (16, 16, 3), jnp.float64)
    found = jax.grad(lambda image: model.forward(params, image, "effective")[2])(image)
    plain = jax.grad(lambda image: model.forward(params, image, "gradient")[2])(image)

    softmax, rsqrt, stop = jax.nn.softmax, jax.lax.rsqrt, jax.lax.stop_gradient
    monkeypatch.setattr(jax.nn, "softmax", lambda *args, **options: stop(softmax(*args, **options)))
    monkeypatch.setattr(jax.lax, "rsqrt", lambda x: stop(rsqrt(x)))
    activations = transformers.modeling_flax_utils.ACT2FN
    monkeypatch.setitem(activations, "gelu", lambda x: x * stop(jax.scipy.stats.norm.cdf(x)))
    expected = jax.grad(lambda image: CASES["ViT"]().forward(params, image, "gradient")[2])(image)
    scale = float(jnp.abs(expected).max())
    assert float(jnp.abs(found - expected).max()) < 1e-12 * scale
    assert float(jnp.abs(plain - expected).max()) > 1e-2 * scale  # what was stopped matters
