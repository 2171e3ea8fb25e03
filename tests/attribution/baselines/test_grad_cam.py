import numpy as np
import pytest
from vit_twin import CASES, relation, twin

from dave_jax.attribution.baselines.grad_cam import AttentionGradCam, GradCam

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("block", [-1, 0])
def test_grad_cam(case, block):
    """`sum over channels of (mean over patches of df/dy) y`, channel by channel."""
    values = twin(case)
    features, derivatives = values["y"][block][-16:], values["dy"][:, block, -16:]
    expected = np.zeros((2, 16))
    for target in range(2):
        for channel in range(features.shape[1]):
            expected[target] += derivatives[target, :, channel].mean() * features[:, channel]
    np.testing.assert_allclose(relation(case, GradCam(block=block, upsampling="nearest")), expected, rtol=1e-9, atol=1e-14)
    assert (expected < 0).any() and (expected > 0).any()  # signed


@pytest.mark.parametrize("case", CASES)
def test_attention_grad_cam(case):
    values = twin(case)
    attention, derivative = (values["pool_A"], values["pool_dA"]) if case == "map" else (values["A"][-1], values["dA"][:, -1])
    average = {query: 1 / 16 for query in range(16)}
    both = {0: 1 / 2} | {2 + patch: 1 / 32 for patch in range(16)}  # token 1 is a register
    queries = {"class": {0: 1.0}, "average": average, "map": {0: 1.0}, "both": both}[case]
    expected = np.zeros((2, 16))
    for target in range(2):
        for head in range(2):
            for query, weight in queries.items():
                slope = derivative[target, head, query, -16:].mean()
                expected[target] += weight * slope * attention[head, query, -16:] / 2
    np.testing.assert_allclose(relation(case, AttentionGradCam(upsampling="nearest")), expected, rtol=1e-9, atol=1e-15)


def test_the_last_blocks_output_would_give_nothing():
    """A class token alone is read from it: the features of Grad-CAM are taken before, where every patch has a gradient."""
    assert (np.abs(twin("class")["dy"][:, -1, -16:]).max(-1) > 0).all()


def test_no_such_block():
    with pytest.raises(ValueError, match="block must lie in -2 to 1, for the model has 2 blocks; got -3"):
        relation("class", GradCam(block=-3))
