"""The page: which function of `session` answers to which control."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dave_jax.app.drawing import board, fill
from dave_jax.app.layout import CONTRAST, SINGLE, choices, empty, layout
from dave_jax.app.question import Question, has_samples, likely
from dave_jax.app.session import Studio, Upload, look, respond
from dave_jax.batch.extras import need


def page(studio: Studio, examples: Sequence[Path], num_samples: int = 32) -> Any:
    """The page of a studio, gradio's `Blocks`; arguments as in `layout`."""
    gr = need("gradio", "'dave-jax[app]'")
    made = layout(studio, examples, num_samples)
    show, hide, keep = gr.update(visible=True), gr.update(visible=False), gr.skip()

    def see(name: str, upload: Upload | None, request: gr.Request) -> list[Any]:  # pyright: ignore[reportInvalidTypeForm]
        """A photograph or a model was chosen."""
        session, model = str(request.session_hash), studio.models.get(name) or next(iter(studio.models.values()))
        blank = [empty(model, name), *(gr.update(choices=choices(model), value=value) for value in ([], None, None)), hide, hide]
        if upload is None:
            studio.turns.leave(session)
            return ["", *blank]
        with messages() as failed:
            seen = look(studio, name, upload, session)
            order, named = np.argsort(-seen.odds, kind="stable").tolist(), choices(model, seen.odds)
            first = likely(seen.odds)
            updates = [gr.update(choices=named, value=value) for value in (first, order[0], order[min(1, len(order) - 1)])]
            return ["", board(model, seen.pixels, seen.odds, Question(tuple(first))), *updates, hide, hide]
        return [fill("notice", message=failed[0]), *blank]

    def explain(
        name: str,
        upload: Upload | None,
        kind: str,
        classes: list[int],
        one: int | None,
        other: int | None,
        method: str,
        num_samples: int,
        seed: int | None,
        request: gr.Request,  # pyright: ignore[reportInvalidTypeForm]
    ) -> Iterator[list[Any]]:
        """Maps, one after the other, and at the end the files."""
        if upload is None:
            yield [fill("notice", message="Drop a photograph first, or pick an example."), *[keep] * 6]
            return
        targets = tuple(target for target in (one, other) if target is not None) if kind == CONTRAST else tuple(classes)
        with messages() as failed:
            question = Question(targets, kind == CONTRAST, method, int(num_samples), int(seed or 0))
            cleared: Any = ""  # by the first only: one that is late must not take away what Stop says
            for now in respond(studio, name, upload, question, str(request.session_hash)):
                if now.maps is None:
                    yield [cleared, now.board, hide, keep, keep, hide, keep]
                    cleared = keep
                else:
                    yield [keep, now.board, show, str(now.picture), str(now.maps), show, now.code]
                    shutil.rmtree(now.maps.parent, ignore_errors=True)  # gradio has copies, which it removes in time
        # At the end gradio sends what came last once more; if that cleared the notice, it would take away what Stop says after all.
        yield [fill("notice", message=failed[0]) if failed else keep, *[keep] * 6]

    def stop(request: gr.Request) -> str:  # pyright: ignore[reportInvalidTypeForm]
        studio.turns.leave(str(request.session_hash))
        return fill("notice", message="Stopped. Explain starts again.")

    def forget(request: gr.Request) -> None:  # pyright: ignore[reportInvalidTypeForm]
        studio.turns.leave(str(request.session_hash))

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    at_once, in_line = quiet | {"queue": False}, quiet | {"trigger_mode": "multiple", "concurrency_limit": None}  # `turns` is the line
    seen = [made.notice, made.board, made.classes, made.one, made.other, made.files, made.program]
    asked = [made.model, made.photo, made.kind, made.classes, made.one, made.other, made.method, made.samples, made.seed]
    with made.blocks:
        made.photo.change(see, [made.model, made.photo], seen, **in_line)
        made.model.change(see, [made.model, made.photo], seen, **in_line)
        outputs = [made.notice, made.board, made.files, made.picture, made.maps, made.program, made.code]
        made.go.click(explain, asked, outputs, **in_line)
        made.stop.click(stop, None, made.notice, **at_once)
        made.kind.change(
            lambda kind: [show if kind == SINGLE else hide, show if kind == CONTRAST else hide],
            made.kind,
            [made.classes, made.pair],
            **at_once,
        )
        made.method.change(lambda name: gr.update(interactive=has_samples(name)), made.method, made.samples, **at_once)
        made.blocks.unload(forget)
    return made.blocks


@contextlib.contextmanager
def messages() -> Iterator[list[str]]:
    """Errors of the block, as messages for the visitor."""
    failed: list[str] = []
    try:
        yield failed
    except (ValueError, TypeError, OSError) as error:
        failed.append(str(error))
    except RuntimeError as error:
        scarce = "RESOURCE_EXHAUSTED" in str(error)
        failed.append("The device's memory does not suffice. Choose fewer classes." if scarce else f"The computation failed: {error}")
