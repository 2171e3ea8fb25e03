"""Rotary position embedding: a rotation by where a token is, so that scores know how far apart two tokens are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from place_twins import turned

from dave_jax.models.rotary import Rotary, coordinates, init_frequencies, rotation

KINDS = {
    "eva02": Rotary(reference=(4, 4)),
    "xy": Rotary(temperature=100.0, order="xy", offset=1.0),
    "dinov3": Rotary(temperature=100.0, coordinates="centred", pairs="halves"),
    "mixed": Rotary("learned", temperature=10.0, order="xy"),
}
GRID, OPTIONS = (3, 5), {"num_prefix": 2, "num_heads": 2, "head_width": 8}


def learned(rotary, seed=1):
    return 0.5 * jax.random.normal(jax.random.key(seed), (2, 2, 4)) if rotary.frequencies == "learned" else None


def operator(rotary, grid=GRID):
    return rotation(rotary, grid, frequencies=learned(rotary), dtype=jnp.zeros(()).dtype, **OPTIONS)


def tokens(count=17, seed=0):
    return jax.random.normal(jax.random.key(seed), (2, count, 8))


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_rotation_written_out(kind, x64):
    rotary, heads = KINDS[kind], tokens()
    result, frequencies = operator(rotary)(heads), learned(rotary)
    for head in range(2):
        for token in range(17):
            own = None if frequencies is None else np.asarray(frequencies[:, head])
            expected = turned(rotary, GRID, 2, np.asarray(heads[head, token]), token, own)
            np.testing.assert_allclose(result[head, token], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_are_kept_and_tokens_in_front_are_not_turned(kind):
    heads, turn = tokens(), operator(KINDS[kind])
    result = turn(heads)
    np.testing.assert_allclose(jnp.linalg.norm(result, axis=-1), jnp.linalg.norm(heads, axis=-1), rtol=1e-6)
    np.testing.assert_array_equal(result[:, :2], heads[:, :2])
    assert float(jnp.abs(result[:, 3:] - heads[:, 3:]).max()) > 0.1
    np.testing.assert_allclose(turn.transpose()(result), heads, rtol=0, atol=2e-6)  # orthogonal: the transpose is the inverse


@pytest.mark.parametrize("kind", KINDS)
def test_scores_depend_on_the_difference_of_places_alone(kind, x64):
    """The same query and key everywhere: the score of two patches is that of any two as far apart, the same way."""
    query, key = (jnp.broadcast_to(part[:, :1], part.shape) for part in (tokens(seed=3), tokens(seed=4)))
    turn = operator(KINDS[kind])
    scores = np.asarray(turn(query) @ jnp.swapaxes(turn(key), -1, -2))[:, 2:, 2:].reshape(2, *GRID, *GRID)
    for down, across in ((0, 0), (1, 0), (0, 2), (2, -3), (-1, 4)):
        same = [
            scores[:, y, x, y + down, x + across]
            for y in range(GRID[0])
            for x in range(GRID[1])
            if 0 <= y + down < GRID[0] and 0 <= x + across < GRID[1]
        ]
        np.testing.assert_allclose(same, np.broadcast_to(same[0], np.shape(same)), rtol=0, atol=1e-12)
    assert np.abs(scores[:, 0, 0, 0, 1] - scores[:, 0, 0, 1, 0]).max() > 1e-3  # the axes differ


def test_a_reference_keeps_the_span_of_the_angles():
    """At twice the size, every second patch has the angles of the original."""
    rotary = Rotary(reference=(4, 6))
    own, large = coordinates(rotary, (4, 6)).reshape(4, 6, 2), coordinates(rotary, (8, 12)).reshape(8, 12, 2)
    np.testing.assert_array_equal(large[::2, ::2], own)
    np.testing.assert_array_equal(coordinates(rotary, (4, 6)), coordinates(Rotary(), (4, 6)))


def test_centred_coordinates_are_odd_about_the_centre():
    places = coordinates(Rotary(coordinates="centred"), GRID)
    np.testing.assert_allclose(places, -places[::-1], atol=1e-12)
    assert np.abs(places).max() < 2 * np.pi


def test_learned_frequencies_start_as_the_axial_ones_turned(key):
    first, second = init_frequencies(key, Rotary("learned", temperature=10.0), 3, 8)
    size = 10.0 ** -np.array([0, 0.5, 0, 0.5])
    np.testing.assert_allclose(first**2 + second**2, np.broadcast_to(size**2, (3, 4)), rtol=1e-5)
    np.testing.assert_allclose(first[:, :2] * first[:, 2:] + second[:, :2] * second[:, 2:], 0, atol=1e-6)  # the two axes stay square
    assert len(np.unique(np.round(first[:, 0], 4))) == 3


def test_one_error_lists_all_that_is_wrong():
    with pytest.raises(ValueError) as error:
        Rotary("mixed", temperature=0.0, coordinates="pixels", offset=float("inf"), reference=(0, 4), order="ij", pairs="all")
    for part in ("frequencies is one of", "temperature must", "coordinates is one", "offset must", "reference is", "order is", "pairs is"):
        assert part in str(error.value)
