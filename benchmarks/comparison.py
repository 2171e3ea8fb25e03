"""The comparison of methods: every method and metric on the embedded model and on a real ViT-S, as tables.

    python benchmarks/comparison.py --data ../shared --output benchmarks/results

A run is a folder, what `dave-jax evaluate` writes: interrupted, the same command goes on. `table.md` joins the tables of all runs.
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from context import context

import dave_jax as dave
from dave_jax.attribution.baselines.integrated_gradients import IntegratedGradients
from dave_jax.attribution.baselines.occlusion import Occlusion
from dave_jax.attribution.baselines.rise import Rise
from dave_jax.attribution.dave import Dave
from dave_jax.attribution.method import Method
from dave_jax.attribution.methods import methods, select
from dave_jax.config import DaveConfig
from dave_jax.evaluation.data import read
from dave_jax.evaluation.map_metrics import Perturbation, RelevanceGain
from dave_jax.evaluation.metric import Metric
from dave_jax.evaluation.metrics import metrics
from dave_jax.evaluation.perturbation import PerturbationProtocol
from dave_jax.evaluation.run import run
from dave_jax.evaluation.settings import Settings
from dave_jax.evaluation.summary import seconds_per_map
from dave_jax.evaluation.table import differences, table
from dave_jax.pages.scores import write_scores

SAMPLES = 16
COARSE = {"points": 17}  # of a curve
METRICS: dict[str, Metric] = metrics | {
    "deletion": Perturbation(PerturbationProtocol(**COARSE)),
    "insertion": Perturbation(PerturbationProtocol(first="most", insert=True, fraction=1.0, **COARSE)),
    "srg": RelevanceGain(PerturbationProtocol(fill="mean", fraction=1.0, points=16, ties="random")),
}
LOCALISATION = ("energypg", "pointing", "rank_accuracy")
PERTURBATION = ("deletion", "insertion", "srg")
BEHAVIOUR = ("equivariance", "stability", "discrimination", "randomisation")
GRID = ("gridpg", "grid_discrimination")
WHOLE_MOSAICS = ("dave", "dave_fast", "input_x_gradient", "effective", "attn_lrp", "res_lrp", "legrad")


def compared() -> dict[str, Method]:
    """Every method, at a cost that a CPU bears: 16 samples or nodes, 128 masks, windows of two patches."""
    without = {f"dave_{name}" for name in ("cp_lrp", "gim")}  # averaged around three other decompositions instead
    same = {f"{prefix}{name}" for prefix in ("", "dave_") for name in ("libragrad", "cp_lrp_identity")}  # equal `effective` on these models
    return {
        **select([name for name in methods if name not in without | same], SAMPLES),
        "integrated_gradients": IntegratedGradients(num_steps=SAMPLES),
        "occlusion": Occlusion(window=28, stride=28),
        "rise": Rise(num_masks=128, centred=True),
    }


def averaged() -> dict[str, Method]:
    """Few samples without noise around three decompositions, beside DAVE with 50."""
    found: dict[str, Method] = {"dave-50": Dave(num_samples=50)}
    for decomposition in ("effective", "attn_lrp", "res_lrp"):
        for aggregation in ("mad_mean", "median"):
            for count in (4, 16):
                config = DaveConfig(num_samples=count, noise_alpha=0.0, aggregation=aggregation)
                found[f"{decomposition}-{aggregation}-{count}"] = Dave(config, decomposition)
    return found


@dataclasses.dataclass(frozen=True)
class Run:
    """One table: what is explained, by what, and how it is scored."""

    name: str
    title: str
    model: str | None
    data: str
    methods: Mapping[str, Method]
    metrics: tuple[str, ...]
    settings: Settings
    image_size: int | None = None


def runs() -> list[Run]:
    """All of them, the most telling first."""
    vit, photographs, imagenette = "models/vit_s14_photos98", "images/labels.json", "data/imagenette144-val.tar"
    every, half = compared(), 0.5  # the least probability of a photograph's class
    few = {name: every[name] for name in WHOLE_MOSAICS}
    objects = Settings(max_images=20, min_confidence=half)
    return [
        Run("vit_s_objects", "ViT-S/14, 224 px: marked objects", vit, photographs, every, LOCALISATION, objects),
        Run("embedded_grid", "Embedded model, 2 x 2 mosaics of 112 px", None, imagenette, every, GRID, Settings(num_mosaics=16), 112),
        Run("averaging_embedded", "Averaging: mosaics of 112 px", None, imagenette, averaged(), ("gridpg",), Settings(num_mosaics=12), 112),
        Run("averaging_vit_s", "Averaging: marked objects, ViT-S/14", vit, photographs, averaged(), ("energypg",), objects),
        Run("embedded_removal", "Embedded model: removal of pixels", None, imagenette, every, PERTURBATION, Settings(max_images=16)),
        Run("vit_s_grid", "ViT-S/14, 2 x 2 mosaics of 112 px", vit, photographs, every, GRID, Settings(0, None, 8, 2, half), 112),
        Run("embedded_behaviour", "Embedded model: stability", None, imagenette, every, BEHAVIOUR, Settings(max_images=6), 112),
        Run("vit_s_removal", "ViT-S/14, 224 px: removal of pixels", vit, photographs, every, PERTURBATION, Settings(max_images=6)),
        Run("vit_s_grid_448", "ViT-S/14, 2 x 2 mosaics of 224 px", vit, photographs, few, GRID, Settings(0, None, 6, 2, half)),
    ]


def execute(one: Run, data: Path, output: Path) -> str:
    """Do a run and return its section of the page."""
    model = dave.load(one.model and data / one.model, image_size=one.image_size)
    photographs = read(data / one.data, model, skip_unknown=True)
    folder, chosen = output / one.name, {name: METRICS[name] for name in one.metrics}
    run(model, photographs, one.methods, chosen, folder, one.settings, progress=True)
    summary = write_scores(folder, model, photographs, chosen, one.settings.seed)
    choice = json.loads((folder / "choice.json").read_text())
    seconds = seconds_per_map(folder)
    times = " ".join(f"{name} {each:.2g}," for name, each in seconds.items()).rstrip(",")
    return (
        f"## {one.title}\n\n{len(choice['photographs'])} photographs and {len(choice['mosaics'])} mosaics that qualified.\n\n"
        f"{table(summary, chosen)}\nLess the first method, subject by subject; bold where the 95 % interval leaves out 0:\n\n"
        f"{differences(summary, chosen)}\nSeconds per map: {times}.\n"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared"), help="folder with models, images and data (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="default: %(default)s")
    parser.add_argument("--only", nargs="+", metavar="RUN", choices=[one.name for one in runs()], help="these runs alone")
    given = parser.parse_args(arguments)
    where = context("jax", "jaxlib", "numpy")
    intro = f"{where['cpu']}, {where['cores']} cores, jax {where['versions']['jax']}, {where['date'][:10]}."
    sections = []
    for one in runs():
        finished = (given.output / one.name / "summary.json").is_file()
        if (given.only and one.name not in given.only) and not finished:
            continue
        sections.append(execute(one, given.data, given.output))
        page = ["# Comparison\n", f"`python benchmarks/comparison.py --data ../shared`; {intro}\n", *sections]
        (given.output / "table.md").write_text("\n".join(page))


if __name__ == "__main__":
    main()
