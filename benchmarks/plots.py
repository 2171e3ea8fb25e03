"""Plots of what the other scripts measured: time and utilisation against the chunk, likeness against samples, memory, devices.

    python benchmarks/plots.py benchmarks/results docs/performance.png

Of each script the newest JSON of each device and model counts. What has not been measured gets no plot.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def newest(folder: Path, name: str, tell: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
    """The results of one script, the last of those that `tell` maps to the same."""
    found: dict[Any, dict[str, Any]] = {}
    for path in sorted(folder.glob(f"{name}_*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        found[tell(result)] = result
    return list(found.values())


def draw_speed(results: list[dict[str, Any]], time: Axes, share: Axes) -> None:
    """A line for each device, model and precision, of runs over several chunks."""
    for result in results:
        for model in result["models"]:
            rows = [row for row in model["rows"] if row.get("classes") == 1]
            for kind in dict.fromkeys((row["precision"], row["adjoint"]) for row in rows):
                chosen = sorted((row for row in rows if (row["precision"], row["adjoint"]) == kind), key=lambda row: row["chunk"])
                if len(chosen) < 2:
                    continue
                label = f"{result['context']['device']}, {model['model'].removesuffix('_patch16_224')}, {kind[0]}, {kind[1]}"
                chunks = [row["chunk"] for row in chosen]
                time.plot(chunks, [row["ms"] for row in chosen], "o-", label=label)
                share.plot(chunks, [row["utilisation"] for row in chosen], "o-", label=label)
    for axes, title in ((time, "ms a sample"), (share, "share of the machine's rate of matrix products")):
        axes.set(xscale="log", xlabel="samples at once", title=title)
    time.set_yscale("log")
    share.set_ylim(0)
    share.axhline(1, color="grey", linewidth=0.8)
    time.legend(fontsize="x-small")


def draw_samplers(result: dict[str, Any], axes: Axes) -> None:
    """Likeness to the map of many samples, with the standard error over photographs."""
    settings, values = result["settings"], np.array(result["correlation"])  # photographs, samplers, averages, counts, repeats
    drawn = (
        ("independent", "mad_mean", "o-"),
        ("lattice", "mad_mean", "s--"),
        ("lattice", "biweight", "^:"),
        ("lattice", "smoothed", "v-."),
    )
    for sampler, average, line in drawn:
        if sampler in settings["samplers"] and average in settings["averages"]:
            chosen = values[:, settings["samplers"].index(sampler), settings["averages"].index(average)].mean(-1)
            error = chosen.std(axis=0, ddof=1) / np.sqrt(len(chosen))
            axes.errorbar(settings["counts"], chosen.mean(0), error, fmt=line, capsize=2, label=f"{sampler}, {average}")
    axes.axhline(np.array(result["halves"])[:, 0].mean(), color="grey", linewidth=0.8, label="halves of the reference")
    title = f"likeness to {settings['reference']:,} samples, {len(values)} photographs\n{Path(settings['model'] or 'embedded model').name}"
    axes.set(xscale="log", xlabel="samples", title=title)
    axes.set_xticks(settings["counts"], settings["counts"])
    axes.minorticks_off()
    axes.legend(fontsize="x-small")


def draw_pointing(result: dict[str, Any], axes: Axes) -> None:
    """The grid pointing game against the number of samples, with the standard error over mosaics."""
    settings, values = result["settings"], np.array(result["scores"])  # ways, counts, mosaics
    error = values.std(axis=-1, ddof=1) / np.sqrt(values.shape[-1])
    for way, mean, wide, line in zip(settings["ways"], values.mean(-1), error, ("o-", "^:", "v-."), strict=True):
        axes.errorbar(settings["counts"], mean, wide, fmt=line, capsize=2, label=way)
    title = f"grid pointing game, {values.shape[-1]} mosaics\n{Path(settings['model'] or 'embedded model').name}"
    axes.set(xscale="log", xlabel="samples", title=title)
    axes.set_xticks(settings["counts"], settings["counts"])
    axes.minorticks_off()
    axes.legend(fontsize="x-small")


def draw_memory(result: dict[str, Any], axes: Axes) -> None:
    """A line for each image size, with all samples held and with a pilot."""
    rows, pilot = result["rows"], result["settings"]["pilot"]
    for size in dict.fromkeys(row["image_size"] for row in rows):
        for held, line in (("all samples held", "o-"), (f"{pilot} samples held", "s--")):
            chosen = [row for row in rows if row["image_size"] == size]
            chosen = [row for row in chosen if row["pilot"] == (row["samples"] if held.startswith("all") else min(pilot, row["samples"]))]
            axes.plot([row["samples"] for row in chosen], [row["bytes"] / 2**20 for row in chosen], line, label=f"{size} pixels, {held}")
    title = f"MiB of the program, {result['settings']['chunk']} samples at once"
    axes.set(xscale="log", yscale="log", xlabel="samples", title=title)
    axes.legend(fontsize="x-small")


def draw_scaling(result: dict[str, Any], axes: Axes) -> None:
    """Bars: the predicted share of linear speed where devices share the samples of an image."""
    for i, row in enumerate(result["predictions"]):
        axes.barh(i, row["efficiency"], color=f"C{i // len(result['machines'])}")
        axes.text(row["efficiency"] - 0.01, i, f"{row['efficiency']:.3f}", ha="right", va="center", color="white")
    axes.set_yticks(
        range(len(result["predictions"])), [f"{row['aggregation']}\n{row['machine']}" for row in result["predictions"]], fontsize=6
    )
    axes.set(xlim=(0, 1), title="predicted share of linear speed,\ndevices sharing an image's samples")


def main(arguments: list[str] | None = None) -> list[str]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder of JSON")
    parser.add_argument("picture", type=Path, help="PNG")
    given = parser.parse_args(arguments)
    speed = newest(given.results, "speed", lambda result: (result["context"]["device"], str(result["settings"])))
    speed = [result for result in speed if result["settings"]["chunks"] and "," in result["settings"]["chunks"]]
    samplers = newest(given.results, "samplers", lambda result: result["settings"]["model"])
    pointing = newest(given.results, "pointing", lambda result: result["settings"]["model"])
    memory = newest(given.results, "memory", lambda _: None)
    scaling = newest(given.results, "scaling", lambda _: None)
    drawn = ((samplers, draw_samplers), (pointing, draw_pointing), (memory, draw_memory), (scaling, draw_scaling))
    plots = ["speed", "utilisation"] * bool(speed) + [result["benchmark"] for results, _ in drawn for result in results]
    if not plots:
        raise FileNotFoundError(f"{str(given.results)!r} holds no results to plot. Run the other scripts with --output first.")
    figure = Figure(figsize=(11, 3.6 * -(-len(plots) // 2)), layout="constrained")
    panels = iter(figure.subplots(-(-len(plots) // 2), 2, squeeze=False).ravel())
    if speed:
        draw_speed(speed, next(panels), next(panels))
    for results, draw in drawn:
        for result in results:
            draw(result, next(panels))
    for rest in panels:
        rest.remove()
    given.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(given.picture, dpi=100)
    print(f"{', '.join(plots)}: written to {given.picture}")
    return plots


if __name__ == "__main__":
    main()
