import jax
import numpy as np
import pytest
from vit_twin import CASES, patches_of_product, relation, twin

from dave_jax.attribution.baselines.rollout import GradientRollout, Rollout, discard_lowest

pytestmark = pytest.mark.slow

FUSE = {"mean": np.mean, "max": np.max, "min": np.min}


def discarded(fused, share):
    """By hand: sort all entries, drop the lowest but the first."""
    order = np.argsort(fused.ravel())[: int(np.floor(share * fused.size))]
    flat = fused.ravel().copy()
    flat[order[order != 0]] = 0.0
    return flat.reshape(fused.shape)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("fusion", "share"), [("mean", 0.0), ("max", 0.4), ("min", 0.9)])
def test_rollout(case, fusion, share):
    values = twin(case)
    matrices = [discarded(FUSE[fusion](attention, axis=0), share) for attention in values["A"]]
    pool = None if values["pool_A"] is None else discarded(FUSE[fusion](values["pool_A"], axis=0), share)
    expected = patches_of_product(case, matrices, pool, normalise=True)
    maps = relation(case, Rollout(head_fusion=fusion, discard=share, upsampling="nearest"))
    np.testing.assert_allclose(maps, np.stack([expected] * 2), rtol=1e-10)  # the same for both targets


@pytest.mark.parametrize("case", CASES)
def test_gradient_rollout(case):
    values, share = twin(case), 0.3

    def fuse(attention, derivative):
        return discarded(np.maximum(sum(a * d for a, d in zip(attention, derivative, strict=True)) / 2, 0.0), share)

    for target, scores in enumerate(relation(case, GradientRollout(discard=share, upsampling="nearest"))):
        matrices = [fuse(attention, derivative) for attention, derivative in zip(values["A"], values["dA"][target], strict=True)]
        pool = None if values["pool_A"] is None else fuse(values["pool_A"], values["pool_dA"][target])
        expected = patches_of_product(case, matrices, pool, normalise=True)
        np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-14)


def test_first_block():
    """From the last block on, a class token's rollout is that block's matrix."""
    attention = twin("class")["A"][-1].mean(0)[0, -16:]
    np.testing.assert_allclose(relation("class", Rollout(first_block=-1, upsampling="nearest"))[0], attention / 2, rtol=1e-10)


def test_a_row_of_rollout_sums_to_one():
    """With all it leaves out: the class token's own column, the registers', and what stays."""
    matrices = [attention.mean(0) for attention in twin("class")["A"]]
    product = np.eye(18)
    for fused in matrices:
        product = (np.eye(18) + fused) / 2 @ product
    np.testing.assert_allclose(product.sum(1), 1.0)
    assert relation("class", Rollout(upsampling="nearest"))[0].sum() == pytest.approx(1.0 - product[0, :2].sum())


def test_discard():
    fused = np.random.default_rng(0).permutation(24.0 + np.arange(24)).astype(np.float32).reshape(4, 6)
    program = jax.jit(discard_lowest)
    for share, zeros in ((0.0, 0), (0.01, 0), (0.5, 12), (0.99, 23)):
        result = np.asarray(program(fused, share))
        np.testing.assert_array_equal(result, discarded(fused, share))
        assert zeros - 1 <= (result == 0).sum() <= zeros


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rollout(discard=1.0), r"discard is the share .* in \[0, 1\); got 1.0"),
        (lambda: GradientRollout(discard=-0.1), r"discard is the share .*got -0.1"),
        (lambda: relation("class", Rollout(first_block=2)), "first_block must lie in -2 to 1, for the model has 2 blocks; got 2"),
    ],
)
def test_wrong_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
