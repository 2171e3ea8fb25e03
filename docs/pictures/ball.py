"""The golf ball in a meadow: its dimples and its print. One length is its radius."""

import numpy as np
from pictures.meadow import Meadow
from pictures.painting import SKYLIGHT, SUN, SUNLIGHT, compose, encode, smoothstep
from PIL import Image, ImageDraw, ImageFont


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
