"""`ResNetConfig` and what `ResNet` refuses."""

import jax
import jax.numpy as jnp
import pytest

from dave_jax.models.resnet import ResNet
from dave_jax.models.resnet_config import ResNetConfig, init_params

SMALL = {"blocks": ("basic",), "depths": (1,), "widths": (4,), "stem_widths": (4,), "num_classes": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": ("plain",)}, r"blocks is one of \['basic', 'bottleneck'\]; got \('plain',\)"),
        ({"activation": "mish"}, "activation is one of"),
        ({"stem_pool": "avg"}, "stem_pool is one of"),
        ({"gate": "se"}, r"gate is one of \['none', 'squeeze', 'conv'\]; got 'se'"),
        ({"squeeze": 0.0}, "squeeze must lie in 0 to 1, without 0; got 0.0"),
        ({"depths": (1, 1)}, "one entry for each stage; they have 1, 2 and 1"),
        ({"depths": (0,)}, r"depths must be at least 1; got \(0,\)"),
        ({"widths": (-4,)}, "widths must be at least 1"),
        ({"stem_widths": (4, 4)}, "one entry .7 x 7. or three"),
        ({"groups": 2}, "basic blocks need 1 and 64"),
        ({"num_classes": -1}, "num_classes must be at least 0"),
    ],
)
def test_malformed_configurations(options, message):
    with pytest.raises(ValueError, match=f"This is no ResNet: .*{message}"):
        ResNetConfig(**SMALL | options)


def test_every_problem_is_named():
    with pytest.raises(ValueError, match=r"stem_pool.*activation.*num_classes"):
        ResNetConfig(**SMALL | {"stem_pool": "", "activation": "", "num_classes": -1})


def test_widths():
    config = ResNetConfig(groups=32, base_width=4)  # resnext50_32x4d
    assert [config.inner_width(stage) for stage in range(4)] == [128, 256, 512, 1024]
    assert [config.out_width(stage) for stage in (-1, 0, 3)] == [64, 256, 2048]
    assert [config.has_projection(stage) for stage in range(4)] == [True] * 4
    assert not ResNetConfig(blocks=("basic",) * 4).has_projection(0)


def test_features_and_images():
    config = ResNetConfig(**SMALL | {"num_classes": 0})
    params = init_params(jax.random.key(0), config)
    assert ResNet(config)(params, jnp.ones((9, 5, 3))).shape == (4,)
    for shape in ((1, 9, 5, 3), (9, 5, 4), (0, 5, 3)):
        with pytest.raises(ValueError, match=r"images of shape \(h, w, 3\); got"):
            ResNet(config).operators.__wrapped__(ResNet(config), params, jnp.ones(shape), "gradient")
