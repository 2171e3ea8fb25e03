"""Kernels as 8-bit integers with a scale for each output channel, as `store` writes them."""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float32, Int8

from dave_jax.models.checkpoint import Checkpoint

SCALE = ".scale"
"""What stands behind a kernel's path for its scale."""


class Dequantised(Mapping[str, np.ndarray]):
    """A checkpoint whose quantised kernels are read as floats."""

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint

    def __getitem__(self, key: str) -> np.ndarray:
        array = self.checkpoint[key]
        if key + SCALE not in self.checkpoint:
            return array
        scale = self.checkpoint[key + SCALE]
        if scale.shape != (*array.shape[:-2], 1, *array.shape[-1:]):
            raise ValueError(
                f"A quantised kernel needs a scale for each output channel; in {str(self.checkpoint.paths[0])!r} {key} has shape "
                f"{array.shape} and its scale {scale.shape}. Copy or save the model again."
            )
        return array * scale

    def __iter__(self) -> Iterator[str]:
        return (key for key in self.checkpoint if not (key.endswith(SCALE) and key.removesuffix(SCALE) in self.checkpoint))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def quantised(
    kernel: Float32[np.ndarray, "*blocks rows columns"],
) -> tuple[Int8[np.ndarray, "*blocks rows columns"], Float32[np.ndarray, "*blocks 1 columns"]]:
    """A kernel as integers, and its scale."""
    largest = np.abs(kernel).max(axis=-2, keepdims=True)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1))
    return np.rint(kernel / scale).astype(np.int8), scale
