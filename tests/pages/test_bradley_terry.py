"""Strengths against a slow version that climbs the likelihood another way, by hand for two methods, and their intervals' coverage."""

import itertools

import numpy as np
import pytest
from scipy import optimize

from dave_jax.pages.bradley_terry import has_maximum, log_strengths, resampled_strengths


def slow(wins: np.ndarray) -> np.ndarray:
    """Hunter's (2004) minorise-maximise steps, one method after the other."""
    strengths = np.ones(len(wins))
    for _ in range(20000):
        before = strengths.copy()
        for i in range(len(wins)):
            games = sum((wins[i, j] + wins[j, i]) / (strengths[i] + strengths[j]) for j in range(len(wins)) if j != i)
            strengths[i] = sum(wins[i, j] for j in range(len(wins)) if j != i) / games
        strengths /= np.exp(np.mean(np.log(strengths)))
        if np.abs(np.log(strengths / before)).max() < 1e-13:
            break
    return np.log(strengths)


def likelihood(theta: np.ndarray, wins: np.ndarray) -> float:
    return -sum(wins[i, j] * np.log1p(np.exp(theta[j] - theta[i])) for i, j in itertools.permutations(range(len(wins)), 2))


@pytest.mark.parametrize("seed", range(5))
def test_they_are_those_of_the_slow_version(seed):
    draw = np.random.default_rng(seed)
    wins = draw.integers(1, 30, (4, 4)).astype(float)
    theta = log_strengths(wins)
    np.fill_diagonal(wins, 0)  # a method against itself counts nothing
    np.testing.assert_allclose(theta, slow(wins), atol=1e-9)
    assert abs(theta.mean()) < 1e-12
    found = optimize.minimize(lambda free: -likelihood(np.append(free, -free.sum()), wins), np.zeros(3), tol=1e-10)
    np.testing.assert_allclose(theta[:3], found.x, atol=1e-4)  # by finite differences


def test_two_methods_by_hand_and_far_apart():
    np.testing.assert_allclose(np.diff(log_strengths(np.array([[0.0, 1.0], [9999.0, 0.0]]))), [np.log(9999)], rtol=1e-9)


def test_a_chain_needs_no_comparison_of_its_ends():
    wins = np.array([[0, 3, 0], [1, 0, 3], [0, 1, 0]], float)
    np.testing.assert_allclose(log_strengths(wins), np.log(3) * np.array([1, 0, -1]), atol=1e-9)


def test_where_there_is_no_maximum_half_a_win_each_way_is_added():
    always = np.array([[0, 5, 5], [0, 0, 2], [0, 2, 0]], float)
    groups = np.array([[0, 2, 4, 4], [2, 0, 4, 4], [0, 0, 0, 1], [0, 0, 1, 0]], float)
    for wins in (always, groups):
        assert not has_maximum(wins)
        np.testing.assert_allclose(log_strengths(wins), slow(wins + 0.5 * (1 - np.eye(len(wins)))), atol=1e-9)
    assert has_maximum(groups + np.eye(4)[[3, 1, 2, 0]])  # one win of the last over the first
    assert has_maximum(np.stack([always, always + 1])).tolist() == [False, True]


def test_batches_are_one_by_one():
    wins = np.random.default_rng(0).integers(0, 3, (200, 3, 3)).astype(float)
    np.testing.assert_allclose(log_strengths(wins), [log_strengths(one) for one in wins], atol=1e-9)


def simulate(theta: np.ndarray, units: int, games: int, draw: np.random.Generator) -> np.ndarray:
    wins = np.zeros((units, len(theta), len(theta)))
    for i, j in itertools.combinations(range(len(theta)), 2):
        wins[:, i, j] = draw.binomial(games, 1 / (1 + np.exp(theta[j] - theta[i])), units)
        wins[:, j, i] = games - wins[:, i, j]
    return wins


def test_known_strengths_are_found_and_covered():
    theta = np.array([0.8, 0.0, -0.8])
    draw = np.random.default_rng(0)
    inside, errors = [], []
    for trial in range(80):
        wins = simulate(theta, 30, 6, draw)
        errors.append(log_strengths(wins.sum(0)) - theta)
        draws, regularised = resampled_strengths(wins, trial, 300)
        low, high = np.percentile(draws, [2.5, 97.5], axis=0)
        inside.append((low <= theta) & (theta <= high))
        assert regularised == 0
    assert np.abs(np.mean(errors, axis=0)).max() < 0.04  # four standard errors; the estimator's own bias is 0.005
    assert 0.88 < np.mean(inside) < 0.99  # 240 intervals, three of each data set tied together
