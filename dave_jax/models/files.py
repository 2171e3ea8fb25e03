"""Where a model's files are: a folder, a file, or a repository of the Hugging Face hub, downloaded where its cache lacks them."""

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import errors as hub_errors

CONFIG, WEIGHTS = "config.json", "model.safetensors"
OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
_INDEX = f"{WEIGHTS}.index.json"
_PICKLED = (".bin", ".pth", ".pt", ".ckpt", ".tar", ".npz", ".h5", ".msgpack", ".pkl")
_PATH_ENDS = (".safetensors", ".bin", ".pth", ".ckpt", ".npz")  # not .pt, which is a tag of timm's
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


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
        elif _INDEX in names:
            weights = tuple(folder / name for name in _shards(folder / _INDEX))
        elif OPEN_CLIP_WEIGHTS in names:
            weights = (folder / OPEN_CLIP_WEIGHTS,)
        else:
            raise _no_weights(f"The folder {str(path)!r}", names)
    else:
        folder, weights = path.parent, (path,)
        if path.suffix not in (".safetensors", ".npz"):
            raise _no_weights(f"{str(path)!r}", [path.name])
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


def find_on_hub(name: str, revision: str | None, check: Callable[[Found], object]) -> Found:
    """The files of a hub repository (`org/repo`, `org/repo@revision`) or of a name of timm.

    Args:
        name: of either.
        revision: branch, tag or commit; None takes the one in the name, or else the main branch.
        check: called before the weights are downloaded, with what is known without them, if the repository has a `config.json`.

    Raises:
        ValueError: an unknown name, repository or revision; weights that would have to be unpickled or are elsewhere.
        FileNotFoundError: the repository has no weights.
        PermissionError: the repository is gated.
        ConnectionError: the hub cannot be reached, and its cache lacks a file.
    """
    bare, _, written = name.removeprefix("hf-hub:").removeprefix("hf_hub:").partition("@")
    if written and revision and written != revision:
        raise ValueError(f"{name!r} and revision={revision!r} name two revisions. Give one.")
    revision = revision or written or None
    architecture, tag = None, None
    repository, label = bare, bare
    if "/" not in bare:
        repository, architecture, tag = _of_timm(bare)
        label = f"{architecture}.{tag}"
    elif not _REPOSITORY.fullmatch(bare):
        raise ValueError(
            f"{name!r} is neither a folder or file that exists nor a hub repository, which is written org/repo or org/repo@revision."
        )
    config = _download(repository, CONFIG, revision)
    commit = _commit(config) or revision  # the weights of the same commit, should the branch move
    found = Found(label, f"{repository}@{commit}", (), config, lambda file: _download(repository, file, commit), architecture, tag)
    if config is not None:
        check(found)
    weights = _download_weights(repository, commit)
    if not weights and (config := _download(repository, OPEN_CLIP_CONFIG, commit)) is not None:
        commit = _commit(config) or commit
        found = dataclasses.replace(found, config=config, beside=lambda file: _download(repository, file, commit))
        check(found)
        weights = tuple(filter(None, [_download(repository, OPEN_CLIP_WEIGHTS, commit)]))
    if not weights:
        raise _no_weights(f"The hub repository {repository!r}", _listing(repository, commit))
    return dataclasses.replace(found, weights=weights, place=f"{repository}@{_commit(weights[0]) or commit}")


def _download_weights(repository: str, revision: str | None) -> tuple[Path, ...]:
    """The weights, in one file or in shards; none, where the repository has neither."""
    weights = _download(repository, WEIGHTS, revision)
    if weights is not None:
        return (weights,)
    index = _download(repository, _INDEX, revision)
    if index is None:
        return ()
    shards = {name: _download(repository, name, revision) for name in _shards(index)}
    missing = [name for name, file in shards.items() if file is None]
    if missing:
        raise FileNotFoundError(f"The hub repository {repository!r} lacks {missing}, which its {_INDEX} names. Try another revision.")
    return tuple(file for file in shards.values() if file is not None)


