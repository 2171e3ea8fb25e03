"""The authors' PyTorch code, recorded on five small models: ours computes the same from the same matrices and noise."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import dave_jax as dave
from convert_weights.timm import config_from_options, params_from_arrays
from dave_jax.sampling.noise import noise_levels

CASES = ("vit", "deit3", "avgpool", "registers", "qknorm")


def channels_last(array):
    return jnp.asarray(np.moveaxis(array, -3, -1))


@pytest.fixture(params=CASES)
def case(request, shared):
    options = json.loads((shared / "goldens" / "configs.json").read_text())[request.param]
    config = config_from_options(options)
    params = params_from_arrays(load_file(shared / "goldens" / f"{request.param}.safetensors"), config)
    model = dave.Model(params=params, forward=dave.ViT(config), preprocessing=dave.Preprocessing(image_size=config.image_size))
    return model, dict(np.load(shared / "goldens" / f"{request.param}.npz"))


def relative(ours, theirs):
    return np.abs(np.asarray(ours) - theirs) / np.abs(theirs).max()


def test_logits_and_gradients(case):
    model, recorded = case
    images, targets = channels_last(recorded["x"]), recorded["y"]
    assert relative(model.logits(images), recorded["logits"]).max() < 1e-5
    for decomposition, name in (("gradient", "gradient"), ("effective", "w_eff_clean")):
        ours = [dave.effective_transformation(model, x, y, decomposition=decomposition) for x, y in zip(images, targets, strict=True)]
        assert relative(jnp.stack(ours), channels_last(recorded[name])).max() < 1e-4


def test_samples_aggregate_and_heat_map(case):
    model, recorded = case
    images = channels_last(recorded["x"])
    noise = channels_last(recorded["noise"])

    def transformation(sample, index):
        matrix, t = recorded["matrices"][sample, index], float(recorded["t"][sample])
        return dave.effective_transformation(model, images[index], recorded["y"][index], matrix=matrix, noise=noise[sample, index], t=t)

    ours = jnp.stack([jnp.stack([transformation(sample, index) for index in range(2)]) for sample in range(6)])
    assert relative(ours, channels_last(recorded["w_eff"])).max() < 1e-4
    raw = dave.mad_mean(ours * images[None])
    assert np.mean(relative(raw, channels_last(recorded["raw"])) < 1e-4) >= 0.99  # the mask is a hard threshold
    heat = jax.vmap(dave.postprocess)(channels_last(recorded["raw"]))
    assert np.abs(heat - recorded["post"][:, 0]).max() < 1e-5


def test_schedule(case):
    _, recorded = case
    assert np.allclose(noise_levels(6, 0.9), recorded["t"], rtol=0, atol=1e-7)
