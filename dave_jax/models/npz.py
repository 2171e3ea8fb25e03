"""`Npz`: NumPy's archives of arrays, read array by array, and never more of them than the file is long."""

import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np

from dave_jax.models.checkpoint import Checkpoint


class Npz(Checkpoint):
    """The arrays of an `.npz` file, as `numpy.savez` writes them; pickled objects are refused.

    bfloat16, which NumPy stores as two bytes without a name, is recognised.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such archive, or compressed: an array would be as large as the file says, however small the file.
    """

    def __init__(self, path: Path):
        self.paths = (path,)
        self.metadata: dict[str, str] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except FileNotFoundError as error:
            raise FileNotFoundError(f"There is no file {str(path)!r}. Check the path, or download it again.") from error
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"A checkpoint must be a whole .npz archive; {str(path)!r} is not ({error}). Copy or download it again."
            ) from error
        packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise ValueError(f"The arrays of {str(path)!r} must not be compressed; {packed[0]!r} is. Write them with numpy.savez.")
        self._places = {member.filename.removesuffix(".npy"): path for member in members}

    def __getitem__(self, key: str) -> np.ndarray:
        path = self._places[key]
        try:
            with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
                version = np.lib.format.read_magic(file)
                header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
                shape, by_columns, dtype = header(file)
                content = file.read()
            if dtype.hasobject:
                raise ValueError("it holds pickled objects")
            array = np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")
        except (KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{key!r} of {str(path)!r} must be an array as numpy.savez writes it; it is not ({error}).") from error
        return array.view(ml_dtypes.bfloat16) if array.dtype == np.dtype("V2") else array
