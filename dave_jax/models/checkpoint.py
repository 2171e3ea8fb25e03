"""`Checkpoint`: safetensors files, read array by array in NumPy."""

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import ml_dtypes  # noqa: F401 registers bfloat16 with NumPy
import numpy as np
from safetensors import SafetensorError, safe_open


class Checkpoint(Mapping[str, np.ndarray]):
    """The arrays of one or several safetensors files, read one at a time, and their metadata.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is cut off or no safetensors file.
    """

    def __init__(self, paths: Iterable[Path]):
        self.paths = tuple(paths)
        self.metadata: dict[str, str] = {}
        self._places: dict[str, Path] = {}
        for path in self.paths:
            try:
                with safe_open(path, framework="numpy") as file:
                    self.metadata |= file.metadata() or {}
                    self._places |= dict.fromkeys(file.keys(), path)
            except FileNotFoundError as error:
                raise FileNotFoundError(f"There is no file {str(path)!r}. Check the path, or download it again.") from error
            except (OSError, SafetensorError) as error:
                raise ValueError(
                    f"A checkpoint must be a whole safetensors file; {str(path)!r} is not ({error}). "
                    "It may be cut off, or a pointer that Git LFS left (git lfs pull): copy or download it again."
                ) from error

    def __getitem__(self, key: str) -> np.ndarray:
        # Opened for each array: what a file that stays open has given so far stays mapped, and counts as this process's memory.
        try:
            with safe_open(self._places[key], framework="numpy") as file:
                return file.get_tensor(key)
        except (AttributeError, SafetensorError) as error:  # AttributeError: a type that NumPy does not have
            raise ValueError(
                f"{key} in {str(self._places[key])!r} cannot be read ({error}). Copy the file again, or convert it to float32."
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    @functools.cached_property
    def fingerprint(self) -> str:
        """`sha256:` and the first 16 hexadecimal digits of the files' SHA-256, one after the other."""
        digest = hashlib.sha256()
        for path in self.paths:
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        return f"sha256:{digest.hexdigest()[:16]}"
