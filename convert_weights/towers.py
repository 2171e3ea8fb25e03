"""What the files beside a checkpoint of an image-text model say, and the rows that its two layouts share."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from convert_weights.table import Entry, convert
from convert_weights.tokenizer_files import Beside
from dave_jax.models.families import FAMILIES
from dave_jax.models.image_text import ImageTextConfig
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.tokenizer import Tokenizer
from dave_jax.models.vit_config import ViTConfig
from dave_jax.models.vit_positions import resamplings


@dataclasses.dataclass(frozen=True)
class Description:
    """What the files beside a checkpoint of an image-text model, or of its image tower alone, say about it.

    Attributes:
        architecture: what the checkpoint calls it.
        config: the network or towers, for the images that were asked for.
        checkpoint_size: height and width of the images that the checkpoint is for.
        preprocessing: from photographs to the network's images.
        rows: the table for a state dict.
        not_needed: a pattern of the keys that are known and left out.
        class_names: one for each class, where there are classes and they have names.
        read_tokenizer: the tokenizer of the text tower, from the files beside the weights and what to call these in errors; None for an
            image tower alone.
    """

    architecture: str
    config: ImageTextConfig | ViTConfig
    checkpoint_size: tuple[int, int]
    preprocessing: Preprocessing
    rows: Callable[[Mapping[str, np.ndarray]], list[Entry]]
    not_needed: str
    class_names: tuple[str, ...] | None = None
    read_tokenizer: Callable[[Beside, str], Tokenizer] | None = None

    @property
    def family(self) -> str:
        """Of the network: `image_text` or `vit`."""
        return "image_text" if isinstance(self.config, ImageTextConfig) else "vit"

    def params(self, arrays: Mapping[str, np.ndarray], *, what: str = "the checkpoint", dtype: Any = np.float32) -> dict[str, Any]:
        """The parameters that a state dict holds, of type `dtype`, on the default device; `what` to call it in errors.

        Raises:
            ConversionError: listing missing, leftover and misshapen arrays.
        """
        image = self.config.image if isinstance(self.config, ImageTextConfig) else self.config
        height, width = self.checkpoint_size
        old_grid = height // image.patch_size[0], width // image.patch_size[1]
        adapt, rows = resamplings(image, old_grid), self.rows(arrays)
        if self.family == "image_text":
            adapt = {f"image/{path}": change for path, change in adapt.items()}
        else:  # the image tower's rows alone, as its parameters stand alone
            rows = [row for row in rows if not row.target.startswith("text/")]
            rows = [dataclasses.replace(row, target=row.target.removeprefix("image/")) for row in rows]
        return convert(
            arrays,
            rows,
            jax.eval_shape(lambda: FAMILIES[self.family].init_params(jax.random.key(0), self.config)),
            ignored=[key for key in arrays if re.fullmatch(self.not_needed, key)],
            adapt=adapt,
            what=what,
            dtype=dtype,
        )


def under(source: str, target: str, rows: list[Entry]) -> list[Entry]:
    """The rows with something in front of their keys and paths."""
    return [dataclasses.replace(row, source=source + row.source, target=target + row.target) for row in rows]


def packed(rows: list[Entry]) -> list[Entry]:
    """The rows of a fused product as PyTorch's own attention names it: `in_proj_weight` instead of `in_proj.weight`."""
    return [dataclasses.replace(row, source=row.source.replace("in_proj.", "in_proj_")) for row in rows]


def number(array: np.ndarray) -> np.ndarray:
    """() or (1,) to ()."""
    return array.reshape(())


SCALARS = [Entry("logit_scale", "logit_scale", number), Entry("logit_bias", "logit_bias", number)]
"""The rows of the two numbers."""
