"""What a run of `evaluation.run` came to, as files: tables, curves, a grid of pictures, and a page that shows them.

summary.json   table.md   differences.md   timing.md
METRIC.png     the mean curves of deletion and insertion
maps.png       heat maps: a row for each method, a column for each of the first subjects
index.html     all of it; needs no network
"""

import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dave_jax.evaluation.choice import restore
from dave_jax.evaluation.data import Photograph
from dave_jax.evaluation.grid import mosaic
from dave_jax.evaluation.log import write_bytes, write_document
from dave_jax.evaluation.metric import Metric
from dave_jax.evaluation.run import NUM_SHOWN, subjects_of
from dave_jax.evaluation.summary import seconds_per_map, summarise
from dave_jax.evaluation.table import differences, table, timing_table
from dave_jax.models.model import Model
from dave_jax.pages.folder import asset, document
from dave_jax.plot import curves, overlay, tiles


def write_scores(folder: Path, model: Model, photographs: Sequence[Photograph], metrics: Mapping[str, Metric], seed: int) -> dict[str, Any]:
    """Write the files above beside the scores; returns the summary."""
    summary = summarise(folder, metrics, seed)
    write_document(folder / "summary.json", summary)
    texts = {
        "table": table(summary, metrics),
        "differences": differences(summary, metrics),
        "timing": timing_table(seconds_per_map(folder)),
    }
    for name, text in texts.items():
        write_bytes(folder / f"{name}.md", text.encode())
    pictures = _draw_curves(folder, summary, metrics) + _draw_maps(folder, model, photographs, metrics, list(summary["methods"]))
    write_bytes(folder / "index.html", _page(folder, texts, pictures, summary).encode())
    return summary


def _draw_curves(folder: Path, summary: Mapping[str, Any], metrics: Mapping[str, Metric]) -> list[str]:
    names = []
    for name, metric in metrics.items():
        found = {method: scores[name] for method, scores in summary["methods"].items() if scores[name]}
        if metric.curves and found:
            x, y = metric.curves[:2]
            picture = curves(
                np.array(next(iter(found.values()))[x]),
                {method: np.array(scores[y]) for method, scores in found.items()},
                x_label=x,
                y_label=f"{y}, mean",
                title=name,
            )
            _save(picture, folder / f"{name}.png")
            names.append(f"{name}.png")
    return names


def _draw_maps(folder: Path, model: Model, photographs: Sequence[Photograph], metrics: Mapping[str, Metric], names: list[str]) -> list[str]:
    choice = restore(json.loads((folder / "choice.json").read_text(encoding="utf-8")), photographs)
    shown = subjects_of(choice, {metric.needs for metric in metrics.values()})[:NUM_SHOWN]
    seen = [
        model.preprocessing.denormalise(mosaic(model.preprocess([photograph.photo() for photograph in subject.photographs])))
        for subject in shown
    ]
    titles = [model.class_name(subject.photographs[0].target) for subject in shown]
    rows = [[(_picture(pixels), title) for pixels, title in zip(seen, titles, strict=True)]]
    for name in names:
        heats = [np.load(folder / "maps" / name / f"{i}.npy").astype(float) for i in range(len(shown))]
        rows.append([(overlay(pixels, heat), name) for pixels, heat in zip(seen, heats, strict=True)])
    height, width = model.preprocessing.image_size  # mosaics are larger
    _save(tiles([[(tile.resize((width, height)), title) for tile, title in row] for row in rows]), folder / "maps.png")
    return ["maps.png"]


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(255 * pixels).astype(np.uint8))


def _save(image: Image.Image, path: Path) -> None:
    file = io.BytesIO()
    image.save(file, "PNG")
    write_bytes(path, file.getvalue())


def _page(folder: Path, texts: Mapping[str, str], names: Sequence[str], summary: Mapping[str, Any]) -> str:
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    parts = [
        f"<h1>{html.escape(run['model']['name'])}</h1>",
        "<h2>Scores</h2><p>Means, with half of their bootstrapped 95 % intervals; the best in bold.</p>",
        _as_html(texts["table"]),
    ]
    if summary["differences"]:
        parts += [
            f"<h2>Differences to {html.escape(summary['reference'])}</h2>",
            "<p>Subject by subject; bold where the interval does not hold 0.</p>",
            _as_html(texts["differences"]),
        ]
    parts += [f'<h2>{html.escape(Path(name).stem)}</h2><img src="{html.escape(name)}" alt="{html.escape(name)}">' for name in names]
    parts += ["<h2>Time</h2>", _as_html(texts["timing"]), f"<h2>Configuration</h2><pre>{html.escape(json.dumps(run, indent=1))}</pre>"]
    content = "\n".join(parts)
    return document("scores", run["model"]["name"], f"<style>\n{asset('base.css')}\n</style>", f"<main>\n{content}\n</main>")


def _as_html(text: str) -> str:
    """A Markdown table of ours as an HTML table."""
    rows = [[_bold(html.escape(cell)) for cell in line.strip("| ").split(" | ")] for line in text.splitlines()]
    kinds = ["th", *("td" for _ in rows[2:])]  # the second line is Markdown's rule
    lines = ["".join(f"<{kind}>{cell}</{kind}>" for cell in row) for kind, row in zip(kinds, [rows[0], *rows[2:]], strict=True)]
    return '<div class="scroll"><table>\n' + "\n".join(f"<tr>{line}</tr>" for line in lines) + "\n</table></div>"


def _bold(cell: str) -> str:
    before, mark, rest = cell.partition("**")
    inside, _, after = rest.partition("**")
    return f"{before}<b>{inside}</b>{after}" if mark else cell
