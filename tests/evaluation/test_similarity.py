import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.evaluation.similarity import checked_maps, pearson, ranks, spearman, top_overlap


def draw(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_pearson_is_that_of_numpy():
    maps, others = draw(2, 3, 5, 7), 1e-25 * draw(2, 3, 5, 7) ** 3  # squares of such small numbers are 0 in float32
    expected = [[np.corrcoef(maps[i, j].ravel(), others[i, j].ravel())[0, 1] for j in range(3)] for i in range(2)]
    assert np.allclose(pearson(jnp.asarray(maps), jnp.asarray(others)), expected, atol=1e-6)  # a few roundings of float32


def test_pearson_over_some_pixels():
    maps, others = draw(2, 5, 7)
    inside = draw(5, 7) > 0
    expected = np.corrcoef(maps[inside], others[inside])[0, 1]
    far = np.where(inside, maps, 1e6)  # what does not count has no say
    assert float(pearson(jnp.asarray(far), jnp.asarray(others), inside=jnp.asarray(inside))) == pytest.approx(expected, abs=1e-6)


def test_ranks_share_ties():
    maps = np.round(3 * draw(2, 6, 6))
    expected = [[(one < value).sum() + ((one == value).sum() - 1) / 2 for value in one.ravel()] for one in maps]
    assert np.array_equal(ranks(jnp.asarray(maps)).reshape(2, 36), expected)
    one, two = (np.asarray(row) for row in expected)
    assert float(spearman(*jnp.asarray(maps))) == pytest.approx(np.corrcoef(one, two)[0, 1], abs=1e-6)


@pytest.mark.parametrize("compare", [pearson, spearman])
def test_constant_maps_are_defined(compare):
    flat, bumpy = jnp.full((4, 4), 0.1), jnp.asarray(draw(4, 4))
    zeros = jnp.zeros((4, 4))
    maps, others = jnp.stack([flat, flat, zeros, bumpy, zeros]), jnp.stack([flat, zeros, bumpy, flat, zeros])
    assert compare(maps, others).tolist() == [1.0, 1.0, 0.0, 0.0, 1.0]


def test_top_overlap():
    maps, others = draw(2, 10, 10)
    best = [set(np.argsort(-one.ravel())[:10]) for one in (maps, others)]
    assert float(top_overlap(*jnp.asarray(np.stack([maps, others])))) == pytest.approx(len(best[0] & best[1]) / 10)
    assert top_overlap(jnp.asarray(maps), jnp.asarray(others), share=1.0) == 1.0
    assert top_overlap(jnp.zeros((3, 4, 4)), jnp.zeros((3, 4, 4))).tolist() == [1.0] * 3
    with pytest.raises(ValueError, match=r"above 0 and at most 1; got 0"):
        top_overlap(jnp.zeros((2, 2)), jnp.zeros((2, 2)), share=0.0)


def test_they_can_be_compiled():
    one, two = jnp.asarray(draw(2, 3, 4, 4))
    for compare in (pearson, spearman, top_overlap):
        assert np.allclose(jax.jit(compare)(one, two), compare(one, two), atol=1e-6)


def test_maps_are_checked():
    assert checked_maps(np.zeros((1, 2, 2)), (1, 2, 2)).shape == (1, 2, 2)
    with pytest.raises(ValueError, match=r"shape \(1, 2, 2\); got \(1, 2, 2, 3\)"):
        checked_maps(np.zeros((1, 2, 2, 3)), (1, 2, 2))
    with pytest.raises(ValueError, match="finite"):
        checked_maps(np.full((1, 2, 2), np.nan), (1, 2, 2))
