"""Rotary position embedding and relative position bias written out: one token, one pair of channels, one pair of tokens at a time."""

import cmath
import math

import numpy as np


def turned(rotary, grid, num_prefix, vector, token, frequencies=None):
    """A head's query or key, its pairs of channels as complex numbers; `frequencies` (2, pairs) are the head's learned ones."""
    if token < num_prefix:
        return vector
    half = len(vector) // 2
    place = []
    for number, size, reference in zip(divmod(token - num_prefix, grid[1]), grid, rotary.reference or grid, strict=True):
        if rotary.coordinates == "index":
            place.append((number + rotary.offset) / size * reference)
        else:
            place.append(2 * math.pi * (2 * (number + 0.5 + rotary.offset) / size - 1))
    first, second = place if rotary.order == "yx" else place[::-1]
    result = np.array(vector)
    for pair in range(half):
        if frequencies is not None:
            angle = first * frequencies[0][pair] + second * frequencies[1][pair]
        else:
            axis, k = divmod(pair, half // 2)
            angle = (first, second)[axis] * rotary.temperature ** (-k / (half // 2))
        a, b = (2 * pair, 2 * pair + 1) if rotary.pairs == "adjacent" else (pair, half + pair)
        value = complex(vector[a], vector[b]) * cmath.exp(1j * angle)
        result[a], result[b] = value.real, value.imag
    return result


def entry(grid, query, key):
    """The place in the table of two tokens, the class token being number 0."""
    rows, columns = grid
    last = (2 * rows - 1) * (2 * columns - 1)
    if query == 0 or key == 0:
        return last + (2 if query == key else 0 if query == 0 else 1)
    down, across = (q - k for q, k in zip(divmod(query - 1, columns), divmod(key - 1, columns), strict=True))
    return (down + rows - 1) * (2 * columns - 1) + across + columns - 1
