"""What a store of maps consists of: its arrays, and their metadata by Zarr's specification, version 3.

zarr.json       attributes: `format`; `run`, all that the maps depend on; `class_names`; `source`, where the photographs were
maps            (images, targets, h, w), a chunk for each image, a shard (one file) for each batch; NaN where there is no map
target, logit, probability, bias_share, completeness      (images, targets)
name, reason    (images, bytes), UTF-8: which photograph, and why it could not be explained
status          (images,): 0 not yet, 1 explained, 2 failed; written when all else of the batch is on disk
"""

import dataclasses
from typing import Any

from dave_jax.batch.reading import REASON_BYTES

FORMAT = 1
"""Of the stores that this version reads and writes. Another set of arrays or attributes needs another number."""

PENDING, EXPLAINED, FAILED = 0, 1, 2
"""Values of `status`."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Shapes and types of a store.

    Attributes:
        count: photographs.
        num_targets: of each.
        image_size: height and width of the maps.
        batch_size: photographs of a batch.
        name_bytes: room for a name.
        dtype: of the maps.
    """

    count: int
    num_targets: int
    image_size: tuple[int, int]
    batch_size: int
    name_bytes: int
    dtype: str

    def arrays(self) -> dict[str, tuple[str, tuple[int, ...], tuple[str, ...], Any]]:
        """Type, shape of a photograph's part, names of the dimensions, and what stands where nothing is written."""
        names = ("logit", "probability", "bias_share", "completeness")
        per_target = {name: ("float32", (self.num_targets,), ("target",), "NaN") for name in names}
        return {
            "maps": (self.dtype, (self.num_targets, *self.image_size), ("target", "y", "x"), "NaN"),
            "target": ("int32", (self.num_targets,), ("target",), -1),
            **per_target,
            "name": ("uint8", (self.name_bytes,), ("byte",), 0),
            "reason": ("uint8", (REASON_BYTES,), ("byte",), 0),
            "status": ("uint8", (), (), PENDING),
        }

    def metadata(self, name: str) -> dict[str, Any]:
        """The Zarr v3 metadata of an array."""
        dtype, shape, dimensions, fill = self.arrays()[name]
        order = {"name": "bytes"} if dtype == "uint8" else {"name": "bytes", "configuration": {"endian": "little"}}
        codecs: list[dict[str, Any]] = [order, {"name": "zstd", "configuration": {"level": 3, "checksum": False}}]
        if name == "maps":
            index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
            inner = {"chunk_shape": [1, *shape], "codecs": codecs, "index_codecs": index, "index_location": "end"}
            codecs = [{"name": "sharding_indexed", "configuration": inner}]
        return {
            "shape": [self.count, *shape],
            "data_type": dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [self.batch_size, *shape]}},
            "codecs": codecs,
            "fill_value": fill,
            "dimension_names": ["image", *dimensions],
        }
