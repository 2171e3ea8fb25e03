"""Norms in half precision compute in float32 and round once: the result is the float32 one of the same numbers, rounded."""

import jax.numpy as jnp
import numpy as np
import pytest
from normal_arrays import normal

from dave_jax.effective import bcos, feature_maps, layers
from dave_jax.effective.decomposition import effective
from dave_jax.effective.precision import cast

PARAMS = {
    "scale": normal(1, 4),
    "bias": normal(2, 4),
    "running_mean": 30.0 + normal(3, 4),
    "running_variance": 1.0 + normal(4, 4) ** 2,
}
NORMS = {
    "batch norm": lambda params, x: feature_maps.batch_norm(params, x, eps=1e-5),
    "response norm": lambda params, x: feature_maps.response_norm(params, x, effective),
    "deviation norm": lambda params, x: feature_maps.deviation_norm(params, x, effective, eps=1e-5),
    "norm of a map": lambda params, x: bcos.map_norm(params, x, effective, eps=1e-5),
    "centred norm": lambda params, x: layers.centred_norm(params, x, effective, eps=1e-5),
}


@pytest.mark.parametrize("name", NORMS)
def test_rounded_once(name):
    x, params = cast((30.0 + normal(0, 5, 6, 4), PARAMS), jnp.bfloat16)  # the mean is large beside the deviation
    half, _ = NORMS[name](params, x)
    exact, _ = NORMS[name](cast(params, jnp.float32), cast(x, jnp.float32))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(half, np.float32), np.asarray(exact.astype(jnp.bfloat16), np.float32))
