"""`ConvNeXtConfig` and what `ConvNeXt` refuses."""

import jax
import jax.numpy as jnp
import pytest

from dave_jax.models.convnext import ConvNeXt
from dave_jax.models.convnext_config import ConvNeXtConfig, init_params

SMALL = {"depths": (1, 1), "widths": (4, 8), "kernel_sizes": (3, 3), "num_classes": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "deep"}, r"stem is one of \['patch', .*\]; got 'deep'"),
        ({"norm": "batch_norm"}, "norm is one of"),
        ({"activation": "mish"}, "activation is one of"),
        ({"final_norm": "tokens"}, "final_norm is one of"),
        ({"widths": (4,)}, "one entry for each stage; they have 2, 1 and 2"),
        ({"depths": (1, 0)}, r"depths must be at least 1; got \(1, 0\)"),
        ({"kernel_sizes": (3, 4)}, r"kernel_sizes must be odd; got \(3, 4\)"),
        ({"patch_size": 0}, "patch_size must be at least 1"),
        ({"head_width": 4, "final_norm": "positions"}, "head_width needs final_norm 'pooled'"),
    ],
)
def test_malformed_configurations(options, message):
    with pytest.raises(ValueError, match=f"This is no ConvNeXt: .*{message}"):
        ConvNeXtConfig(**SMALL | options)


@pytest.mark.parametrize(("width", "first"), [(40, 24), (48, 24), (64, 32), (8, 8), (80, 40)])
def test_the_tiered_stem_has_half_the_width_in_multiples_of_8(width, first):
    assert ConvNeXtConfig(**SMALL | {"stem": "overlap_tiered", "widths": (width, 8)}).stem_widths == (first, width)


@pytest.mark.slow
def test_the_least_image():
    config = ConvNeXtConfig(**SMALL)
    network, params = ConvNeXt(config), init_params(jax.random.key(0), config)
    assert config.stride == 8 and network(params, jnp.ones((8, 15, 3))).shape == (3,)
    with pytest.raises(ValueError, match=r"from 8 x 8 pixels on; got \(7, 15, 3\).*image_size"):
        network(params, jnp.ones((7, 15, 3)))
