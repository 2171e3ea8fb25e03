"""Pictures: what a pixel of an overlay is made of, where the tiles of a panel lie, what a curve shows, and the errors."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import colormaps

from dave_jax import plot


@pytest.fixture
def image():
    return np.random.default_rng(0).uniform(size=(30, 40, 3))


@pytest.fixture
def heat():
    heat = np.random.default_rng(1).uniform(size=(30, 40)) ** 3
    heat[:5] = 0.0
    heat[10, 20] = 1.0
    return heat


def test_no_heat_shows_the_photograph(image):
    drawn = np.asarray(plot.overlay(image, np.zeros((30, 40)), fade=0.0))
    np.testing.assert_array_equal(drawn, np.round(255 * image))
    faded = np.asarray(plot.overlay(image, np.zeros((30, 40)), fade=1.0))
    assert not faded.any()


def test_full_heat_shows_the_brightest_colour(image):
    for colormap in ("inferno", "jet"):
        drawn = np.asarray(plot.overlay(image, np.ones((30, 40)), colormap=colormap))
        np.testing.assert_array_equal(drawn[3, 4], np.round(255 * np.array(colormaps[colormap](1.0)[:3])))
    half = np.asarray(plot.overlay(image, np.ones((30, 40)), alpha=0.5, fade=0.0)).astype(float)
    np.testing.assert_allclose(half, 255 * (image + np.array(colormaps["inferno"](1.0)[:3])) / 2, rtol=0, atol=0.5001)


def test_more_heat_hides_more_of_the_photograph(heat):
    """Between a black and a white photograph the overlay differs by exactly what it lets through."""
    black, white = (np.asarray(plot.overlay(np.full((30, 40, 3), grey), heat, fade=0.0)).astype(float) for grey in (0.0, 1.0))
    np.testing.assert_allclose((white - black)[..., 0], 255 * (1 - np.sqrt(heat)), rtol=0, atol=1.0001)  # two roundings


def test_takes_jax_arrays(image, heat):
    expected = plot.overlay(image.astype(np.float32), heat.astype(np.float32))
    assert plot.overlay(jnp.asarray(image, jnp.float32), jnp.asarray(heat, jnp.float32)) == expected


def tiles(picture, width: int, height: int, columns: int, top: int) -> list[np.ndarray]:
    pixels = np.asarray(picture)
    lefts = [8 + column * (width + 8) for column in range(columns)]
    return [pixels[top : top + height, left : left + width] for left in lefts]


def test_a_panel_holds_photograph_map_and_overlay_pixel_by_pixel(image, heat):
    picture = plot.panel(image, heat, ["tench"])
    assert picture.size == (3 * (6 * 40 + 8) + 8, 6 * 30 + 38)  # enlarged six times: 240 pixels wide
    photograph, drawn_map, drawn_overlay = (tile[::6, ::6] for tile in tiles(picture, 240, 180, 3, 30))
    np.testing.assert_array_equal(photograph, np.round(255 * image))
    np.testing.assert_array_equal(drawn_map, np.round(255 * colormaps["inferno"](heat)[..., :3]))
    np.testing.assert_array_equal(drawn_overlay, np.asarray(plot.overlay(image, heat)))


def test_a_panel_of_several_classes_has_a_column_each(image, heat):
    heats = np.stack([heat, np.zeros_like(heat), heat[::-1]])
    picture = plot.panel(jnp.asarray(image, jnp.float32), heats, ["tench", "church", "chain saw"])
    upper, lower = (tiles(picture, 240, 180, 4, top) for top in (30, 30 + 180 + 30))
    for heat, drawn_overlay, drawn_map in zip(heats, upper[1:], lower[1:], strict=True):
        np.testing.assert_array_equal(drawn_overlay[::6, ::6], np.asarray(plot.overlay(image.astype(np.float32), heat)))
        np.testing.assert_array_equal(drawn_map[::6, ::6], np.round(255 * colormaps["inferno"](heat)[..., :3]))


def test_titles_are_drawn_and_long_ones_do_not_reach_the_next_column(image, heat):
    heats = np.stack([heat, heat])
    plain, titled, long = (np.asarray(plot.panel(image, heats, titles)) for titles in (None, ["A", "B"], ["A" * 300, "B"]))
    assert plain.shape == titled.shape == long.shape
    assert (plain[:30] != titled[:30]).any() and (plain[30:] == titled[30:]).all()
    column = slice(8 + 2 * 248, None)
    assert (long[:, column] == titled[:, column]).all()


def test_large_images_keep_their_size(heat):
    picture = plot.panel(np.ones((300, 400, 3)), np.zeros((300, 400)))
    assert picture.size == (3 * 408 + 8, 338)


def test_a_curve_shows_its_parts():
    levels, change = np.linspace(0, 0.9, 10), np.linspace(0, 0.9, 10) ** 2
    plain = plot.curve(levels, change, 0.4)
    for other in (
        plot.curve(levels, change, 0.5),
        plot.curve(levels, change, 0.4, tolerance=0.1),
        plot.curve(levels, change, 0.4, title="A"),
    ):
        assert other.size == plain.size and other != plain
    assert plot.curve(jnp.asarray(levels), jnp.asarray(change), 0.4).mode == "RGB"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.overlay(np.ones((4, 5, 4)), np.zeros((4, 5))), r"\(h, w, 3\); got \(4, 5, 4\)"),
        (lambda: plot.overlay(np.ones((2, 4, 5, 3)), np.zeros((4, 5))), "one image of a batch"),
        (lambda: plot.overlay(np.full((4, 5, 3), 1.5), np.zeros((4, 5))), r"got \[1.5, 1.5\].*denormalise"),
        (lambda: plot.overlay(np.full((4, 5, 3), np.nan), np.zeros((4, 5))), "nan"),
        (lambda: plot.overlay(np.ones((4, 5, 3)), np.zeros((5, 4))), r"height and width \(4, 5\); got \(5, 4\)"),
        (lambda: plot.overlay(np.ones((4, 5, 3)), np.full((4, 5), 2.0)), "divide it by its maximum"),
        (lambda: plot.overlay(np.ones((4, 5, 3)), np.full((4, 5), -0.1)), "Cut it at 0"),
        (lambda: plot.overlay(np.ones((4, 5, 3)), np.zeros((4, 5)), alpha=1.2), "alpha must lie"),
        (lambda: plot.overlay(np.ones((4, 5, 3)), np.zeros((4, 5)), fade=-1.0), "fade must lie"),
        (lambda: plot.overlay(np.ones((4, 5, 3)), np.zeros((4, 5)), colormap="infernal"), "Near names: .*inferno"),
        (lambda: plot.panel(np.ones((4, 5, 3)), np.zeros((0, 4, 5))), "k >= 1"),
        (lambda: plot.panel(np.ones((4, 5, 3)), np.zeros((2, 4, 5)), ["a"]), "1 titles and 2 heat maps"),
        (lambda: plot.curve(np.zeros(3), np.zeros(4), 0.1), r"got \(3,\) and \(4,\)"),
    ],
)
def test_unfit_arguments_say_what_must_hold(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_draws_without_a_display_or_pyplot():
    program = (
        "import sys, numpy as np; from dave_jax import plot; assert 'matplotlib' not in sys.modules;"
        "plot.panel(np.ones((4, 5, 3)), np.zeros((4, 5))); assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {"PATH": "", "MPLBACKEND": "TkAgg", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=120)
