"""Is the noise that `dave.calibrate` picks near the best of a sweep? Scores of the maps for every `noise_alpha`, on the same photographs.

    python benchmarks/calibration_sweep.py --model FOLDER --data FOLDER --grid --output benchmarks/results

1. Photographs are chosen that the model classifies rightly, with confidence; those with a marked object first.
2. For every alpha their raw attributions (channels summed) are scored: `deletion` (the target's mean probability while the least important
   pixels are blurred away), `energy` (share of the positive mass on the object, where one is marked) and, with `--grid`, `grid` (share on
   the target's own cell in mosaics of four classes at twice the image size). Higher is better for each.
3. `dave.calibrate` picks an alpha on the same photographs for every tolerance. The score there, interpolated in the sweep, is held against
   the sweep's best: the regret, and the standard error of that difference.

Every alpha sees the same photographs, the same key, and so the same transforms and noise: differences are paired. Standard errors are
bootstrapped over photographs (over mosaics for `grid`).
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from context import context, report
from photographs import Chosen, Mosaics, choose, mosaics

import dave_jax as dave
from dave_jax.evaluation.data import read
from dave_jax.evaluation.grid import grid_pointing_game
from dave_jax.evaluation.localisation import energy_in_region
from dave_jax.evaluation.perturbation import PerturbationProtocol, area_under_curve, perturbation_curves
from dave_jax.sampling.calibrate import last_within

RESAMPLES = 2000  # of the bootstrap


class Disagreement(RuntimeError):
    """What is measured is not what it is taken for: nothing is reported."""


def attribute(model: dave.Model, images: jax.Array, targets: Any, alpha: float, samples: int, key: jax.Array) -> jax.Array:
    """Raw attributions with the model's own settings but for alpha and the number of samples, channels summed."""
    config = dataclasses.replace(model.config, noise_alpha=alpha, num_samples=samples, chunk_size=None)
    raw = dave.explain(model, images, targets, key=key, config=config, raw=True)
    if not jnp.isfinite(raw).all() or not jnp.any(raw != 0, axis=(-3, -2, -1)).all():
        raise Disagreement(f"at alpha {alpha} a map is empty or not finite.")
    return raw.sum(-1)


def score_photographs(model: dave.Model, chosen: Chosen, alpha: float, samples: int, key: jax.Array) -> dict[str, np.ndarray]:
    """`deletion` of every photograph, `energy` of those with a region."""
    targets = jnp.asarray(chosen.targets)
    maps = attribute(model, chosen.images, targets, alpha, samples, key)
    curves = perturbation_curves(model, chosen.images, targets, maps, protocol=PerturbationProtocol(first="least"))
    off = np.abs(np.asarray(curves.probabilities[:, 0]) - chosen.probabilities).max()
    if off > 1e-3:
        raise Disagreement(f"deletion curves start {off:.2e} away from the probability that the photographs were chosen for.")
    scores = {"deletion": area_under_curve(curves.probabilities, curves.shares)}
    if len(chosen.marked):
        scores["energy"] = np.asarray(energy_in_region(maps[chosen.marked], jnp.asarray(chosen.regions)))
    return scores


def score_mosaics(grids: Mosaics, alpha: float, samples: int, key: jax.Array) -> np.ndarray:
    """The grid pointing game of every mosaic: the mean over its cells."""
    maps = attribute(grids.model, grids.images, grids.targets, alpha, samples, key)
    return np.asarray(grid_pointing_game(maps, grids.cells)).mean(axis=1)


def standard_error(values: np.ndarray, seed: int) -> float:
    """Of the mean of `values`: the bootstrap's standard deviation, its resamples the same for all values of one length."""
    resamples = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    return float(values[resamples].mean(axis=1).std())


def regret(scores: np.ndarray, alphas: list[float], picked: float, seed: int) -> dict[str, Any]:
    """How far the score at a picked alpha, interpolated linearly, is below the sweep's best; `scores` (alphas, photographs).

    The best is the best of these photographs, so the regret leans to the large side.
    """
    best = int(scores.mean(axis=1).argmax())
    there = np.array([np.interp(picked, alphas, column) for column in scores.T])
    below = scores[best] - there
    error = standard_error(below, seed)
    return {
        "score": float(there.mean()),
        "best_alpha": alphas[best],
        "best_score": float(scores[best].mean()),
        "regret": float(below.mean()),
        "standard_error": error,
        "regret_in_errors": float(below.mean()) / error if error > 0 else None,
    }


