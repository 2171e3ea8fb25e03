"""Methods by name."""

import jax
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.attribution.methods import methods, select
from dave_jax.effective.decomposition import presets, resolve


@pytest.mark.slow
def test_dave_fast_is_explain_with_four_samples_around_res_lrp():
    model = dave.testing.tiny_model()
    images, key = jax.random.normal(jax.random.key(0), (2, 16, 16, 3)), jax.random.key(1)
    config = dave.DaveConfig(num_samples=4, noise_alpha=0.0, aggregation="median")
    expected = dave.explain(model, images, [2, 1], key=key, config=config, decomposition="res_lrp")
    np.testing.assert_array_equal(methods["dave_fast"](model, images, [2, 1], key=key), expected)


def test_a_name_may_be_given_to_another_decomposition(monkeypatch):
    model, images = dave.testing.tiny_model(), jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
    maps = {}
    for name in ("gradient", "effective"):
        monkeypatch.setitem(presets, "mine", resolve(name))
        maps[name] = InputTimesGradient(decomposition="mine")(model, images, [2], raw=True)
    assert np.array_equal(maps["effective"], InputTimesGradient(decomposition="effective")(model, images, [2], raw=True))
    assert not np.allclose(maps["gradient"], maps["effective"])


def test_a_number_of_samples_leaves_dave_fast_what_it_is():
    chosen = select(["dave", "dave_fast", "smoothgrad", "legrad"], num_samples=16)
    assert (chosen["dave"].num_samples, chosen["smoothgrad"].num_samples) == (16, 16)
    assert chosen["dave_fast"] is methods["dave_fast"] and chosen["legrad"] is methods["legrad"]
