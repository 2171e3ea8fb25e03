"""Laws of attention in windows and of merging patches: what sees what, linear where all is frozen, values of every decomposition."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from normal_arrays import normal

from dave_jax.effective.decomposition import effective, presets
from dave_jax.effective.window_attention import Windows, merge_patches, window_attention

WIDTH, HEADS = 6, 2
CUTS = {
    "plain": Windows((4, 6), (2, 3)),
    "shifted": Windows((6, 8), (3, 4), (1, 2)),
    "filled up": Windows((5, 7), (3, 4)),
    "filled up, shifted": Windows((5, 7), (3, 4), (1, 2)),
    "shifted along one axis": Windows((3, 7), (3, 4), (0, 2)),
}


def attention_params(windows: Windows, version: int, seed: int = 0):
    places = windows.window[0] * windows.window[1]
    params = {name: {"kernel": normal(seed + i, WIDTH, WIDTH), "bias": normal(seed + 9 + i, WIDTH)} for i, name in enumerate(NAMES)}
    return params | ({"logit_scale": jnp.array([1.0, 9.0])} if version == 2 else {}), normal(seed + 20, HEADS, places, places)


NAMES = ("query", "key", "value", "proj")


def attend(windows: Windows, version: int, tokens, rules=effective):
    params, bias = attention_params(windows, version)
    return window_attention(params, tokens, rules, windows=windows, num_heads=HEADS, bias=bias)


def plain(windows: Windows, version: int, tokens):
    """By loops over windows and places, in NumPy: the map is filled up after it was rolled, and only places of one part see each other."""
    params, bias = jax.device_get(attention_params(windows, version))
    (rows, columns), (down, across), (high, wide) = windows.size, windows.window, windows.whole
    rolled = np.zeros((high, wide, WIDTH))
    part = np.zeros((high, wide), int)
    for i in range(high):
        for j in range(wide):
            if i < rows and j < columns:
                origin = (i + windows.shift[0]) % rows * columns + (j + windows.shift[1]) % columns
                rolled[i, j] = tokens[origin]
            below = windows.shift[0] and i >= high - windows.shift[0]  # came from the top
            beside = windows.shift[1] and j >= wide - windows.shift[1]
            part[i, j] = 2 * below + beside
    result = np.zeros((rows * columns, WIDTH))
    query, key, value = (rolled @ params[name]["kernel"] + params[name]["bias"] for name in NAMES[:3])
    for top in range(0, high, down):
        for left in range(0, wide, across):
            inside = [(top + i, left + j) for i in range(down) for j in range(across)]
            index = tuple(np.array(inside).T)
            mixed = []
            for head in range(HEADS):
                channels = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
                q, k, v = (side[index][:, channels] for side in (query, key, value))
                if version == 2:
                    q, k = (side / np.linalg.norm(side, axis=-1, keepdims=True) for side in (q, k))
                    scores = q @ k.T * min(np.exp(params["logit_scale"][head]), 100.0)
                else:
                    scores = q @ k.T / np.sqrt(WIDTH / HEADS)
                scores = scores + bias[head] - 100.0 * (part[index][:, None] != part[index][None])
                weights = np.exp(scores - scores.max(-1, keepdims=True))
                mixed.append(weights / weights.sum(-1, keepdims=True) @ v)
            for (i, j), row in zip(inside, np.concatenate(mixed, -1), strict=True):
                if i < rows and j < columns:
                    origin = (i + windows.shift[0]) % rows * columns + (j + windows.shift[1]) % columns
                    result[origin] = row @ params["proj"]["kernel"] + params["proj"]["bias"]
    return result


QUICK = (("filled up, shifted", 1), ("filled up, shifted", 2), ("shifted along one axis", 1))


@pytest.mark.parametrize(
    ("cut", "version"), [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in itertools.product(CUTS, (1, 2))]
)
def test_attention_equals_loops(cut, version, x64):
    windows = CUTS[cut]
    tokens = normal(1, windows.size[0] * windows.size[1], WIDTH)
    output = jax.jit(lambda tokens: attend(windows, version, tokens)[0])(tokens)
    np.testing.assert_allclose(output, plain(windows, version, np.asarray(tokens)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("version", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_output_is_operator_plus_offset(version, x64):
    """The offset is what zero biases of values and output take away; the derivative is the operator's adjoint."""
    windows = CUTS["filled up, shifted"]
    tokens, moved, cotangent = (normal(seed, windows.size[0] * windows.size[1], WIDTH) for seed in (1, 2, 3))

    def run(tokens, moved, cotangent):
        params, bias = attention_params(windows, version)
        without = {name: {"kernel": part["kernel"]} if name in ("value", "proj") else part for name, part in params.items()}
        linear = window_attention(without, tokens, effective, windows=windows, num_heads=HEADS, bias=bias)[0]
        _, pull, op = jax.vjp(lambda x: attend(windows, version, x), tokens, has_aux=True)
        back = op.transpose()(cotangent)
        return op(tokens), linear, back, pull(cotangent)[0], jnp.vdot(op(moved), cotangent), jnp.vdot(moved, back)

    applied, linear, back, pulled, left, right = jax.jit(run)(tokens, moved, cotangent)
    np.testing.assert_allclose(applied, linear, rtol=0, atol=1e-12)
    np.testing.assert_allclose(back, pulled, rtol=0, atol=1e-12)
    np.testing.assert_allclose(left, right, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_values_do_not_depend_on_the_decomposition(version, x64):
    windows = CUTS["filled up, shifted"]
    tokens = normal(1, windows.size[0] * windows.size[1], WIDTH)
    outputs = [attend(windows, version, tokens, rules)[0] for rules in presets.values()]
    for output in outputs[1:]:
        np.testing.assert_allclose(output, outputs[0], rtol=0, atol=1e-13)


def rms(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale


@pytest.mark.parametrize("name", ["norm", "post_norm"])
@pytest.mark.parametrize("size", [(4, 6), (3, 5)])
def test_merging_puts_two_by_two_patches_side_by_side(size, name, x64):
    (rows, columns), tokens = size, normal(0, size[0] * size[1], 3)
    params = {"reduction": {"kernel": normal(1, 12, 6)}, name: {"scale": normal(2, 12 if name == "norm" else 6)}}
    output, op = merge_patches(params, tokens, effective, size=size, eps=1e-5)
    there = {divmod(place, columns): row for place, row in enumerate(np.asarray(tokens))}
    expected = []
    for i in range(0, rows, 2):
        for j in range(0, columns, 2):
            four = [there.get(place, np.zeros(3)) for place in ((i, j), (i + 1, j), (i, j + 1), (i + 1, j + 1))]
            expected.append(np.concatenate(four))
    y, kernel, scale = np.stack(expected), np.asarray(params["reduction"]["kernel"]), np.asarray(params[name]["scale"])
    y = rms(y, scale) @ kernel if name == "norm" else rms(y @ kernel, scale)  # no bias, so `norm` is RMSNorm
    np.testing.assert_allclose(output, y, rtol=0, atol=1e-12)
    np.testing.assert_allclose(output, op(tokens), rtol=0, atol=1e-12)
