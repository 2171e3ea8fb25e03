"""`precision="bfloat16_products"`: every family computes in float32 but for the factors of its dense layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.effective.precision import cast, packed, unpacked
from dave_jax.models import bcos, bcos_config, convnext, convnext_config, resnet, resnet_config, swin, swin_config
from dave_jax.models.network import in_half, in_precision
from dave_jax.models.rotary import Rotary
from dave_jax.testing import tiny_image_text, tiny_model

KEY = jax.random.key(2)
IMAGE = jax.random.uniform(jax.random.key(0), (16, 16, 3))
STAGES = {"depths": (2, 1), "num_heads": (2, 4), "mlp_widths": (16, 32), "windows": ((2, 2),) * 2, "pretrained_windows": (0, 0)}


def network(module, network, config):
    return module.init_params(KEY, config), network(config)


def transformer(**options):
    model = tiny_model(**options)
    return model.params, model.forward


def prompted():
    model = tiny_image_text().prompts(["a cat", "a dog"])
    return model.params, model.forward


NETWORKS = {
    "vit": transformer,
    "vit, rotary": lambda: transformer(rotary=Rotary()),
    "vit, attention pooling": lambda: transformer(pooling="map", class_token=False),
    "swin v2": lambda: network(swin_config, swin.Swin, swin_config.SwinConfig((16, 16), width=8, version=2, num_classes=3, **STAGES)),
    "convnext": lambda: network(
        convnext_config, convnext.ConvNeXt, convnext_config.ConvNeXtConfig((1, 2), (6, 8), (3, 3), response_norm=True, num_classes=5)
    ),
    "resnet with gates": lambda: network(
        resnet_config,
        resnet.ResNet,
        resnet_config.ResNetConfig(("basic",) * 2, (1, 3), (6, 8), stem_widths=(6,), num_classes=5, gate="conv"),
    ),
    "b-cos": lambda: network(
        bcos_config,
        bcos.BcosViT,
        bcos_config.BcosViTConfig(patch_size=(4, 4), width=8, depth=2, num_heads=2, mlp_width=16, num_classes=3),
    ),
    "image and text": prompted,
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in ("vit", "swin v2") else pytest.mark.slow) for name in NETWORKS])
def test_logits_are_near_in_every_family(name):
    """Nothing meets a rounded kernel but a product that is made for it: under strict promotion it would raise."""
    params, forward = NETWORKS[name]()
    rounded = in_precision(forward, params, "bfloat16_products", IMAGE.dtype)
    kinds = {leaf.dtype for leaf in jax.tree.leaves(jax.tree.map(unpacked, rounded))}
    assert kinds == {jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)} and not in_half(rounded)
    logits, expected = (jax.jit(forward)(some, IMAGE) for some in (rounded, params))
    assert logits.dtype == jnp.float32
    assert 0 < float(jnp.abs(logits - expected).max()) < 0.03 * float(jnp.abs(expected).max())


@pytest.mark.slow
def test_only_products_are_rounded():
    """Nearer to float32 than half precision of everything is, from parameters of either type."""
    model = tiny_model()
    config = dataclasses.replace(model.config, num_samples=8)
    explained = lambda model, precision: dave.explain(
        model, IMAGE[None], [1], key=KEY, config=dataclasses.replace(config, precision=precision), raw=True
    )
    exact, products, half = (explained(model, precision) for precision in ("float32", "bfloat16_products", "bfloat16"))
    error = lambda maps: float(jnp.linalg.norm(maps - exact) / jnp.linalg.norm(exact))
    assert products.dtype == jnp.float32
    assert 0 < error(products) < error(half) < 0.1
    loaded = dataclasses.replace(model, params=cast(model.params, jnp.bfloat16))
    whole = dataclasses.replace(model, params=cast(loaded.params, jnp.float32))
    assert np.array_equal(explained(loaded, "bfloat16_products"), explained(whole, "bfloat16_products"))


def test_float32_rounds_nothing_though_some_parameters_are_in_half():
    params, forward = transformer()
    mixed = in_precision(forward, params, "bfloat16_products", IMAGE.dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(in_precision(forward, mixed, "float32", IMAGE.dtype))} == {jnp.dtype(jnp.float32)}


def test_kernels_that_are_numpy_arrays_are_unpacked_too():
    kernel = np.asarray(jax.random.normal(KEY, (2, 3, 4), jnp.bfloat16))
    assert np.array_equal(unpacked(np.asarray(packed(jnp.asarray(kernel)))), kernel)
    assert unpacked(kernel) is kernel


def test_of_a_foreign_function_it_is_refused():
    model = dave.Model.from_function(lambda image: jnp.tanh(image).sum((0, 1)), preprocessing=dave.Preprocessing((16, 16)))
    with pytest.raises(ValueError, match=r"'bfloat16_products' is for networks of ours.*Cast its parameters"):
        dave.explain(model, IMAGE[None], [0], key=KEY, config=dave.DaveConfig(num_samples=2, precision="bfloat16_products"))
