"""big_vision's and vit_jax's `.npz` checkpoints: nothing describes them but the names and the shapes of their arrays.

    arrays = Npz(Path("ViT-B_16.npz"))
    params = describe(arrays).params(arrays)

What they do not say is as both write their networks: GELU in its tanh form, norms with eps 1e-6, pixels in [-1, 1].
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from convert_weights.layouts import tokens, vector
from convert_weights.table import ConversionError, Entry, convert
from dave_jax.models.positions import check_tiling, sine_cosine_positions
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.vit_config import ViTConfig, init_params
from dave_jax.models.vit_positions import resamplings

_PREFIXES = ("opt/target/", "params/img/", "params/", "img/", "")
"""In front of the network's names: an optimiser's state, an image tower beside a text tower, or nothing."""

_NAMES = (
    (r"Transformer/encoderblock_(\d+)/", r"blocks/\1/"),
    (r"Transformer/encoderblock/", "blocks/stacked/"),
    (r"Transformer/posembed_input/", ""),
    (r"Transformer/encoder_norm/", "encoder_norm/"),
    (r"MAPHead_0/LayerNorm_0/", "MAPHead_0/norm2/"),
    (r"MultiHeadDotProductAttention_\d/", "attention/"),
    (r"LayerNorm_0/", "norm1/"),
    (r"LayerNorm_[12]/", "norm2/"),
    (r"MlpBlock_\d/Dense_", "mlp/"),
)
"""Flax numbers modules of a kind in the order in which a block makes them, which has changed: theirs to one name each."""


def _columns(array: np.ndarray) -> np.ndarray:
    """All axes but the last in one: a patch's kernel (h, w, 3, width), or attention's output (heads, c, width)."""
    return array.reshape(-1, array.shape[-1])


def _rows(array: np.ndarray) -> np.ndarray:
    """All axes but the first in one: (width, heads, c)."""
    return array.reshape(len(array), -1)


def _block(source: str, target: str) -> list[Entry]:
    """The rows of a block, or of attention pooling."""
    rows = [Entry(f"{source}norm2/{leaf}", f"{target}mlp_norm/{leaf}", vector) for leaf in ("scale", "bias")]
    for name in ("query", "key", "value"):
        rows.append(Entry(f"{source}attention/{name}/kernel", f"{target}attention/{name}/kernel", _rows))
        rows.append(Entry(f"{source}attention/{name}/bias", f"{target}attention/{name}/bias", np.ravel))
    rows.append(Entry(f"{source}attention/out/kernel", f"{target}attention/proj/kernel", _columns))
    rows.append(Entry(f"{source}attention/out/bias", f"{target}attention/proj/bias", vector))
    rows += [Entry(f"{source}mlp/{i}/{leaf}", f"{target}mlp/fc{i + 1}/{leaf}", vector) for i in (0, 1) for leaf in ("kernel", "bias")]
    return rows


_TABLE = (
    Entry("embedding/kernel", "patch_embedding/kernel", _columns),
    Entry("embedding/bias", "patch_embedding/bias", vector),
    Entry("cls", "class_token", tokens),
    Entry("pos_embedding", "position_embedding", tokens),
    *_block("blocks/{i}/", "blocks/"),
    *(Entry(f"blocks/{{i}}/norm1/{leaf}", f"blocks/attention_norm/{leaf}", vector) for leaf in ("scale", "bias")),
    *(Entry(f"encoder_norm/{leaf}", f"final_norm/{leaf}", vector) for leaf in ("scale", "bias")),
    Entry("MAPHead_0/probe", "pool/latent", tokens),
    *_block("MAPHead_0/", "pool/"),
    Entry("head/kernel", "head/kernel", vector),
    Entry("head/bias", "head/bias", vector),
)


class _Renamed(Mapping[str, np.ndarray]):
    """The network's arrays by one name each; blocks that are stacked on a leading axis one by one."""

    def __init__(self, arrays: Mapping[str, np.ndarray], prefix: str):
        self.arrays, self.places, self.last = arrays, {}, ("", np.zeros(0))
        self.depth = 0  # of the blocks that are stacked
        for key in sorted((key for key in arrays if key.startswith(prefix)), key=lambda key: not key.endswith("scale")):
            name = key.removeprefix(prefix)
            for pattern, replacement in _NAMES:
                name = re.sub(pattern, replacement, name)
            if name.startswith("blocks/stacked/"):
                self.depth = self.depth or len(self._read(key))  # one small array is read to know it, a norm's
                self.places |= {name.replace("stacked", str(i)): (key, i) for i in range(self.depth)}
            else:
                self.places[name] = (key, ...)

    def _read(self, key: str) -> np.ndarray:
        if self.last[0] != key:
            self.last = key, self.arrays[key]
        return self.last[1]

    def __getitem__(self, name: str) -> np.ndarray:
        key, index = self.places[name]
        array = self._read(key)
        if index is not ... and len(array) != self.depth:
            raise ConversionError(f"Arrays of stacked blocks must have one length, here {self.depth}; {key} has {len(array)}.")
        return array[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


@dataclasses.dataclass(frozen=True)
class Description:
    """What the arrays say about a network.

    Attributes:
        config: the network, for the images that were asked for.
        prefix: of its arrays' names.
        preprocessing: from photographs to the network's images.
    """

    config: ViTConfig
    prefix: str
    preprocessing: Preprocessing

    family = "vit"  # of `dave_jax.models.families`
    architecture = "big_vision"
    class_names = None

    def params(self, arrays: Mapping[str, np.ndarray], *, what: str = "the checkpoint", dtype: Any = np.float32) -> dict[str, Any]:
        """The parameters that the arrays hold, of type `dtype`, on the default device; `what` to call them in errors.

        Raises:
            ConversionError: listing missing, leftover and misshapen arrays.
        """
        config = self.config

        own: Mapping[str, np.ndarray] = _Renamed(arrays, self.prefix)
        if "pos_embedding" not in own:
            own = {**own, "pos_embedding": sine_cosine_positions(config.grid, config.width)[None]}
        expected = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
        return convert(own, _TABLE, expected, adapt=resamplings(config, None), what=what, dtype=dtype)


def describe(arrays: Mapping[str, np.ndarray], *, image_size: tuple[int, int] | None = None, what: str = "the checkpoint") -> Description:
    """Read a network off the names and shapes of its arrays.

    Args:
        arrays: the checkpoint.
        image_size: height and width, if not the checkpoint's (224 where that has no position embedding, which is then of sines and
            cosines); a learned one is resampled.
        what: what to call the checkpoint in errors.

    Raises:
        ConversionError: the arrays are no vision transformer of big_vision's.
        ValueError: the patches do not tile the image size.
    """
    prefix = next((prefix for prefix in _PREFIXES if f"{prefix}embedding/kernel" in arrays), None)
    if prefix is None:
        raise ConversionError(f"{what} must hold a vision transformer of big_vision's, with an array 'embedding/kernel'; it does not.")
    own = _Renamed(arrays, prefix)
    if "pre_logits/kernel" in own:
        raise ConversionError(
            f"{what} has a layer before its head (pre_logits), which dave_jax does not build. Use a fine-tuned checkpoint."
        )
    try:
        rows, columns, _, width = own["embedding/kernel"].shape
        _, num_heads, _ = own["blocks/0/attention/query/kernel"].shape
        _, mlp_width = own["blocks/0/mlp/0/kernel"].shape
        num_positions = own["pos_embedding"].shape[1] if "pos_embedding" in own else 0
        num_classes = own["head/kernel"].shape[1] if "head/kernel" in own else 0
    except (KeyError, IndexError, ValueError) as error:
        raise ConversionError(
            f"{what} must hold a vision transformer of big_vision's; an array is missing or misshapen ({error})."
        ) from error
    class_token = "cls" in own
    on_prefix = class_token and math.isqrt(num_positions) ** 2 != num_positions  # vit_jax adds one to the class token, big_vision does not
    side = math.isqrt(num_positions - on_prefix)
    size = image_size or ((side * rows, side * columns) if side else (224, 224))
    check_tiling(size, (rows, columns))
    pooling = "map" if "MAPHead_0/probe" in own else "token" if class_token else "avg"
    config = ViTConfig(
        image_size=size,
        patch_size=(rows, columns),
        width=width,
        depth=len({name.split("/")[1] for name in own if name.startswith("blocks/")}),
        num_heads=num_heads,
        mlp_width=mlp_width,
        num_classes=num_classes,
        class_token=class_token,
        position_on_prefix=on_prefix,
        position_resampling="corners",
        pooling=pooling,
        activation="gelu_tanh",
    )
    images: dict[str, Any] = {"crop_fraction": 0.875} if num_classes else {"crop_fraction": 1.0, "crop_mode": "squash"}
    return Description(config, prefix, Preprocessing(size, interpolation="bilinear", **images))
