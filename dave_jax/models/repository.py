"""A model's files in a repository of the Hugging Face hub, downloaded where its cache lacks them."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors as hub_errors

from dave_jax.models.files import CONFIG, INDEX, OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS, WEIGHTS, Found, no_weights, shard_names

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


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
        raise no_weights(f"The hub repository {repository!r}", _listing(repository, commit))
    return dataclasses.replace(found, weights=weights, place=f"{repository}@{_commit(weights[0]) or commit}")


def _download_weights(repository: str, revision: str | None) -> tuple[Path, ...]:
    """The weights, in one file or in shards; none, where the repository has neither."""
    weights = _download(repository, WEIGHTS, revision)
    if weights is not None:
        return (weights,)
    index = _download(repository, INDEX, revision)
    if index is None:
        return ()
    shards = {name: _download(repository, name, revision) for name in shard_names(index)}
    missing = [name for name, file in shards.items() if file is None]
    if missing:
        raise FileNotFoundError(f"The hub repository {repository!r} lacks {missing}, which its {INDEX} names. Try another revision.")
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
