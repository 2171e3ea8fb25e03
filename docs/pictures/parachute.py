"""A round parachute with a jumper. One length is the canopy's radius."""

import numpy as np
from pictures.painting import SKYLIGHT, SUN, SUNLIGHT, compose, draw_quads
from PIL import Image, ImageDraw

PER_GORE = 12


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
