"""What a visitor's requests do: from a file and settings to what the page shows and the files that it offers. Knows no page."""

import dataclasses
import hashlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from dave_jax.app.drawing import board
from dave_jax.app.limits import Limits, open_photo
from dave_jax.app.question import Answer, Question, answers, check, chosen_method, probabilities, titles
from dave_jax.app.snippet import EXAMPLES, Source, snippet
from dave_jax.app.turns import Turn, Turns
from dave_jax.commands import provenance_of
from dave_jax.models.model import Model
from dave_jax.results import describe, output_paths, write

_PAUSE = 0.2  # seconds between two looks at the line


@dataclasses.dataclass(frozen=True)
class Upload:
    """A file that somebody chose.

    Attributes:
        path: where it is here.
        name: what it is called there.
    """

    path: Path
    name: str


@dataclasses.dataclass(frozen=True)
class Studio:
    """What all visitors share.

    Attributes:
        models: by the name that is shown.
        sources: where each came from.
        limits: of uploads.
        folder: for files, which is removed at the end.
        turns: the line of requests.
    """

    models: Mapping[str, Model]
    sources: Mapping[str, Source]
    limits: Limits
    folder: Path
    turns: Turns = dataclasses.field(default_factory=Turns)


@dataclasses.dataclass(frozen=True)
class Seen:
    """A photograph as a model sees it.

    Attributes:
        images: normalised, a batch of one.
        pixels: in [0, 1].
        logits: of the classes.
    """

    images: Float[Array, "1 h w 3"]
    pixels: Float[np.ndarray, "h w 3"]
    logits: Float[np.ndarray, " classes"]

    @property
    def odds(self) -> Float[np.ndarray, " classes"]:
        """The classes' probabilities."""
        return probabilities(self.logits)


@dataclasses.dataclass(frozen=True)
class Shown:
    """What the page shows.

    Attributes:
        board: HTML of photograph, probabilities and maps.
        busy: whether more is to come.
        picture: a PNG to download, when all is done.
        maps: an npz to download, likewise.
        code: the settings as a program, likewise.
    """

    board: str
    busy: bool = False
    picture: Path | None = None
    maps: Path | None = None
    code: str = ""


def look(studio: Studio, name: str, upload: Upload, session: str) -> Seen:
    """What a model makes of a photograph; what this visitor asked before is over.

    Raises:
        ValueError: an upload that is refused, an unknown model; the line is too long.
    """
    studio.turns.leave(session)
    model = _model(studio, name)
    photo = open_photo(upload.path, studio.limits, model.preprocessing)
    turn = Turn(session, 0.0)  # a forward pass waits for the step in progress, not for the line
    return studio.turns.work(turn, lambda: _see(model, photo))


def _see(model: Model, photo: Any) -> Seen:
    images = model.preprocess(photo)
    return Seen(images, model.preprocessing.denormalise(images)[0], np.asarray(model.logits(images))[0])


def respond(studio: Studio, name: str, upload: Upload, question: Question, session: str) -> Iterator[Shown]:
    """Answer a question: what to show while it waits, after each round of samples, and at the end with the files.

    It ends early, without another word, when the visitor asks something else or stops it (`studio.turns.leave`).

    Raises:
        ValueError: an upload that is refused, a question that the model cannot be asked; the line is too long.
    """
    turn = studio.turns.take(session)
    try:
        model = _model(studio, name)
        photo = open_photo(upload.path, studio.limits, model.preprocessing)
        seen = studio.turns.work(turn, lambda: _see(model, photo))
        check(question, len(seen.logits))
        question = dataclasses.replace(question, num_samples=_count(question, model))
        draw = lambda answer, status, busy: board(model, seen.pixels, seen.odds, question, answer, status, busy)
        while ahead := studio.turns.ahead(turn):
            yield Shown(draw(None, f"Waiting: {ahead} before you.", True), True)
            time.sleep(_PAUSE)
        yield Shown(draw(None, "Computing the first samples. The first time this includes compiling.", True), True)
        started, steps = time.monotonic(), answers(question, model, seen.images, len(seen.logits))
        while studio.turns.ahead(turn) is not None:
            answer = studio.turns.work(turn, lambda: next(steps))
            if studio.turns.ahead(turn) is None:
                return
            if answer.last:
                studio.turns.drop(turn)
                status = _status(answer, time.monotonic() - started)
                picture, maps = offer(studio, name, upload, question, seen, answer)
                code = snippet(studio.sources[name], model, known_name(upload), question, len(seen.logits))
                yield Shown(draw(answer, status, False), False, picture, maps, code)
                return
            yield Shown(draw(answer, f"{answer.num_samples} of {question.num_samples} samples", True), True)
    finally:
        studio.turns.drop(turn)


def known_name(upload: Upload) -> str:
    """The file's name, that of an example where it is one of ours; of another file never an example's."""
    digest = _sha256(upload.path)
    for example in sorted(EXAMPLES.glob("*.jpg")):
        if _sha256(example) == digest:
            return example.name
    name = upload.name.replace("\\", "/").rpartition("/")[2] or "photo"
    return f"my_{name}" if (EXAMPLES / name).exists() else name


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def offer(studio: Studio, name: str, upload: Upload, question: Question, seen: Seen, answer: Answer) -> tuple[Path, Path]:
    """Write what can be downloaded, as `dave-jax explain` writes it: the panel and the npz. Returns their paths.

    Of a contrast the npz holds one map; its `target` and `probability` are the first class's, and `provenance` has the other one
    (`rather_than`).
    """
    model = studio.models[name]
    folder = Path(tempfile.mkdtemp(dir=studio.folder))
    result = describe(model, known_name(upload), seen.logits, question.targets)
    provenance = provenance_of(model, question.method, chosen_method(question, model), question.seed)
    if question.contrast:
        first, second = result["targets"]
        provenance["rather_than"] = second
        result["targets"] = [first | {"name": titles(question, model)[0]}]
    (paths,) = output_paths([result["photo"]], folder, ".npz")
    write(paths, answer.maps, seen.pixels, result, provenance, upload.path)
    return paths["panel"], paths["map"]


def _count(question: Question, model: Model) -> int:
    """The samples that there will be, for the progress."""
    config = getattr(chosen_method(question, model), "config", None)
    return question.num_samples if config is None else config.num_samples


def _status(answer: Answer, seconds: float) -> str:
    samples = "" if answer.num_samples is None else f"{answer.num_samples} samples, "
    return f"Done: {samples}{seconds:.1f} s."


def _model(studio: Studio, name: str) -> Model:
    if name not in studio.models:
        raise ValueError(f"There is no model {name!r} here. Choose one of the list.")
    return studio.models[name]
