"""jimm (`jax-image-models`, flax nnx): towers of DINO, CLIP and SigLIP, under a mesh with explicit sharding, which they require."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from zoo_checks import MARKS, Cases, check, fields, library

import dave_jax as dave

jimm = library("jimm")
pytestmark = MARKS

TEXTS = np.arange(14).reshape(2, 7) % 11
TOWER = dict(patch_size=4, hidden_size=16, num_layers=2, num_heads=2, mlp_dim=32)


@pytest.fixture(autouse=True)
def mesh():
    with jax.set_mesh(jax.make_mesh((1,), ("fsdp",), axis_types=(jax.sharding.AxisType.Explicit,))):
        yield


def one(module, image):
    return module(image[None])[0]


def against_texts(module, image):
    return module(image[None], TEXTS)[0]


def options():
    return dict(sharding=jimm.common.sharding.NoSharding(), rngs=nnx.Rngs(0), dtype=jnp.float64, param_dtype=jnp.float64)


def tower(module, **more):
    return dave.from_nnx(module(img_size=16, **TOWER, **more, **options()), call=one, **fields(16))


def pair(module):
    return dave.from_nnx(module(16, 1, 64, 4, 7, 11, 64, 1, 1, **options()), call=against_texts, **fields(16))


CASES: Cases = {
    "DINOv2": lambda: tower(jimm.DINOv2Model),
    "DINOv3 (RoPE, SwiGLU, registers)": lambda: tower(jimm.DINOv3Model, use_gated_mlp=True),
    "CLIP, similarity to texts": lambda: pair(jimm.CLIP),
    "SigLIP, similarity to texts": lambda: pair(jimm.SigLIP),
}


@pytest.mark.parametrize("name", CASES)
def test_jimm(name):
    report = check("jax-image-models", name, CASES[name]())
    assert {"attention", "normalisation"} <= {finding.site for finding in report.findings}
