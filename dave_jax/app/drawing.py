"""The parts of the page that change, as HTML: templates from `static/`, with every text escaped and pictures inside."""

import base64
import functools
import html
import io
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from dave_jax.app.question import Answer, Question, titles
from dave_jax.models.model import Model
from dave_jax.plot import heat_picture, overlay

STATIC = Path(__file__).parent / "static"
"""Style and templates."""

_SHOWN = 5


@functools.cache
def _template(name: str) -> string.Template:
    return string.Template((STATIC / f"{name}.html").read_text(encoding="utf-8"))


def fill(template: str, /, **values: object) -> str:
    """A template with these values, which are escaped.

    Example:
        >>> fill("notice", message="<b>no</b>")
        '<p class="dj-notice" role="alert">&lt;b&gt;no&lt;/b&gt;</p>\\n'
    """
    return _fill(template, **{key: html.escape(str(value)) for key, value in values.items()})


def _fill(template: str, /, **values: object) -> str:
    return _template(template).substitute({key: str(value) for key, value in values.items()})


def as_url(image: Image.Image) -> str:
    """A picture inside its address: the page asks for nothing else."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def percent(probability: float) -> str:
    """With a digit where it is small.

    Example:
        >>> percent(0.984), percent(0.0123), percent(1e-9)
        ('98 %', '1.2 %', '< 0.1 %')
    """
    if probability < 0.001:
        return "< 0.1 %"
    return f"{probability:.0%}".replace("%", " %") if probability >= 0.0995 else f"{100 * probability:.1f} %"


def board(
    model: Model,
    pixels: Float[np.ndarray, "h w 3"],
    odds: Float[np.ndarray, " classes"],
    question: Question,
    answer: Answer | None = None,
    status: str = "",
    waiting: bool = False,
) -> str:
    """Photograph, probabilities and maps.

    Args:
        model: what predicts.
        pixels: the photograph as the model sees it, in [0, 1].
        odds: probabilities of the classes.
        question: what is asked; its classes are marked among the probabilities.
        answer: the maps; None before there are any.
        status: a line under the maps.
        waiting: whether more is to come.
    """
    picture = Image.fromarray(np.round(255 * pixels).astype(np.uint8))
    blank = "One moment." if waiting else "Choose the classes, then press Explain."
    maps = fill("blank", text=blank) if answer is None else "".join(_maps(model, pixels, odds, question, answer))
    done = None if answer is None else answer.num_samples
    progress = fill("progress", total=question.num_samples, done=done or 0) if waiting else ""
    return _fill(
        "board",
        photo=as_url(picture),
        width=picture.width,
        height=picture.height,
        odds="".join(_odds(model, odds, question)),
        maps=maps,
        count=0 if answer is None else len(answer.maps),
        samples="" if done is None else done,
        status=html.escape(status),
        progress=progress,
    )


def _odds(model: Model, odds: Float[np.ndarray, " classes"], question: Question) -> list[str]:
    """The most probable classes, and those that are asked about."""
    first = np.argsort(-odds, kind="stable")[:_SHOWN].tolist()
    rows = [*first, *(target for target in question.targets if target not in first)]
    return [
        fill(
            "odds",
            kind="dj-asked" if row in question.targets else "dj-other",
            name=model.class_name(row),
            percent=percent(float(odds[row])),
            width=f"{100 * odds[row]:.2f}%",
        )
        for row in rows
    ]


def _maps(
    model: Model, pixels: Float[np.ndarray, "h w 3"], odds: Float[np.ndarray, " classes"], question: Question, answer: Answer
) -> list[str]:
    names = titles(question, model)
    notes: Sequence[str] = [percent(float(odds[target])) for target in question.targets]
    if question.contrast:
        notes = [" and ".join(notes)]
    parts = []
    for name, note, heat in zip(names, notes, answer.maps, strict=True):
        parts.append(fill("map", overlay=as_url(overlay(pixels, heat)), map=as_url(heat_picture(heat)), name=name, note=note))
    return parts
