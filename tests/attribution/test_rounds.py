"""`explain_rounds`: its last map is that of `explain`, the others are those of their samples, and all come from one program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.testing import count_compilations

MODEL = dave.testing.tiny_model()
TARGETS = [[0, 3], [2, 1]]


def in_double(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)


def settings(**options) -> dave.DaveConfig:
    return dave.DaveConfig(**({"num_samples": 11, "noise_alpha": 0.5, "chunk_size": 2} | options))


def images() -> jax.Array:
    return jax.random.normal(jax.random.key(0), (2, 16, 16, 3))


CASES = [
    {"aggregation": "mad_mean", "mad_pilot": 7},  # some samples are held, others only added up
    {"aggregation": "biweight", "mad_threshold": float("inf")},
    *({"aggregation": name} for name in ("mean", "median")),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_last_map_is_that_of_explain(case, x64):
    model, config = dataclasses.replace(MODEL, params=in_double(MODEL.params)), settings(**case)
    options = {"key": jax.random.key(1), "config": config, "raw": True}
    expected = dave.explain(model, images(), TARGETS, **options)
    rounds = list(dave.explain_rounds(model, images(), TARGETS, round_size=4, **options))
    assert [found.num_samples for found in rounds] == [4, 8, 11]
    assert rounds[-1].maps.shape == (2, 2, 16, 16, 3)
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(rounds[-1].maps, expected, rtol=0, atol=1e-12 * scale)
    assert 2.0 * scale > float(jnp.abs(rounds[0].maps - expected).max()) > 1e-3 * scale  # the first one is another


def test_every_map_is_that_of_its_samples_and_one_program_makes_all():
    config, key = settings(num_samples=8, chunk_size=None), jax.random.key(1)
    options = {"key": key, "config": config, "raw": True}
    maps, samples = dave.explain(MODEL, images(), [0, 3], return_samples=True, **options)
    with count_compilations() as compiled:
        rounds = list(dave.explain_rounds(MODEL, images(), [0, 3], round_size=3, **options))
    assert sum("_round" in name for name in compiled) == 1
    order = [0, 5, 2, 7, 4, 1, 6, 3]  # by the fractional parts of the golden ratio's multiples
    bound = {"rtol": 0, "atol": 1e-5 * float(jnp.abs(maps).max())}  # float32 sums in another order
    for found in rounds:
        expected = mad_mean(np.asarray(samples)[:, order[: found.num_samples]].swapaxes(0, 1))
        np.testing.assert_allclose(found.maps, expected, **bound)
    np.testing.assert_allclose(rounds[-1].maps, maps, **bound)
    with count_compilations() as compiled:
        more = list(dave.explain_rounds(MODEL, images(), [1, 2], round_size=3, **options))
    assert not compiled and [found.num_samples for found in more] == [3, 6, 8]


def mad_mean(samples: np.ndarray) -> np.ndarray:
    """By sorting, over the first axis."""
    lower = lambda values: np.sort(values, axis=0)[(len(values) - 1) // 2]
    away = np.abs(samples - lower(samples))
    near = away <= 2.5 * (1.4826 * lower(away) + 1e-8)
    return np.sum(samples, axis=0, where=near) / np.sum(near, axis=0)


def test_bad_settings_are_told_at_the_call():
    with pytest.raises(ValueError, match="round_size must be at least 1"):
        dave.explain_rounds(MODEL, images(), [0, 1], key=jax.random.key(0), round_size=0)
    with pytest.raises(ValueError, match="Class ids must lie in"):
        dave.explain_rounds(MODEL, images(), [0, 9], key=jax.random.key(0))
