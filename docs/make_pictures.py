"""Render the example pictures of the package: a golf ball on grass, a parachute, and both in one scene.

    python docs/make_pictures.py -o dave_jax/assets/photos

Everything is made here from random numbers with fixed seeds, NumPy and Pillow; no photograph goes in. The pictures are dedicated to the
public domain under CC0 1.0, whatever the licence of this script.

Units: one length is the golf ball's radius in `Meadow` scenes, and the canopy's radius in `draw_parachute`. x points right, y up, z away
from the camera. Colours are linear light in 0..1 until `encode`.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

OVERSAMPLING = 3
PER_GORE = 12
SUN = np.array([-0.72, 0.60, -0.36])
SUN = SUN / np.linalg.norm(SUN)
SUNLIGHT = np.array([1.0, 0.94, 0.82])
SKYLIGHT = np.array([0.42, 0.58, 0.82])


def smoothstep(low, high, x):
    """0 below `low`, 1 above `high`, a cubic between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def encode(linear: np.ndarray) -> np.ndarray:
    """Linear light to sRGB bytes."""
    linear = np.clip(linear, 0.0, 1.0)
    curve = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255.0 * curve).astype(np.uint8)


def noise(rng: np.random.Generator, height: int, width: int, power: float, stretch: float = 1.0) -> np.ndarray:
    """A random field (height, width) of zero mean and unit variance whose amplitude falls as frequency^-power.

    It is drawn at a fixed size and resized, so that a picture looks the same at every resolution.
    """
    size = 512
    fy, fx = np.fft.fftfreq(size)[:, None] * size, np.fft.rfftfreq(size)[None] * size
    amplitude = 1.0 / (1.0 + np.hypot(fy, fx * stretch)) ** power
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * amplitude, s=(size, size))
    field = np.float32((field - field.mean()) / field.std())
    return np.asarray(Image.fromarray(field).resize((width, height), Image.Resampling.BICUBIC))


