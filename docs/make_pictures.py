"""Render the example pictures of the package: a golf ball on grass, a parachute, and both in one scene.

    python docs/make_pictures.py -o dave_jax/assets/photos

Everything is made here and in `pictures/` from random numbers with fixed seeds, NumPy and Pillow; no photograph goes in. The pictures are
dedicated to the public domain under CC0 1.0, whatever the licence of this script.
"""

import argparse
from pathlib import Path

import numpy as np
from pictures.ball import draw_ball
from pictures.meadow import Meadow, draw_grass, draw_trees
from pictures.painting import finish
from pictures.parachute import draw_parachute
from pictures.sky import draw_sky
from PIL import Image, ImageFilter

OVERSAMPLING = 3


def golf_ball(height: int = 480) -> Image.Image:
    """A golf ball on grass in the sun."""
    rng, width = np.random.default_rng(3), height * 4 // 3
    h, w = height * OVERSAMPLING, width * OVERSAMPLING
    scene = Meadow(w, h, horizon=0.16 * h, focal=2.35 * h, ball=(-0.12, 1.02, 9.4))
    canvas = draw_sky(rng, h, w, scene.horizon, cover=0.2)
    canvas = canvas.filter(ImageFilter.GaussianBlur(scene.blur(1e6)))
    draw_trees(rng, canvas, scene)
    draw_grass(rng, canvas, scene, scene.ball[2] + 0.1, 70.0, 9000)
    draw_ball(rng, canvas, scene)
    draw_grass(rng, canvas, scene, 5.0, scene.ball[2] + 0.1, 5000)
    return finish(rng, canvas, width, height)


def parachute(height: int = 480) -> Image.Image:
    """A jumper under a round parachute."""
    rng, width = np.random.default_rng(8), height * 4 // 3
    h, w = height * OVERSAMPLING, width * OVERSAMPLING
    canvas = draw_sky(rng, h, w, 1.25 * h, cover=0.3)
    draw_parachute(canvas, (0.47 * w, 0.30 * h), 0.245 * h, tilt=0.33, roll=0.12)
    return finish(rng, canvas, width, height)


def ball_and_parachute(height: int = 480) -> Image.Image:
    """A golf ball in front, a parachute coming down behind."""
    rng, width = np.random.default_rng(5), height * 4 // 3
    h, w = height * OVERSAMPLING, width * OVERSAMPLING
    scene = Meadow(w, h, horizon=0.52 * h, focal=1.5 * h, ball=(-1.5, 1.02, 9.4), aperture=0.12)
    canvas = draw_sky(rng, h, w, scene.horizon, cover=0.4)
    draw_trees(rng, canvas, scene)
    draw_parachute(canvas, (0.66 * w, 0.185 * h), 0.17 * h, tilt=0.3, roll=-0.08)
    draw_grass(rng, canvas, scene, scene.ball[2] + 0.1, 70.0, 9000)
    draw_ball(rng, canvas, scene)
    draw_grass(rng, canvas, scene, 5.0, scene.ball[2] + 0.1, 5000)
    return finish(rng, canvas, width, height)


PICTURES = {"golf_ball": golf_ball, "parachute": parachute, "ball_and_parachute": ball_and_parachute}


def main(arguments: list[str] | None = None) -> None:
    """Render the pictures as JPEG files."""
    parser = argparse.ArgumentParser(description="Render the example pictures of the package.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--height", type=int, default=480, help="short side in pixels (default: 480)")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    for name, render in PICTURES.items():
        render(options.height).save(options.output / f"{name}.jpg", quality=90, optimize=True)


if __name__ == "__main__":
    main()
