"""Where a model's files are on this machine: in a folder, or beside a file that is named."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

CONFIG, WEIGHTS = "config.json", "model.safetensors"
OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
_PICKLED = (".bin", ".pth", ".pt", ".ckpt", ".tar", ".npz", ".h5", ".msgpack", ".pkl")
_PATH_ENDS = (".safetensors", ".bin", ".pth", ".ckpt", ".npz")  # not .pt, which is a tag of timm's


@dataclasses.dataclass(frozen=True)
class Found:
    """The files of a model.

    Attributes:
        name: what to call it.
        place: where they are: a path, or repository and commit.
        weights: safetensors files, or one of NumPy's (`.npz`).
        config: `config.json`, or open_clip's, or None.
        beside: another file of the model, by its name; None where there is none.
        architecture, tag: timm's, where the model was asked for by them.
    """

    name: str
    place: str
    weights: tuple[Path, ...]
    config: Path | None
    beside: Callable[[str], Path | None]
    architecture: str | None = None
    tag: str | None = None


def is_local(name: str | os.PathLike) -> bool:
    """Whether a name is a path: it exists, or can be nothing else."""
    if not isinstance(name, str):
        return True
    return name.startswith((".", "~")) or Path(name).is_absolute() or name.endswith(_PATH_ENDS) or (name != "" and Path(name).exists())


def find_local(path: Path) -> Found:
    """The files of a folder, or a file and what lies beside it.

    Raises:
        FileNotFoundError: nothing is there, or no weights.
        ValueError: the weights are in a format that would have to be unpickled.
    """
    path = path.expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {str(path)!r}. Check the path; a hub repository is written org/repo.")
    if path.is_dir():
        folder = path
        names = sorted(file.name for file in folder.iterdir())
        if WEIGHTS in names:
            weights: tuple[Path, ...] = (folder / WEIGHTS,)
        elif INDEX in names:
            weights = tuple(folder / name for name in shard_names(folder / INDEX))
        elif OPEN_CLIP_WEIGHTS in names:
            weights = (folder / OPEN_CLIP_WEIGHTS,)
        else:
            raise no_weights(f"The folder {str(path)!r}", names)
    else:
        folder, weights = path.parent, (path,)
        if path.suffix not in (".safetensors", ".npz"):
            raise no_weights(f"{str(path)!r}", [path.name])
    for file in weights if path.is_dir() else ():  # a file that is named is wanted
        _check_link(file, folder)
    name = path.stem if path.is_file() and path.name not in (WEIGHTS, OPEN_CLIP_WEIGHTS) else folder.resolve().name

    def beside(file: str) -> Path | None:
        _check_link(folder / file, folder)
        return folder / file if (folder / file).exists() else None

    config = OPEN_CLIP_CONFIG if weights[0].name == OPEN_CLIP_WEIGHTS else CONFIG
    return Found(name, str(path), weights, beside(config), beside)


def _check_link(file: Path, folder: Path) -> None:
    """Raise if a folder's file is a link out of it: what came from elsewhere may name any file of the machine.

    In the hub's cache `snapshots/<commit>/<file>` is a link to `blobs/<hash>`.
    """
    target, allowed = file.resolve(), [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        allowed.append(folder.resolve().parents[1] / "blobs")
    if file.is_symlink() and not any(target.is_relative_to(place) for place in allowed):
        raise ValueError(f"{str(file)!r} is a link out of its folder, to {str(target)!r}. If you trust it, pass that file, or a copy.")


def json_object(file: Path) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        ValueError: it is none.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # brackets within brackets
        raise ValueError(f"{str(file)!r} must be JSON; it is not ({error}). Download or write it again.") from error
    if not isinstance(document, dict):
        raise ValueError(f"{str(file)!r} must be a JSON object; it is a {type(document).__name__}. Download or write it again.")
    return document


@contextlib.contextmanager
def telling(what: str) -> Iterator[None]:
    """Whatever a description leads to that no network has (a negative size, a text for a number) becomes an error that names its file.

    Raises:
        ValueError: in place of other errors than those of files.
    """
    try:
        yield
    except ValueError as error:
        if type(error) is not ValueError or what in str(error):  # a list of what does not fit names it
            raise
        raise ValueError(f"{what}: {error}") from error
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{what} does not describe a network that dave_jax can build ({error}). Download or save it again.") from error


def shard_names(index: Path) -> list[str]:
    """The files of a checkpoint in several, by its index.

    Raises:
        ValueError: it is no index of safetensors files that lie beside it.
    """
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"{str(index)!r} must be JSON with a weight_map from arrays to files; it is not ({error!r}). Download it again."
        ) from error
    if not names or not all(
        isinstance(name, str) and name.endswith(".safetensors") and "/" not in name and "\\" not in name for name in names
    ):
        raise ValueError(f"{str(index)!r} must name safetensors files beside it; it names {names}.")
    return names


def no_weights(what: str, names: Iterable[str]) -> Exception:
    """The error about missing safetensors: with the way out, where there is a checkpoint of another format."""
    others = [name for name in names if name.endswith(_PICKLED)]
    if not others:
        return FileNotFoundError(f"{what} must hold {WEIGHTS}; it does not. Files there: {sorted(names) or 'not known'}.")
    if others[0].endswith(".npz"):
        return ValueError(f"{what} holds {others[0]!r} and no safetensors. If it is big_vision's, load the file itself: dave.load(PATH).")
    remedy = f"""  state = torch.load({others[0]!r}, map_location="cpu", weights_only=True)
  safetensors.torch.save_file({{key: value.contiguous().clone() for key, value in state.items()}}, {WEIGHTS!r})"""
    return ValueError(
        f"{what} holds {others[0]!r} and no safetensors. dave_jax never unpickles a checkpoint, for a pickle can run any code. "
        f"If you trust it, convert it once, and load the result with its config.json:\n{remedy}"
    )