def draw_sky(rng: np.random.Generator, height: int, width: int, horizon: float, cover: float) -> Image.Image:
    """A blue sky with fair-weather clouds, brighter and hazier towards the `horizon` (pixels from the top)."""
    up = np.clip(1.0 - np.arange(height)[:, None, None] / horizon, 0.0, 1.0)
    blue = (1 - up**0.6) * np.array([0.52, 0.68, 0.86]) + up**0.6 * np.array([0.09, 0.23, 0.55])
    billow = noise(rng, height, width, 1.7, stretch=1.7)
    fine = noise(rng, height, width, 1.15, stretch=1.4)
    density = smoothstep(cover, cover + 1.1, billow + 0.10 * fine)[..., None]
    # Lit from the upper left: greyer where the cloud is thicker towards the sun.
    shift = max(1, height // 24)
    thicker = np.roll(billow, (shift, shift // 2), (0, 1)) - billow
    lit = np.clip(0.80 - 0.16 * thicker[..., None] + 0.02 * fine[..., None], 0.45, 1.0)
    cloud = lit * np.array([0.97, 0.98, 1.0])
    colour = (1 - 0.92 * density) * blue + 0.92 * density * cloud
    return Image.fromarray(encode(colour)).convert("RGBA")


def draw_quads(layer: Image.Image, corners: np.ndarray, colours: np.ndarray) -> None:
    """Fill quadrilaterals (n, 4, 2) in pixels with linear colours (n, 3), in their order."""
    pen = ImageDraw.Draw(layer)
    for points, colour in zip(corners.reshape(-1, 8).tolist(), encode(colours).tolist(), strict=True):
        pen.polygon(points, fill=(*colour, 255))


def compose(canvas: Image.Image, layer: Image.Image, blur: float) -> None:
    """Lay `layer` over `canvas`, out of focus by `blur` pixels."""
    if blur > 0.3:
        layer = layer.convert("RGBa").filter(ImageFilter.GaussianBlur(blur)).convert("RGBA")
    canvas.alpha_composite(layer)


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


def spread_points(rng: np.random.Generator, count: int, steps: int = 80) -> np.ndarray:
    """Points (count, 3) on the unit sphere, evenly spread: a Fibonacci spiral, relaxed by repulsion."""
    k = np.arange(count) + 0.5
    polar, turn = np.arccos(1 - 2 * k / count), np.pi * (1 + 5**0.5) * k
    points = np.stack([np.sin(polar) * np.cos(turn), np.cos(polar), np.sin(polar) * np.sin(turn)], -1)
    points += 0.03 * rng.standard_normal(points.shape)
    for _ in range(steps):
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        gap = points[:, None] - points[None]
        square = (gap**2).sum(-1) + np.eye(count)
        push = 6.0 / count**2 * (gap / square[..., None] ** 2).sum(1)
        points += push * np.minimum(1.0, 0.3 / count**0.5 / np.linalg.norm(push, axis=1, keepdims=True))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def print_on_ball(normal: np.ndarray) -> np.ndarray:
    """How much of each colour the printed name takes away at surface points (n, 3) of the ball, (n, 3) in 0..1."""
    side = 256
    stamp = Image.new("L", (side, side))
    pen = ImageDraw.Draw(stamp)
    pen.text((side / 2, side * 0.36), "DAVE", fill=255, anchor="mm", font=ImageFont.load_default(76))
    pen.text((side / 2, side * 0.68), "1", fill=255, anchor="mm", font=ImageFont.load_default(76))
    front = np.array([0.27, 0.34, -0.90])
    right = np.cross(front, np.array([0.2, 1.0, 0.0]))
    right /= np.linalg.norm(right)
    up = np.cross(right, front) / np.linalg.norm(front)
    u, v = 0.5 + normal @ right / 0.85, 0.5 - normal @ up / 0.85
    inside = (u > 0) & (u < 1) & (v > 0) & (v < 1) & (normal @ front > 0)
    column, row = (np.clip((side * t).astype(int), 0, side - 1) for t in (u, v))
    ink = np.asarray(stamp, np.float64)[row, column] / 255 * inside
    return ink[:, None] * np.where((v < 0.5)[:, None], np.array([0.97, 0.95, 0.80]), np.array([0.25, 0.96, 0.95]))


def draw_ball(rng: np.random.Generator, canvas: Image.Image, scene: Meadow) -> None:
    """The golf ball: one ray a pixel, its normal bent by the nearest dimple."""
    ys, xs = np.mgrid[: canvas.height, : canvas.width].astype(np.float64)
    rays = np.stack([(xs - scene.width / 2) / scene.focal, (scene.horizon - ys) / scene.focal, np.ones_like(xs)], -1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    centre = np.array(scene.ball) - np.array([0.0, scene.eye, 0.0])
    along = rays @ centre
    aside = np.sqrt(np.maximum(centre @ centre - along**2, 0.0))
    pixel = np.linalg.norm(centre) / scene.focal
    alpha = np.clip((1.0 - aside) / pixel + 0.5, 0.0, 1.0)
    hit = alpha > 0
    rays, along, aside = rays[hit], along[hit], np.minimum(aside[hit], 1.0)
    normal = rays * (along - np.sqrt(1.0 - aside**2))[:, None] - centre
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)

    dimples = spread_points(rng, 384)
    nearest = np.concatenate([np.argmax(part @ dimples.T, 1) for part in np.array_split(normal, 64)])
    middle = dimples[nearest]
    cosine = np.clip((normal * middle).sum(1), -1, 1)
    angle, rim = np.arccos(cosine), 0.083
    towards = middle - cosine[:, None] * normal
    towards /= np.linalg.norm(towards, axis=1, keepdims=True) + 1e-9
    slope = 0.34 * (angle / rim) * (1.0 - smoothstep(0.86 * rim, 1.10 * rim, angle))
    bent = normal + slope[:, None] * towards
    bent /= np.linalg.norm(bent, axis=1, keepdims=True)

    point = np.array(scene.ball) + normal
    sun = np.clip(bent @ SUN, 0, None) * smoothstep(-0.05, 0.15, normal @ SUN)
    up = 0.5 + 0.5 * bent[:, 1]
    open_sky = 0.25 + 0.75 * smoothstep(0.0, 1.3, point[:, 1])
    half = SUN - rays
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    gloss = np.clip((bent * half).sum(1), 0, None)
    fresnel = 0.04 + 0.5 * (1.0 - np.clip(-(bent * rays).sum(1), 0, 1)) ** 5
    albedo = (1.0 - print_on_ball(normal)) * np.array([0.88, 0.88, 0.86])
    grass = np.array([0.10, 0.16, 0.045])
    light = 0.92 * sun[:, None] * SUNLIGHT + (up * open_sky)[:, None] * SKYLIGHT * 0.48 + (1 - up)[:, None] * grass * 1.1
    colour = albedo * light + (fresnel * up)[:, None] * SKYLIGHT * 0.5
    colour += (0.04 * gloss**40 + 0.5 * gloss**400)[:, None] * SUNLIGHT * (sun > 0)[:, None]
    image = np.zeros((*hit.shape, 4), np.uint8)
    image[hit, :3], image[..., 3] = encode(colour), np.round(255 * alpha)
    compose(canvas, Image.fromarray(image), 0.0)


def capsule(start: np.ndarray, end: np.ndarray, radius: float) -> np.ndarray:
    """A limb with round ends from `start` to `end`: a grid of points (rings, sides, 3)."""
    length = np.linalg.norm(end - start)
    axis = (end - start) / length
    along = (1 - np.cos(np.linspace(0, np.pi, 15))) / 2 * (length + 2 * radius) - radius
    beyond = np.maximum(np.maximum(-along, along - length), 0.0)
    radii = np.sqrt(np.maximum(radius**2 - beyond**2, 1e-10)) * (1 - 0.2 * np.clip(along / length, 0, 1))
    across = np.cross(axis, np.array([0.31, 0.12, 0.94]))
    across /= np.linalg.norm(across)
    turn = np.linspace(0, 2 * np.pi, 15)[:, None]
    circle = np.cos(turn) * across + np.sin(turn) * np.cross(axis, across)
    return start + along[:, None, None] * axis + radii[:, None, None] * circle


def jumper() -> list[tuple[np.ndarray, np.ndarray]]:
    """The limbs and things of a jumper, hips at the origin, arms up, with their albedos."""
    suit, black, white, skin = np.array([[0.10, 0.105, 0.06], [0.015, 0.015, 0.018], [0.75, 0.72, 0.68], [0.45, 0.26, 0.17]])
    rows = [
        ((0, 0, 0), (0, 0.27, 0), 0.085, suit),  # trunk
        ((0, 0.06, 0.09), (0, 0.24, 0.09), 0.07, black),  # pack
        ((0, 0.37, 0), (0, 0.40, 0), 0.062, white),  # helmet
    ]
    for side in (-1, 1):
        knee, foot = (0.10 * side, -0.19, -0.11 - 0.03 * side), (0.08 * side, -0.40 - 0.02 * side, 0.02)
        elbow, hand = (0.17 * side, 0.33, -0.03), (0.13 * side, 0.54, -0.02)
        rows += [
            ((0.05 * side, 0, 0), knee, 0.062, suit),
            (knee, foot, 0.05, suit),
            (foot, (0.10 * side, -0.45, -0.06), 0.036, black),
            ((0.08 * side, 0.25, 0), elbow, 0.042, suit),
            (elbow, hand, 0.036, suit),
            (hand, (0.13 * side, 0.57, -0.02), 0.03, skin),
        ]
    return [(capsule(np.array(start), np.array(end), radius), albedo) for start, end, radius, albedo in rows]


def canopy(gores: int) -> tuple[np.ndarray, np.ndarray]:
    """The round canopy (rings, around, 3), its skirt at y = 0, and each face's gore (rings - 1, around - 1)."""
    s = np.linspace(0.06, 1.0, 61)[:, None]
    turn = np.linspace(0, 2 * np.pi, PER_GORE * gores + 1)[None]
    bulge = np.abs(np.sin(turn * gores / 2))
    radius = np.sin(1.72 * s) * (1.0 + 0.07 * (bulge - 0.6) * s)
    height = 0.78 * np.cos(1.62 * s) + 0.05 * (bulge - 1.0) * s**3
    points = np.stack([radius * np.cos(turn), height * np.ones_like(turn), radius * np.sin(turn)], -1)
    gore = np.floor((turn[:, :-1] + 1e-9) * gores / (2 * np.pi)).astype(int)
    return points, np.broadcast_to(gore, (60, PER_GORE * gores))


def shade(seen: np.ndarray, albedo: np.ndarray, cloth: float) -> np.ndarray:
    """The light of each face of a grid of points (rows, columns, 3), shape (rows - 1, columns - 1, 3).

    With `cloth` 1 it is the canopy's: sunlight shines through, and the inside sees no sky.
    """
    normal = np.cross(seen[1:, :-1] - seen[:-1, 1:], seen[1:, 1:] - seen[:-1, :-1])
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-12
    normal *= -np.sign(normal[..., 2:])
    sun = normal @ SUN
    within = cloth * ((seen[:-1, :-1] * normal).sum(-1) < 0)
    glow = 0.12 - 0.10 * normal[..., 2]
    direct = 0.85 * np.clip(sun, 0, None) * (1 - within) + cloth * 0.42 * np.clip(-sun, 0, None) + glow * within
    sky = (0.39 + 0.21 * normal[..., 1]) * (1 - 0.55 * within)
    return albedo * (direct[..., None] * SUNLIGHT + sky[..., None] * SKYLIGHT)


def draw_parachute(canvas: Image.Image, centre: tuple[float, float], scale: float, tilt: float, roll: float) -> None:
    """A round parachute with a jumper.

    Args:
        canvas: What to draw on.
        centre: The skirt's centre, pixels.
        scale: The canopy's radius, pixels.
        tilt: How far the camera looks up into it, radians.
        roll: How far it swings to the side, radians.
    """
    ct, st, cr, sr = np.cos(tilt), np.sin(tilt), np.cos(roll), np.sin(roll)
    turn = np.array([[1, 0, 0], [0, ct, -st], [0, st, ct]]) @ np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])

    def project(seen: np.ndarray) -> np.ndarray:
        return np.array(centre) + scale * 9.0 / (9.0 + seen[..., 2:]) * seen[..., :2] * np.array([1.0, -1.0])

    gores = 20
    cloth, gore = canopy(gores)
    palette = np.array([[0.72, 0.03, 0.03], [0.92, 0.90, 0.86], [0.03, 0.10, 0.48], [0.92, 0.90, 0.86]])
    hips = np.array([0.0, -2.07, 0.0])
    parts = [(cloth, palette[gore % 4], 1.0), *((hips + limb, albedo, 0.0) for limb, albedo in jumper())]
    corners, colours, depth = [], [], []
    for grid, albedo, is_cloth in parts:
        seen = grid @ turn.T
        pixels = project(seen)
        corners.append(np.stack([pixels[:-1, :-1], pixels[1:, :-1], pixels[1:, 1:], pixels[:-1, 1:]], 2).reshape(-1, 4, 2))
        colours.append(shade(seen, albedo, is_cloth).reshape(-1, 3))
        depth.append((seen[:-1, :-1, 2] + seen[1:, 1:, 2]).ravel())
    order = np.argsort(-np.concatenate(depth), kind="stable")

    layer = Image.new("RGBA", canvas.size)
    pen = ImageDraw.Draw(layer)
    skirt = cloth[-1, ::PER_GORE][:-1]
    sides = np.where(skirt[:, :1] > 0, 1, -1)
    risers = hips + sides * np.array([0.13, 0.0, 0.0]) + np.array([0.0, 0.57, 0.0])
    lines = project(np.stack([skirt, risers], 1) @ turn.T).reshape(-1, 4)
    behind = (skirt @ turn.T)[:, 2] > 0
    thick = max(1, round(scale / 170))
    for line in lines[behind].tolist():
        pen.line(line, fill=(205, 205, 205, 235), width=thick)
    draw_quads(layer, np.concatenate(corners)[order], np.concatenate(colours)[order])
    for line in lines[~behind].tolist():
        pen.line(line, fill=(205, 205, 205, 235), width=thick)
    for side in (-1, 1):
        strap = hips + np.array([[0.13 * side, 0.57, 0.0], [0.07 * side, 0.27, 0.0]])
        pen.line(project(strap @ turn.T).ravel().tolist(), fill=(30, 30, 34, 255), width=3 * thick)
    compose(canvas, layer, 0.0)


def finish(rng: np.random.Generator, canvas: Image.Image, width: int, height: int) -> Image.Image:
    """Scale down to the final size; darken the corners and add a camera's grain."""
    small = np.asarray(canvas.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), np.float64)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    small *= (1.0 - 0.10 * (x**2 + y**2))[..., None]
    small += rng.standard_normal((height, width, 1)) * 2.0 + rng.standard_normal((height, width, 3)) * 1.0
    return Image.fromarray(np.uint8(np.clip(np.round(small), 0, 255)))


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
