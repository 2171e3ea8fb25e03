"""What the page holds, and how it looks: gradio's components, before anything answers to them."""

import abc
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import Float

from dave_jax.app.drawing import fill
from dave_jax.app.question import MOST_TARGETS
from dave_jax.app.session import Studio, Upload
from dave_jax.attribution.methods import available
from dave_jax.batch.extras import need
from dave_jax.models.model import Model

SINGLE, CONTRAST = "Each class by itself", "One class rather than another"
_SYSTEM = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def photo_class(gr: Any) -> Any:
    """gradio's component for a photograph, but that it hands on the file, undecoded: what it may be is for `limits` to say."""

    def own(self: Any, path: str | Path) -> Path:
        found = Path(path).resolve()
        if not found.is_relative_to(Path(self.GRADIO_CACHE).resolve()) or not found.is_file():
            raise gr.Error("A photograph must be uploaded.", print_exception=False)
        return found

    def preprocess(self: Any, payload: Any) -> Upload | None:
        if payload is None or payload.path is None:
            return None
        return Upload(own(self, payload.path), payload.orig_name or Path(payload.path).name)

    def move(self: Any, url_or_file_path: str | Path | None) -> str | None:
        """The path itself: nothing is fetched from elsewhere, and nothing but uploads is read."""
        return None if url_or_file_path is None else str(own(self, url_or_file_path))

    async def move_later(self: Any, url_or_file_path: str | Path | None) -> str | None:
        return move(self, url_or_file_path)

    own_methods = {
        "__module__": __name__,
        "is_template": True,  # drawn as what it is made of
        "preprocess": preprocess,
        "move_resource_to_block_cache": move,
        "async_move_resource_to_block_cache": move_later,
    }
    # Not by a class statement, at which gradio would write a .pyi file beside this one.
    return abc.ABCMeta.__new__(type(gr.Image), "Photo", (gr.Image,), own_methods)


def theme(gr: Any) -> Any:
    """Calm, in fonts of the system: none is fetched."""
    return gr.themes.Base(primary_hue="slate", neutral_hue="slate", radius_size="sm", font=_SYSTEM, font_mono=_MONO).set(
        body_background_fill="#fbfbfa",
        body_background_fill_dark="#14161a",
        body_text_color_subdued="#586274",
        body_text_color_subdued_dark="#a3adbd",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1c1f25",
        button_primary_background_fill="#1f4b99",
        button_primary_background_fill_hover="#173a78",
        button_primary_background_fill_dark="#2f62bd",
        button_primary_background_fill_hover_dark="#2b5ab0",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
    )


def layout(studio: Studio, examples: Sequence[Path], num_samples: int) -> SimpleNamespace:
    """The components of the page, and `blocks`, which holds them.

    Args:
        studio: its models can be chosen.
        examples: photographs to pick from, in gradio's folder of uploads.
        num_samples: to begin with.
    """
    gr = need("gradio", "'dave-jax[app]'")
    names = list(studio.models)
    first = studio.models[names[0]]
    with gr.Blocks(title="DAVE", analytics_enabled=False, delete_cache=(600, 3600), fill_width=True) as blocks:
        gr.HTML(fill("heading"))
        with gr.Row(elem_classes="dj-page"):
            with gr.Column(scale=1, min_width=320, elem_classes="dj-controls"):
                what = {"type": "filepath", "image_mode": None, "sources": ["upload", "clipboard"], "buttons": []}
                photo = photo_class(gr)(label="Photograph", height=220, elem_id="photo", **what)
                gr.Examples([[str(path)] for path in examples], photo, label="Examples", cache_examples=False, elem_id="examples")
                model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1, elem_id="model")
                kind = gr.Radio([SINGLE, CONTRAST], value=SINGLE, label="What speaks for", elem_id="kind")
                several = {"multiselect": True, "max_choices": MOST_TARGETS}
                classes = gr.Dropdown(choices(first), value=[], label="Classes", elem_id="classes", **several)
                with gr.Row(visible=False) as pair:
                    one = gr.Dropdown(choices(first), value=None, label="This class", elem_id="one", min_width=120)
                    other = gr.Dropdown(choices(first), value=None, label="rather than", elem_id="other", min_width=120)
                with gr.Row(elem_classes="dj-buttons"):
                    go = gr.Button("Explain", variant="primary", elem_id="explain", min_width=120, scale=3)
                    stop = gr.Button("Stop", elem_id="stop", min_width=80, scale=1)
                with gr.Accordion("Method and samples", open=False, elem_id="more"):
                    method = gr.Dropdown(list(available()), value="dave", label="Method", elem_id="method")
                    slider = {"minimum": 4, "maximum": max(128, num_samples), "step": 1, "elem_id": "samples"}
                    samples = gr.Slider(value=num_samples, label="Samples", info="More take longer and give a smoother map.", **slider)
                    seed = gr.Number(0, label="Seed", minimum=0, maximum=2**32 - 1, precision=0, elem_id="seed")
            with gr.Column(scale=3, min_width=320, elem_classes="dj-results"):
                notice = gr.HTML("", elem_id="notice")
                board = gr.HTML(empty(first, names[0]), elem_id="board")
                with gr.Row(visible=False, elem_classes="dj-files") as files:
                    picture = gr.DownloadButton("Download picture (PNG)", elem_id="picture", min_width=220, size="md")
                    maps = gr.DownloadButton("Download maps (npz)", elem_id="maps", min_width=220, size="md")
                with gr.Accordion("The same in Python", open=False, visible=False, elem_id="program") as program:
                    plain = {"show_label": False, "show_line_numbers": False, "interactive": False, "wrap_lines": True}
                    code = gr.Code(language="python", elem_id="code", **plain)
    blocks.queue(max_size=4 * studio.turns.longest)
    made = {name: value for name, value in locals().items() if isinstance(value, gr.blocks.Block)}
    return SimpleNamespace(**made)


def choices(model: Model, odds: Float[np.ndarray, " classes"] | None = None) -> list[tuple[str, int]]:
    """The classes by name, the most probable first; one of several of the same name has its number behind it.

    Example:
        >>> import dave_jax as dave
        >>> choices(dave.testing.tiny_model(), np.array([0.1, 0.2, 0.4, 0.3, 0.0]))[:2]
        [('2', 2), ('3', 3)]
    """
    classes = range(len(model.class_names or ())) if odds is None else np.argsort(-odds, kind="stable").tolist()
    names = [model.class_name(target) for target in classes]
    twice = {name for name, count in zip(*np.unique(names or [""], return_counts=True), strict=True) if count > 1}
    return [(f"{name} ({target})" if name in twice else name, target) for name, target in zip(names, classes, strict=True)]


def empty(model: Model, name: str) -> str:
    """What stands in the place of the maps before there is a photograph."""
    return fill("empty", model=name, classes=len(model.class_names or ()) or "Numbered")
