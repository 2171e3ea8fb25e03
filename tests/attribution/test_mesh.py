"""Several devices: the same maps, however the work is spread."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.testing import tiny_model

KEY = jax.random.key(5)
CONFIG = dave.DaveConfig(num_samples=8, noise_alpha=0.5)
IMAGES = jax.random.normal(jax.random.key(3), (2, 16, 16, 3))

if len(jax.devices()) < 2:
    pytest.skip("needs two devices: XLA_FLAGS=--xla_force_host_platform_device_count=2", allow_module_level=True)


def maps(mesh=None, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    return np.asarray(dave.explain(tiny_model(), IMAGES, [[0, 1], [2, 3]], key=KEY, config=config, raw=True, mesh=mesh))


@pytest.mark.parametrize(
    ("axis", "changes"),
    [
        ("data", {}),
        ("samples", {}),
        ("samples", {"mad_pilot": 3}),
        pytest.param("samples", {"mad_pilot": 4}, marks=pytest.mark.slow),
        pytest.param("samples", {"aggregation": "streaming_mean"}, marks=pytest.mark.slow),
        pytest.param("samples", {"aggregation": "median"}, marks=pytest.mark.slow),
        pytest.param("samples", {"mad_pilot": 4, "smoothing": True}, marks=pytest.mark.slow),
        pytest.param("data", {"mad_pilot": 4}, marks=pytest.mark.slow),
        pytest.param("data", {"aggregation": "streaming_mean"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_two_devices_give_the_same_attributions(axis, changes):
    alone, spread = maps(**changes), maps(jax.make_mesh((2,), (axis,)), **changes)
    away = np.abs(alone - spread) / np.abs(alone).max()
    assert np.mean(away > 1e-5) < 1e-3  # a sample on MAD's bound to within rounding falls on either side


@pytest.mark.slow
def test_images_already_on_their_devices():
    mesh = jax.make_mesh((2,), ("data",))
    images = jax.device_put(IMAGES, jax.NamedSharding(mesh, jax.P("data")))
    found = dave.explain(tiny_model(), images, [0, 1], key=KEY, config=CONFIG, mesh=mesh)
    assert len(found.sharding.device_set) == 2
    np.testing.assert_allclose(found, dave.explain(tiny_model(), IMAGES, [0, 1], key=KEY, config=CONFIG), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_under_a_mesh_of_the_caller(kind):
    """Whatever the type of its axes: also in sharding in types, with and without the mesh as an argument."""
    alone = np.asarray(dave.explain(tiny_model(), IMAGES, [0, 1], key=KEY, config=CONFIG))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        inside, spread = (dave.explain(tiny_model(), IMAGES, [0, 1], key=KEY, config=CONFIG, mesh=given) for given in (None, mesh))
        twice = 2 * spread
    assert len(spread.sharding.device_set) == 2 and spread.sharding.mesh.axis_types == (kind,)
    for found in (inside, spread, twice / 2):
        np.testing.assert_allclose(found, alone, atol=1e-5)


@pytest.mark.slow
def test_samples_come_back_in_order():
    mesh = jax.make_mesh((2,), ("samples",))
    _, alone = dave.explain(tiny_model(), IMAGES, [0, 1], key=KEY, config=CONFIG, return_samples=True)
    _, spread = dave.explain(tiny_model(), IMAGES, [0, 1], key=KEY, config=CONFIG, return_samples=True, mesh=mesh)
    np.testing.assert_allclose(alone, spread, atol=1e-6 * float(jnp.abs(alone).max()))


@pytest.mark.parametrize(
    ("axes", "images", "config", "message"),
    [
        (("batch",), IMAGES, CONFIG, r"axes 'data' and 'samples'.*got \('batch',\)"),
        (("data",), IMAGES[:1], CONFIG, "multiple of the mesh's data axis, 2; got 1"),
        (("samples",), IMAGES, dataclasses.replace(CONFIG, num_samples=5), "multiple of the 2 devices.*got 5"),
    ],
)
def test_bad_mesh(axes, images, config, message):
    with pytest.raises(ValueError, match=message):
        dave.explain(tiny_model(), images, [0] * len(images), key=KEY, config=config, mesh=jax.make_mesh((2,), axes))


EIGHT = """
import dataclasses, jax, numpy as np, dave_jax as dave
from dave_jax.testing import tiny_model
images, config = jax.random.normal(jax.random.key(3), (8, 16, 16, 3)), dave.DaveConfig(num_samples=8, noise_alpha=0.5)
def heat(mesh=None, config=config):
    return np.asarray(dave.explain(tiny_model(), images, [0, 1, 2, 3, 4, 0, 1, 2], key=jax.random.key(5), config=config, mesh=mesh))
alone = heat()
held = dataclasses.replace(config, mad_pilot=3)  # fewer than the devices, and no multiple of them
away = np.abs(heat(jax.make_mesh((4,), ("samples",), devices=jax.devices()[:4]), held) - heat(config=held))
print(away.max(), np.mean(away > 1e-5))
assert np.mean(away > 1e-5) < 1e-3
for shape in ((1, 2), (2, 2), (4, 1), (8, 1), (2, 4), (1, 8)):
    devices = np.array(jax.devices()[: shape[0] * shape[1]]).reshape(shape)
    away = np.abs(heat(jax.sharding.Mesh(devices, ("data", "samples"))) - alone)
    print(shape, away.max(), np.mean(away > 1e-5))
    assert np.mean(away > 1e-5) < 1e-3
"""


@pytest.mark.slow
def test_up_to_eight_devices():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run([sys.executable, "-c", EIGHT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout


@pytest.mark.slow
def test_what_lies_on_one_device_goes_where_it_is_needed():
    device, mesh = jax.devices()[1], jax.make_mesh((2,), ("data",))
    model, images, targets, key = jax.device_put((tiny_model(), IMAGES, jnp.array([0, 1]), KEY), device)
    found = dave.explain(model, images, targets, key=key, config=CONFIG, mesh=mesh)
    np.testing.assert_allclose(found, dave.explain(tiny_model(), IMAGES, [0, 1], key=KEY, config=CONFIG), atol=1e-5)
