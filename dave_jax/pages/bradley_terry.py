"""Strengths from comparisons: the model of Bradley and Terry (1952), `P(i is preferred to j) = s_i / (s_i + s_j)`, with `s = exp(theta)`.

Maximum likelihood, by Newton's method with the step `log(1 + d) / d`, d the largest change of a difference, which converges from anywhere
(Sun and Tran-Dinh 2019, arXiv 1703.04599: the logistic loss is generalised self-concordant). The maximum exists where no group of methods
was always preferred to the others (Ford 1957). Where it does not, half a win each way is added to every pair.
"""

import numpy as np
from jaxtyping import Bool, Float

STEPS = 200
PRECISION = 1e-10


def has_maximum(wins: Float[np.ndarray, "*batch m m"]) -> Bool[np.ndarray, "*batch"]:
    """Whether the likelihood has a maximum: whether every method beat every other, at least through others that it beat.

    Example:
        >>> has_maximum(np.array([[0.0, 2.0], [1.0, 0.0]])), has_maximum(np.array([[0.0, 2.0], [0.0, 0.0]]))
        (array(True), array(False))
    """
    count = wins.shape[-1]
    reach = (wins > 0) | np.eye(count, dtype=bool)
    for _ in range(count.bit_length()):
        reach = np.matmul(reach.astype(float), reach.astype(float)) > 0
    return np.asarray(reach.all(axis=(-2, -1)))


def log_strengths(wins: Float[np.ndarray, "*batch m m"]) -> Float[np.ndarray, "*batch m"]:
    """The strengths of maximal likelihood, as logarithms of mean zero; regularised (see the module) where there is no maximum.

    Args:
        wins: `wins[i, j]`, how often i was preferred to j.

    Example:
        >>> log_strengths(np.array([[0.0, 3.0], [1.0, 0.0]])).round(3).tolist()  # half of log 3
        [0.549, -0.549]
    """
    count = wins.shape[-1]
    virtual = 0.5 * (1 - np.eye(count)) * ~has_maximum(wins)[..., None, None]
    wins = wins * (1 - np.eye(count)) + virtual
    games = wins + np.swapaxes(wins, -1, -2)
    theta = np.zeros(wins.shape[:-1])
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(theta[..., None, :] - theta[..., :, None]))
        slope = (wins - games * chance).sum(axis=-1)
        bend = games * chance * (1 - chance)
        laplacian = bend.sum(axis=-1)[..., None] * np.eye(count) - bend
        step = np.linalg.solve(laplacian + 1 / count, slope[..., None])[..., 0]  # the constant fixes the mean, which is free
        largest = np.ptp(step, axis=-1)
        if largest.max(initial=0.0) < PRECISION:
            break
        theta = theta + step * (np.log1p(largest) / np.maximum(largest, PRECISION))[..., None]
    return theta - theta.mean(axis=-1, keepdims=True)


def resampled_strengths(wins: Float[np.ndarray, "units m m"], seed: int, resamples: int = 2000) -> tuple[np.ndarray, float]:
    """Strengths from units (participants, or single comparisons) drawn with replacement, and the part of draws that was regularised.

    Args:
        wins: of each unit.
        seed: of the draws.
        resamples: how many.

    Returns:
        Float[resamples m], and a part from 0 to 1.
    """
    units = len(wins)
    times = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples)
    drawn = np.tensordot(times.astype(float), wins, axes=1)
    return log_strengths(drawn), float(1 - has_maximum(drawn).mean())
