"""How PyTorch lays out the arrays of layers, and rows of tables for such layers."""

from collections.abc import Callable

import numpy as np

from convert_weights.table import Entry


def vector(array: np.ndarray) -> np.ndarray:
    """As it is."""
    return array


def linear(array: np.ndarray) -> np.ndarray:
    """(out, in) to (in, out); a convolution with kernels of one pixel (out, in, 1, 1) is such a product too."""
    return (array.squeeze((2, 3)) if array.ndim == 4 else array).T


def tokens(array: np.ndarray) -> np.ndarray:
    """(1, n, d) to (n, d)."""
    return array.reshape(array.shape[-2:])


def patches(array: np.ndarray) -> np.ndarray:
    """(out, channels, h, w) to (h * w * channels, out)."""
    return array.transpose(2, 3, 1, 0).reshape(-1, array.shape[0])


def convolution(array: np.ndarray) -> np.ndarray:
    """(out, in / groups, h, w) to (h, w, in / groups, out)."""
    return array.transpose(2, 3, 1, 0)


def dense(source: str, target: str, layout: Callable[[np.ndarray], np.ndarray] = linear, first: int = 0) -> list[Entry]:
    """The rows of a product with weights; a bias that the parameters lack has a row in vain."""
    return [
        Entry(f"{source}.weight", f"{target}/kernel", layout, first),
        Entry(f"{source}.bias", f"{target}/bias", vector, first),
    ]


def part(index: int, count: int) -> Callable[[np.ndarray], np.ndarray]:
    """One of `count` equal groups of rows of a fused product, (out, in) to (in, out / count); of a vector, its part."""
    return lambda array: np.split(array, count)[index].T


def parts(source: str, target: str, names: tuple[str, ...]) -> list[Entry]:
    """The rows of a fused product that holds several of ours."""
    return [
        Entry(f"{source}.{kind}", f"{target}/{name}/{leaf}", part(index, len(names)))
        for index, name in enumerate(names)
        for kind, leaf in (("weight", "kernel"), ("bias", "bias"))
    ]


def norm(source: str, target: str) -> list[Entry]:
    """The rows of a norm."""
    return [Entry(f"{source}.weight", f"{target}/scale", vector), Entry(f"{source}.bias", f"{target}/bias", vector)]


def batch_norm(source: str, target: str, first: int = 0) -> list[Entry]:
    """The rows of a batch norm with its running averages."""
    names = {"weight": "scale", "bias": "bias", "running_mean": "running_mean", "running_var": "running_variance"}
    return [Entry(f"{source}.{theirs}", f"{target}/{ours}", vector, first) for theirs, ours in names.items()]
