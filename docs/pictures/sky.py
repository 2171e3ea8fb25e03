"""The sky."""

import numpy as np
from pictures.painting import encode, noise, smoothstep
from PIL import Image


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
