"""What every picture is painted with: light, smooth noise and layers on a canvas.

x points right, y up, z away from the camera. Colours are linear light in 0..1 until `encode`.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

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


def finish(rng: np.random.Generator, canvas: Image.Image, width: int, height: int) -> Image.Image:
    """Scale down to the final size; darken the corners and add a camera's grain."""
    small = np.asarray(canvas.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), np.float64)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    small *= (1.0 - 0.10 * (x**2 + y**2))[..., None]
    small += rng.standard_normal((height, width, 1)) * 2.0 + rng.standard_normal((height, width, 3)) * 1.0
    return Image.fromarray(np.uint8(np.clip(np.round(small), 0, 255)))
