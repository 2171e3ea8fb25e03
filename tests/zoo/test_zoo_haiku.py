"""dm-haiku: its convolutional networks, whose batch norms take their running averages. They are piecewise linear."""

import jax
import jax.numpy as jnp
import pytest
from zoo_checks import MARKS, Cases, check, fields, library, randomise

import dave_jax as dave

hk = library("haiku")
pytestmark = MARKS


def network(make):
    def apply(training):
        return hk.transform_with_state(lambda images: make()(images, is_training=training))

    variables = jax.jit(apply(True).init)(jax.random.PRNGKey(0), jnp.zeros((1, 32, 32, 3)))
    inference = apply(False).apply
    return dave.Model.from_function(lambda variables, image: inference(*variables, None, image[None])[0][0], variables, **fields(32))


WIDTHS = dict(blocks_per_group=(1, 1, 1, 1), num_classes=5, channels_per_group=(8, 16, 16, 32))

CASES: Cases = {
    "ResNet v2": lambda: network(lambda: hk.nets.ResNet(**WIDTHS, resnet_v2=True, bottleneck=True)),
    "MobileNet v1": lambda: network(lambda: hk.nets.MobileNetV1((1, 2, 1), (8, 16, 16), 5)),
}


@pytest.mark.parametrize("name", CASES)
def test_haiku(name):
    assert check("dm-haiku", name, CASES[name]()).findings == ()


def test_the_effective_transformation_of_a_piecewise_linear_network_is_its_gradient():
    model = CASES["MobileNet v1"]()
    params, image = randomise(model.params), jax.random.normal(jax.random.key(0), (32, 32, 3))
    slopes = [jax.grad(lambda image, rules=rules: model.forward(params, image, rules)[2])(image) for rules in ("effective", "gradient")]
    assert float(jnp.abs(slopes[0] - slopes[1]).max()) < 1e-12 * float(jnp.abs(slopes[1]).max())
