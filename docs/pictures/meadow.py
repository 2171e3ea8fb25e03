"""A meadow: its camera, the far trees, the grass. One length is the golf ball's radius."""

import dataclasses

import numpy as np
from pictures.painting import SKYLIGHT, SUN, SUNLIGHT, compose, draw_quads, encode, noise, smoothstep
from PIL import Image, ImageDraw


@dataclasses.dataclass(frozen=True)
class Meadow:
    """A camera low over grass with a golf ball: all in pixels of the oversampled canvas or in ball radii."""

    width: int
    height: int
    horizon: float
    focal: float
    ball: tuple[float, float, float]
    eye: float = 3.0
    aperture: float = 0.2

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of points (..., 3)."""
        x, y, z = np.moveaxis(points, -1, 0)
        return np.stack([self.width / 2 + self.focal * x / z, self.horizon + self.focal * (self.eye - y) / z], -1)

    def blur(self, z: float) -> float:
        """The radius in pixels of a point out of focus at distance `z`; the ball is in focus."""
        return self.aperture * self.focal * abs(1.0 / z - 1.0 / self.ball[2])

    def light(self, points: np.ndarray) -> np.ndarray:
        """The share of sunlight that passes the ball and reaches points (..., 3)."""
        to_ball = np.array(self.ball) - points
        along = to_ball @ SUN
        aside = np.linalg.norm(to_ball - along[..., None] * SUN, axis=-1)
        return 1.0 - 0.92 * (1.0 - smoothstep(0.82, 1.12, aside)) * (along > 0)


def draw_trees(rng: np.random.Generator, canvas: Image.Image, scene: Meadow) -> None:
    """A far row of trees, out of focus, and the ground's base colour below."""
    layer = Image.new("RGBA", canvas.size)
    pen = ImageDraw.Draw(layer)
    unit, soft = scene.focal / 600, scene.blur(200.0)
    for _ in range(600):
        x, rise = rng.uniform(-0.05, 1.05) * scene.width, rng.uniform(-0.35, 1.0)
        crown = 34 + 15 * np.sin(x / (67 * unit)) + 9 * np.sin(x / (23 * unit) + 1)
        y, r = scene.horizon - rise * crown * unit, rng.uniform(3, 9) * unit
        shade = (0.25 + 0.75 * max(rise, 0.0)) * rng.uniform(0.5, 1.3)
        colour = encode(shade * np.array([0.050, 0.095, 0.028]) + np.array([0.018, 0.024, 0.030]))
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(*colour.tolist(), 255))
    compose(canvas, layer, max(unit, 0.7 * soft))
    rows = np.arange(canvas.height)[:, None, None]
    near = np.clip((rows - scene.horizon) / (canvas.height - scene.horizon), 0, 1) ** 0.5
    ground = (1 - near) * np.array([0.15, 0.24, 0.05]) + near * np.array([0.028, 0.055, 0.010])
    mottle = 1.0 + 0.16 * noise(rng, canvas.height, canvas.width, 1.8, stretch=5.0)[..., None]
    alpha = 255 * smoothstep(-soft - unit, soft + unit, rows - scene.horizon) * np.ones((1, canvas.width, 1))
    compose(canvas, Image.fromarray(np.concatenate([encode(ground * mottle), np.uint8(alpha)], -1)), 0.0)


def draw_grass(rng: np.random.Generator, canvas: Image.Image, scene: Meadow, near: float, far: float, count: int) -> None:
    """`count` blades between the distances `near` and `far`, from the back to the front in slices of one blur each."""
    z = 1.0 / rng.uniform(1.0 / far, 1.0 / near, count)
    x = rng.uniform(-0.6, 0.6, count) * scene.width / scene.focal * z
    keep = np.hypot(x - scene.ball[0], z - scene.ball[2]) > 0.45
    x, z = x[keep], z[keep]
    order = np.argsort(-z)
    x, z, n = x[order], z[order], len(order)
    t = np.linspace(0.0, 1.0, 6)
    tall, lean, width = rng.uniform(0.30, 0.85, n), rng.normal(0.0, 0.38, n), rng.uniform(0.025, 0.06, n)
    tall *= 1.0 - 0.45 * np.exp(-(np.hypot(x - scene.ball[0], z - scene.ball[2] + 0.7) ** 2))
    spine = np.stack(
        [
            x[:, None] + (lean * tall)[:, None] * (0.4 * t + t**2),
            tall[:, None] * (t - 0.22 * np.abs(lean)[:, None] * t**2),
            np.broadcast_to(z[:, None], (n, 6)),
        ],
        -1,
    )
    half = (width[:, None] * np.sqrt(1.0 - 0.97 * t))[..., None] * np.array([1.0, 0.0, 0.0])
    left, right = scene.project(spine - half), scene.project(spine + half)
    corners = np.stack([left[:, :-1], right[:, :-1], right[:, 1:], left[:, 1:]], 2)
    middle = 0.5 * (spine[:, :-1] + spine[:, 1:])
    young, dry = rng.uniform(0, 1, (n, 1, 1)), (rng.uniform(0, 1, (n, 1, 1)) < 0.05)
    albedo = (1 - young) * np.array([0.045, 0.115, 0.014]) + young * np.array([0.16, 0.27, 0.035])
    albedo = np.where(dry, np.array([0.36, 0.29, 0.12]), albedo)
    depth = (middle[..., 1] / 0.7)[..., None]
    facing = rng.uniform(0.25, 1.25, (n, 1, 1))
    apart = np.linalg.norm(middle - np.array(scene.ball), axis=-1)[..., None]
    open_sky = (0.15 + 0.85 * smoothstep(0.0, 1.0, depth)) * (0.35 + 0.65 * smoothstep(1.0, 1.8, apart))
    sun = scene.light(middle)[..., None] * smoothstep(0.0, 0.9, depth) * facing
    colours = albedo * (2.1 * sun * SUNLIGHT + 0.75 * open_sky * SKYLIGHT)
    haze = smoothstep(15, 90, z)[:, None, None] * 0.5
    colours = (1 - haze) * colours + haze * np.array([0.20, 0.29, 0.09])
    focus = np.array([scene.blur(distance) for distance in z])
    slices = np.round(np.sign(z - scene.ball[2]) * np.sqrt(focus) * 2).astype(int)
    for index in sorted(set(slices.tolist()), reverse=True):
        chosen = slices == index
        layer = Image.new("RGBA", canvas.size)
        draw_quads(layer, corners[chosen].reshape(-1, 4, 2), colours[chosen].reshape(-1, 3))
        compose(canvas, layer, float(focus[chosen].mean()))
