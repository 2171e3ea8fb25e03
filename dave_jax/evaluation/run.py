"""`run`: every method on every subject, scored and written one by one, so that an interrupted run goes on where it stopped.

run.json         what the results depend on: model, data, methods, metrics, seed; another run into the same folder is refused
choice.json      the photographs, and the mosaics with their cells
scores.jsonl     a line for each method and subject, in a fixed order: the same command gives the same bytes, interrupted or not
timing.jsonl     seconds for each; these differ
maps/METHOD/     heat maps of the first photographs, for pictures
"""

import dataclasses
import io
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from dave_jax.attribution.method import Method
from dave_jax.evaluation.choice import Choice, choose, restore, store
from dave_jax.evaluation.data import Photograph
from dave_jax.evaluation.grid import mosaic
from dave_jax.evaluation.log import append_line, plain, read_lines, write_bytes, write_document
from dave_jax.evaluation.metric import Case, Metric
from dave_jax.evaluation.settings import Settings, check, check_folder, describe
from dave_jax.models.model import Model
from dave_jax.models.resize import at_image_size

NUM_SHOWN = 6
"""How many subjects' heat maps are kept."""


MOST_MAPPINGS = 20_000
"""Memory mappings of this process beyond which compiled programs are dropped after a method; see `forget_programs`."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is explained: a photograph or a mosaic."""

    name: str
    photographs: tuple[Photograph, ...]


def run(
    model: Model,
    photographs: Sequence[Photograph],
    methods: Mapping[str, Method],
    metrics: Mapping[str, Metric],
    folder: Path,
    settings: Settings,
    *,
    progress: bool = False,
) -> None:
    """Explain, score and write; see the module. Run again after an interruption with the same arguments, or with more methods at the end.

    Args:
        model: what is explained.
        photographs: from `data.read`.
        methods: by name, in order.
        metrics: by name.
        folder: for the results.
        settings: the rest.
        progress: show it on standard error.

    Raises:
        ValueError: a metric needs boxes or mosaics and there are none, or the folder holds another run. Nothing has been computed then.
    """
    needs = {metric.needs for metric in metrics.values()}
    check(photographs, methods, metrics)
    configuration = describe(model, photographs, methods, metrics, settings)
    height, width = model.preprocessing.image_size
    large = at_image_size(model, (settings.rows * height, settings.rows * width)) if "mosaic" in needs else model
    check_folder(folder, configuration)
    choice = _choose(model, photographs, needs, settings, folder / "choice.json")
    if "region" in needs and not any(photograph.marked for photograph in choice.photographs):
        raise ValueError(
            f"None of the {len(choice.photographs)} chosen photographs has boxes or a mask: choose more, or leave out such metrics."
        )
    subjects = subjects_of(choice, needs)
    jobs = [(name, subject) for name in methods for subject in subjects]
    write_document(folder / "run.json", configuration)
    write_document(folder / "choice.json", store(choice, model))
    done = _finished(folder, jobs)
    key = jax.random.key(settings.seed)
    for number in tqdm(range(done, len(jobs)), initial=done, total=len(jobs), unit="map", disable=not progress):
        name, subject = jobs[number]
        single = len(subject.photographs) == 1
        seen = model if single else large
        case, seconds = _explain(model, seen, methods[name], subject, key)
        if subject in subjects[:NUM_SHOWN]:
            _keep(folder / "maps" / name / f"{subjects.index(subject)}.npy", methods[name], seen, case)
        found = {metric: plain(dict(chosen.score(case))) for metric, chosen in metrics.items() if applies(chosen, case)}
        append_line(folder / "timing.jsonl", {"method": name, "subject": subject.name, "maps": len(case.targets), "seconds": seconds})
        append_line(folder / "scores.jsonl", {"method": name, "subject": subject.name, "scores": found})
        if subject is subjects[-1]:
            forget_programs()


def forget_programs() -> None:
    """Drop compiled programs before the system does not allow more: on Linux each takes some of a process's 65530 memory mappings."""
    mappings = Path("/proc/self/maps")
    if mappings.is_file() and mappings.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()