def _of_timm(name: str) -> tuple[str, str, str]:
    """Repository, architecture and tag of a timm name."""
    from convert_weights import bcos
    from convert_weights.architectures import architectures, near_names

    architecture, _, tag = name.partition(".")
    if name in bcos.ARCHITECTURES:
        raise ValueError(
            f"The weights of {name!r} are not on the hub, only in a pickle elsewhere, which dave_jax does not read. "
            "docs/bcos.md says how to convert it once; load the folder."
        )
    tags = architectures()[architecture]["tags"] if architecture in architectures() else {}
    if architecture in architectures() and not tags:
        raise ValueError(f"timm has no pretrained weights for {architecture!r}. Load a folder or repository of your own instead.")
    if not tags or (tag and tag not in tags):
        known = [f"{architecture}.{tag}" for tag in tags] or list(architectures())
        raise ValueError(
            f"{name!r} is no model of timm that dave_jax knows, no file and no folder. {near_names(name if tags else architecture, known)}"
        )
    tag = tag or next(iter(tags))
    repository = tags[tag]["hf_hub_id"]
    if repository is None:
        raise ValueError(
            f"The weights of '{architecture}.{tag}' are not on the hub, only in a pickle elsewhere, which dave_jax does not read. "
            "Load them with timm, save them (timm.models.save_for_hf(model, folder, safe_serialization=True)) and load the folder."
        )
    return repository, architecture, tag


def _download(repository: str, file: str, revision: str | None) -> Path | None:
    """A file of a repository, from the cache where it is there; None if the repository has no such file."""
    try:
        return Path(huggingface_hub.hf_hub_download(repository, file, revision=revision, library_name="dave_jax"))
    except hub_errors.LocalEntryNotFoundError as error:
        cached = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision)
        if cached is huggingface_hub._CACHED_NO_EXIST:  # pyright: ignore[reportPrivateImportUsage] documented for this comparison
            return None
        raise ConnectionError(
            f"{file} of {repository!r} is not in the hub's cache, and the hub cannot be reached. Connect (HF_HUB_OFFLINE must not be set) "
            "and load the model once, or copy a cache here (HF_HOME names its folder), or pass a folder that holds config.json and "
            f"{WEIGHTS}."
        ) from error
    except hub_errors.EntryNotFoundError:
        return None
    except hub_errors.GatedRepoError as error:
        raise PermissionError(
            f"The hub repository {repository!r} asks for its terms to be accepted. "
            "Accept them on its page, then log in (hf auth login, or HF_TOKEN)."
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise ValueError(f"The hub repository {repository!r} has no revision {revision!r}. Name a branch, tag or commit of it.") from error
    except hub_errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"There is no hub repository {repository!r}, or it is private: check its name, or log in (hf auth login, or HF_TOKEN)."
            + _near_repositories(repository)
        ) from error
    except hub_errors.HFValidationError as error:
        raise ValueError(f"{repository!r} is no name of a hub repository ({error}).") from error
    except hub_errors.HfHubHTTPError as error:
        raise ConnectionError(f"The hub did not give {file} of {repository!r} ({error}). Try again, or pass a folder.") from error


def _near_repositories(repository: str) -> str:
    """For timm's own repositories, whose names are known."""
    from convert_weights.architectures import architectures, near_names

    owner, _, name = repository.partition("/")
    known = [f"{architecture}.{tag}" for architecture, entry in architectures().items() for tag in entry["tags"]]
    return f" {near_names(name, known)}" if owner == "timm" else ""


def _listing(repository: str, revision: str | None) -> list[str]:
    """The names of a repository's files; none if they cannot be had."""
    try:
        return huggingface_hub.HfApi().list_repo_files(repository, revision=revision)
    except Exception:  # the caller reports missing weights in any case
        return []


def _commit(file: Path | None) -> str | None:
    """The commit that a file of the hub's cache belongs to: `snapshots/<commit>/<file>`."""
    return file.parent.name if file is not None and _COMMIT.fullmatch(file.parent.name) else None


def _shards(index: Path) -> list[str]:
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


def _no_weights(what: str, names: Iterable[str]) -> Exception:
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
