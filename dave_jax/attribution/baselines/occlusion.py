"""Occlusion: how much the score drops when a window of the image is covered."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dave_jax.attribution.baselines.scoring import (
    Fill,
    Score,
    as_image,
    check_counts,
    check_fill,
    check_score,
    chunk_for,
    scores,
)
from dave_jax.attribution.method import Method, settings
from dave_jax.models.model import Forward, Model


def window_positions(size: int, window: int, stride: int) -> Bool[Array, "positions size"]:
    """Which pixels of a side each window covers: windows every `stride` pixels until the last pixel is covered, the last one cut off there.

    Example:
        >>> window_positions(5, 2, 2).astype(int).tolist()
        [[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]
    """
    start = stride * jnp.arange(1 + math.ceil((size - window) / stride))[:, None]
    pixel = jnp.arange(size)[None, :]
    return (pixel >= start) & (pixel < start + window)


@settings(static=("window", "stride", "score", "chunk_size"))
class Occlusion(Method):
    """`mean over the windows w that cover a pixel of s(x) - s(x with w filled)` (arXiv 1311.2901).

    Square windows stand every `stride` pixels from the top left; the last of a row or column are cut off where the image ends. It costs
    one forward pass for each window, whatever the number of targets.

    Attributes:
        window: side of a window, in pixels.
        stride: from one window to the next, in pixels; at most `window`, so that every pixel is covered.
        fill: what a covered pixel becomes, in normalised space: a number, one number for each channel, or an image. 0 is the mean colour of
            the training data.
        score: `logit`: `<logits, cotangent>`; `probability`: `<softmax(logits), cotangent>`, for a class its probability.
        chunk_size: windows that are computed at once; None chooses it from the device's memory.

    Example:
        >>> import dave_jax as dave
        >>> model, images = dave.testing.tiny_model(), jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
        >>> Occlusion(window=4, stride=2)(model, images, [2]).shape
        (1, 16, 16)
    """

    window: int = 16
    stride: int = 8
    fill: Fill = 0.0
    score: Score = "logit"
    chunk_size: int | None = None

    def __post_init__(self):
        check_counts(self, "window", "stride")
        check_score("Occlusion", self.score)
        if self.stride > self.window:
            raise ValueError(
                f"Occlusion: stride must be at most window, or pixels between two windows would get no value; "
                f"got stride={self.stride} and window={self.window}."
            )

    def fitted(self, model: Model, image: jax.ShapeDtypeStruct, num_targets: int) -> "Occlusion":
        """With a chunk size."""
        check_fill("fill", self.fill, image.shape)
        height, width = image.shape[:2]
        if self.window > min(height, width):
            raise ValueError(f"Occlusion: window must be at most the image's size, {height} x {width} pixels; got {self.window}.")
        across, down = (1 + math.ceil((size - self.window) / self.stride) for size in (width, height))
        return dataclasses.replace(self, chunk_size=chunk_for(self.chunk_size, model, image, num_targets, across * down))

    def attribute(
        self, forward: Forward, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"], key: PRNGKeyArray
    ) -> Float[Array, "k h w"]:
        """Signed maps of one image: positive where covering lowers the score."""
        assert self.chunk_size is not None  # `fitted` has filled it
        fill = as_image(self.fill, image)
        rows, columns = (window_positions(size, self.window, self.stride) for size in image.shape[:2])

        def covered(window) -> Float[Array, " k"]:
            row, column = window
            inside = (rows[row][:, None] & columns[column][None, :])[..., None]
            return scores(forward(params, jnp.where(inside, fill, image), "gradient"), cotangents, self.score)

        windows = jnp.indices((len(rows), len(columns))).reshape(2, -1)
        after = jax.lax.map(covered, (windows[0], windows[1]), batch_size=self.chunk_size)
        before = scores(forward(params, image, "gradient"), cotangents, self.score)
        drops = (before[None] - after).reshape(len(rows), len(columns), -1)
        over_rows, over_columns = (side.astype(image.dtype) / side.sum(0, dtype=image.dtype)[None] for side in (rows, columns))
        return jnp.einsum("ijk,ih,jw->khw", drops, over_rows, over_columns, precision="highest")