def applies(metric: Metric, case: Case) -> bool:
    """Whether a metric can be computed on a case."""
    if len(case.targets) > 1 or metric.needs == "mosaic":
        return len(case.targets) > 1 and metric.needs == "mosaic"
    return metric.needs == "photograph" or case.regions is not None


def subjects_of(choice: Choice, needs: set[str]) -> list[Subject]:
    """Photographs in their order, then mosaics."""
    alone = choice.photographs if "photograph" in needs else [one for one in choice.photographs if "region" in needs and one.marked]
    return [Subject(one.name, (one,)) for one in alone] + [Subject(f"mosaic {i}", cells) for i, cells in enumerate(choice.mosaics)]


def _finished(folder: Path, jobs: Sequence[tuple[str, Subject]]) -> int:
    """How many jobs are done; what was half written is cut off."""
    read_lines(folder / "timing.jsonl")
    lines = read_lines(folder / "scores.jsonl")
    expected = [(name, subject.name) for name, subject in jobs]
    for line, due in zip(lines, expected, strict=False):
        found = line.get("method"), line.get("subject")
        if found != due:
            raise ValueError(f"{str(folder / 'scores.jsonl')!r} has a line for {found}, where {due} is due. Give a new folder.")
    return min(len(lines), len(jobs))


def _explain(model: Model, seen: Model, method: Method, subject: Subject, key: jax.Array) -> tuple[Case, float]:
    """The case of a subject, and the seconds that its maps took; `seen` is the model at the subject's size."""
    rows = round(len(subject.photographs) ** 0.5)
    image = mosaic(model.preprocess([photograph.photo() for photograph in subject.photographs]))
    targets = jnp.asarray([photograph.target for photograph in subject.photographs])
    number = np.uint32(zlib.crc32(subject.name.encode()))

    def attribute(other: Model, images: Any, ids: Any) -> jax.Array:
        # One number for all: a moved or noisy copy of the image is explained with the same transforms and noise, and maps differ because
        # images do.
        return method(other, images, ids, key=key, image_ids=np.full(len(images), number), raw=True)

    start = time.perf_counter()
    maps = jax.block_until_ready(attribute(seen, image[None], targets[None]))[0]
    seconds = time.perf_counter() - start

    def explain(other: Model, images: Any, ids: Any) -> jax.Array:
        own = other is model and rows == 1 and np.shape(ids) == (1,) and jnp.array_equal(images, image[None])
        if own and int(ids[0]) == int(targets[0]):
            return maps
        return attribute(other, images, ids)

    own_key = jax.random.fold_in(key, number)
    return Case(model, method, image, targets, maps, _regions(model, subject, rows), own_key, explain), round(seconds, 6)


def _regions(model: Model, subject: Subject, rows: int) -> jax.Array | None:
    height, width = model.preprocessing.image_size
    if rows > 1:
        cell = rows * (jnp.arange(rows * height) // height)[:, None] + (jnp.arange(rows * width) // width)[None, :]
        return cell[None] == jnp.arange(rows * rows)[:, None, None]
    (photograph,) = subject.photographs
    return jnp.asarray(photograph.region(model.preprocessing))[None] if photograph.marked else None


def _keep(path: Path, method: Method, seen: Model, case: Case) -> None:
    fitted = method.fitted(seen, jax.ShapeDtypeStruct(case.image.shape, case.image.dtype), 1)  # whose filters may be the model's
    file = io.BytesIO()
    np.save(file, np.asarray(fitted.heat_map(case.maps[0]), np.float16))
    write_bytes(path, file.getvalue())


def _choose(model: Model, photographs: Sequence[Photograph], needs: set[str], settings: Settings, path: Path) -> Choice:
    """As an earlier run wrote it, or anew."""
    if path.is_file():
        return restore(json.loads(path.read_text(encoding="utf-8")), photographs)
    return choose(
        photographs,
        model,
        seed=settings.seed,
        count=settings.max_images if {"photograph", "region"} & needs else 0,
        num_mosaics=settings.num_mosaics if "mosaic" in needs else 0,
        rows=settings.rows,
        min_confidence=settings.min_confidence,
        marked_first="region" in needs,
    )
