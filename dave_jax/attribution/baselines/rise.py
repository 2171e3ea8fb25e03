"""RISE: random masks, weighted with the score of the image behind them."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.attribution.baselines.scoring import Fill, Score, as_image, check_counts, check_fill, check_score, chunk_for, scores
from dave_jax.attribution.chunk import sum_over
from dave_jax.attribution.method import Method, settings
from dave_jax.config import Scalar
from dave_jax.models.model import Forward, Model


def random_mask(key: PRNGKeyArray, height: int, width: int, cells: int, keep: Scalar) -> Float[Array, "h w"]:
    """A smooth random mask in [0, 1], whose mean over keys is `keep` at every pixel.

    A grid of `cells` x `cells` zeros and ones (one with probability `keep`) is enlarged bilinearly to one cell more than the image in each
    direction, and the image's size is cut out of it at a random place within a cell.

    Example:
        >>> random_mask(jax.random.key(0), 8, 6, 2, 0.5).shape
        (8, 6)
    """
    cell = (math.ceil(height / cells), math.ceil(width / cells))
    grid_key, *shift_keys = jax.random.split(key, 3)
    grid = jax.random.bernoulli(grid_key, keep, (cells, cells)).astype(jnp.result_type(float))
    enlarged = jax.image.resize(grid, ((cells + 1) * cell[0], (cells + 1) * cell[1]), "bilinear", precision=jax.lax.Precision.HIGHEST)
    start = [jax.random.randint(shift_key, (), 0, size) for shift_key, size in zip(shift_keys, cell, strict=True)]
    return jax.lax.dynamic_slice(enlarged, start, (height, width))


@settings(static=("num_masks", "cells", "score", "centred", "chunk_size"))
class Rise(Method):
    """`sum_i s_i m_i / (num_masks keep)`: random masks, weighted with the score of the image behind each (arXiv 1806.07421).

    `s_i` is the score of `m_i x + (1 - m_i) fill`, and the mask `m_i` comes from `random_mask`. This estimates the expected score given
    that a pixel is kept. Scores of masked images are rarely near zero, so every pixel carries the same offset: `centred` subtracts the mean
    score from the weights, and estimates how much the score changes when a pixel is kept.

    Attributes:
        num_masks: forward passes for an image, whatever the number of targets.
        cells: of a mask, along each side.
        keep: the probability of keeping a cell, in (0, 1].
        fill: what a masked pixel becomes, in normalised space: a number, one number for each channel, or an image. 0 is the mean colour of
            the training data.
        score: `probability`: `<softmax(logits), cotangent>`, for a class its probability; `logit`: `<logits, cotangent>`.
        centred: subtract the mean score from the weights.
        chunk_size: masks that are computed at once; None chooses it from the device's memory.

    Example:
        >>> import dave_jax as dave
        >>> model, images = dave.testing.tiny_model(), jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
        >>> Rise(num_masks=16, cells=4)(model, images, [2], key=jax.random.key(1)).shape
        (1, 16, 16)
    """

    num_masks: int = 1000
    cells: int = 7
    keep: Scalar = 0.5
    fill: Fill = 0.0
    score: Score = "probability"
    centred: bool = False
    chunk_size: int | None = None
    random: ClassVar[bool] = True

    def __post_init__(self):
        check_counts(self, "num_masks", "cells")
        check_score("Rise", self.score)
        if isinstance(self.keep, (int, float)) and not 0.0 < self.keep <= 1.0:
            raise ValueError(f"Rise: keep is the probability of keeping a cell and must lie in (0, 1]; got {self.keep}.")

    def fitted(self, model: Model, image: jax.ShapeDtypeStruct, num_targets: int) -> "Rise":
        """With a chunk size."""
        check_fill("fill", self.fill, image.shape)
        if self.cells > min(image.shape[:2]):
            raise ValueError(f"Rise: cells must be at most the image's size, {min(image.shape[:2])} pixels; got {self.cells}.")
        return dataclasses.replace(self, chunk_size=chunk_for(self.chunk_size, model, image, num_targets, self.num_masks))

    def attribute(
        self, forward: Forward, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"], key: PRNGKeyArray
    ) -> Float[Array, "k h w"]:
        """The weighted means of one image: signed where the scores are, or if `centred`."""
        assert self.chunk_size is not None  # `fitted` has filled it
        fill = as_image(self.fill, image)
        height, width = image.shape[:2]

        def sample(i) -> tuple[Float[Array, "k h w"], Float[Array, " k"], Float[Array, "h w"]]:
            mask = random_mask(jax.random.fold_in(key, i), height, width, self.cells, self.keep).astype(image.dtype)
            logits = forward(params, fill + mask[..., None] * (image - fill), "gradient")
            found = scores(logits, cotangents, self.score)
            return found[:, None, None] * mask[None], found, mask

        weighted, total, masks = sum_over(sample, jnp.arange(self.num_masks), self.chunk_size)
        if self.centred:
            weighted = weighted - (total / self.num_masks)[:, None, None] * masks[None]
        return weighted / (self.num_masks * self.keep)

    def heat_map(self, signed: Float[Array, "h w"]) -> Float[Array, "h w"]:
        """From the map's minimum (0 if `centred`) to its maximum."""
        return super().heat_map(signed if self.centred else signed - signed.min())
