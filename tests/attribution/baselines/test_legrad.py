from types import SimpleNamespace

import numpy as np
import pytest
from vit_twin import CASES, relation, twin

from dave_jax.attribution.baselines.legrad import LeGrad

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("pooling", "first_block"), [("average", 0), ("model", -1)])
def test_legrad(case, pooling, first_block):
    """`sum over blocks of 1 / (h n) sum over heads and queries of the positive gradient`, entry by entry."""
    values = twin(case)
    name = "own_pool_dA" if case == "map" else {"average": "average_dA", "model": "own_dA"}[pooling]
    expected = np.zeros((2, 16))
    for derivative in values[name][first_block:]:
        targets, heads, queries, _ = derivative.shape
        for target in range(targets):
            for head in range(heads):
                for query in range(queries):
                    expected[target] += np.maximum(derivative[target, head, query, -16:], 0.0) / (heads * queries)
    maps = relation(case, LeGrad(pooling=pooling, first_block=first_block, upsampling="nearest"))
    np.testing.assert_allclose(maps, expected, rtol=1e-10)


def test_a_class_token_alone_leaves_other_queries_without_gradient():
    """The reason for the average: with the model's own pooling one row of each matrix is all there is."""
    assert np.abs(twin("class")["own_dA"][:, :, :, 1:]).max() == 0.0
    assert np.abs(twin("class")["average_dA"][:, :, :, 1:]).min(axis=(0, 1, 2)).max() > 0.0


def test_unknown_pooling():
    with pytest.raises(ValueError, match="pooling must be 'average' or 'model'; got 'mean'"):
        LeGrad.__post_init__(SimpleNamespace(**vars(LeGrad()) | {"pooling": "mean"}))