def sweep(options: argparse.Namespace, say=lambda text: print(text, file=sys.stderr, flush=True)) -> dict[str, Any]:
    """Choose, calibrate, explain and score; what `main` reports."""
    model, key, alphas = dave.load(options.model), jax.random.key(options.seed), options.alphas
    places = [place for place in (options.data, options.imagenette) if place]
    photographs = [photograph for place in places for photograph in read(place, model, skip_unknown=True)]
    chosen = choose(photographs, model, options.photos, options.confidence, options.seed)
    grids = mosaics(chosen, model, len(chosen.targets) // 4, options.seed) if options.grid else None

    start = time.perf_counter()
    found = dave.calibrate(model, chosen.images, jnp.asarray(chosen.targets), key=key, tolerance=options.tolerances[0])
    seconds = {"calibrate": time.perf_counter() - start}
    picks = {
        tolerance: {
            "noise_alpha": last_within(found.levels, found.change, tolerance),
            "strength": last_within(np.append(0.0, found.strengths), np.append(0.0, found.transform_change), tolerance),
        }
        for tolerance in options.tolerances
    }
    if picks[options.tolerances[0]] != {"noise_alpha": found.noise_alpha, "strength": found.strength}:
        raise Disagreement("`calibrate` does not pick where its own curve crosses the tolerance.")

    rows: list[dict[str, np.ndarray]] = []
    for alpha in alphas:
        start = time.perf_counter()
        rows.append(score_photographs(model, chosen, alpha, options.samples, key))
        half = time.perf_counter()
        if grids:
            rows[-1]["grid"] = score_mosaics(grids, alpha, options.samples, key)
        seconds[f"alpha {alpha:g}"] = time.perf_counter() - start
        say(f"alpha {alpha:g}: photographs {half - start:.1f} s, mosaics {time.perf_counter() - half:.1f} s")
    scores = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return {
        "model": model.name,
        "source": model.source,
        "photographs": [
            {"name": photograph.name, "label": model.class_name(photograph.target), "probability": float(probability)}
            for photograph, probability in zip(chosen.photographs, chosen.probabilities, strict=True)
        ],
        "mosaics": grids.members.tolist() if grids else [],
        "with_region": chosen.marked.tolist(),
        "sensitivity": {
            "levels": found.levels.tolist(),
            "change": found.change.tolist(),
            "strengths": found.strengths.tolist(),
            "transform_change": found.transform_change.tolist(),
        },
        "scores": {name: values.tolist() for name, values in scores.items()},
        "mean": {name: values.mean(axis=1).tolist() for name, values in scores.items()},
        "standard_error": {name: [standard_error(row, options.seed) for row in values] for name, values in scores.items()},
        "picks": [
            {
                "tolerance": tolerance,
                **pick,
                "inside_sweep": alphas[0] <= pick["noise_alpha"] <= alphas[-1],
                "regret": {name: regret(values, alphas, pick["noise_alpha"], options.seed) for name, values in scores.items()},
            }
            for tolerance, pick in picks.items()
        ],
        "seconds": seconds,
    }


def table(result: dict[str, Any], alphas: list[float]) -> str:
    """The result as text."""
    names, photographs = list(result["mean"]), result["photographs"]
    classes = len({photograph["label"] for photograph in photographs})
    lines = [
        f"{result['model']}: {len(photographs)} photographs of {classes} classes, {len(result['with_region'])} with a region, "
        f"{len(result['mosaics'])} mosaics",
        "",
        "alpha  " + "".join(f"{name:>18}" for name in names),
    ]
    for i, alpha in enumerate(alphas):
        cells = (f"{result['mean'][name][i]:.4f} ± {result['standard_error'][name][i]:.4f}" for name in names)
        lines.append(f"{alpha:5.2f}  " + "".join(f"{cell:>18}" for cell in cells))
    curve = result["sensitivity"]
    lines += ["", "level of noise, and mean change of the target's probability there"]
    lines += ["  ".join(f"{value:5.2f}" for value in curve[row]) for row in ("levels", "change")]
    lines += ["share of the transforms' ranges, and the change there"]
    lines += ["  ".join(f"{value:5.2f}" for value in curve[row]) for row in ("strengths", "transform_change")]
    lines += ["", "tolerance  alpha  ranges  score       there    best  (alpha)    regret   in standard errors"]
    for pick in result["picks"]:
        for name, found in pick["regret"].items():
            errors = "-" if found["regret_in_errors"] is None else f"{found['regret_in_errors']:.1f}"
            beyond = "" if pick["inside_sweep"] else "   (alpha outside the sweep: its end is used)"
            lines.append(
                f"{pick['tolerance']:9.2f}  {pick['noise_alpha']:5.2f}  {pick['strength']:6.2f}  {name:9}  {found['score']:7.4f} "
                f"{found['best_score']:7.4f}   ({found['best_alpha']:.2f})  {found['regret']:8.4f}   {errors:>18}{beyond}"
            )
    return "\n".join(lines)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    def numbers(text: str) -> list[float]:
        return sorted({float(part) for part in text.split(",")})

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", help="what dave.load takes (default: the embedded model)")
    parser.add_argument("--data", type=Path, help="folder of photographs with labels.json: file, label, boxes or mask")
    parser.add_argument("--imagenette", type=Path, help="archive of Imagenette, folders named by WordNet id")
    parser.add_argument("--photos", type=int, default=24, help="photographs")
    parser.add_argument("--confidence", type=float, default=0.5, help="least probability of a photograph's class")
    parser.add_argument("--samples", type=int, default=12, help="of every map")
    parser.add_argument("--alphas", type=numbers, default="0,0.1,0.2,0.3,0.5,0.7,0.9", help="values of noise_alpha")
    parser.add_argument("--tolerances", type=numbers, default="0.05,0.1,0.2,0.3", help="of calibrate")
    parser.add_argument("--grid", action="store_true", help="play the grid pointing game too")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of photographs and of the samples")
    parser.add_argument("--output", type=Path, help="folder for the result as JSON")
    options = parser.parse_args(arguments)
    if not options.data and not options.imagenette:
        parser.error("give photographs: --data, --imagenette or both")
    return options


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Sweep, print and write; returns what is written."""
    options = parse(arguments)
    before = context("dave-jax", "jax", "jaxlib", "numpy", "pillow")
    found = sweep(options)
    print(table(found, options.alphas))
    return report("calibration_sweep", before, options, found)


if __name__ == "__main__":
    main()
