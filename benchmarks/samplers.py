"""How many samples does a map need? Its likeness to a map of 2,000 samples, for each sampler and each way to average.

    python benchmarks/samplers.py --model ../shared/models/vit_s14_photos98 --data ../shared/images --output benchmarks/results

For each photograph a reference: the MAD mean of many independent samples. Then runs of few samples, each with randomness of its own, by
every sampler of `dave_jax.sampling.samplers` and of `tried_samplers.py`. Their maps, averaged in several ways, are held against the
reference: correlation of the heat maps, and overlap of the highest tenth of the pixels. The two halves of the reference against each other
say how certain it is itself.

Two more ways to lower the variance need no runs of their own, and are told from the reference's samples: how much of it a control variate
takes away, and what levels drawn in proportion to their standard deviation would save in a plain mean.

All samples of a photograph run through one compiled program, so that every sampler pays the same.
"""

import argparse
import dataclasses
import functools
import operator
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from context import context, report
from photographs import choose
from tried_samplers import TRIED

import dave_jax as dave
from dave_jax.attribution.aggregate import AGGREGATIONS, ROBUST_WEIGHTS, biweight, mad_bounds, weighted_mean
from dave_jax.attribution.neighbourhood import contribution, halves_of, pilot_numbers
from dave_jax.attribution.postprocess import postprocess
from dave_jax.attribution.smoothing import smooth
from dave_jax.effective.decomposition import resolve
from dave_jax.evaluation.data import read
from dave_jax.evaluation.similarity import pearson, top_overlap
from dave_jax.evaluation.statistics import bootstrap
from dave_jax.models.network import in_precision
from dave_jax.sampling.samplers import SAMPLERS
from dave_jax.sampling.transforms import apply_transform, pull_back

CHUNK = 64 if jax.default_backend() != "cpu" else 4


def smoothed(image, samples, threshold):
    """`biweight` with `DaveConfig.smoothing`; as it is where there are too few samples for that."""
    average = biweight(samples, threshold)
    if len(samples) < 4:
        return average
    return smooth(average, *halves_of(samples, dave.DaveConfig(aggregation="biweight", mad_threshold=threshold)), image)


def plainly(name, image, samples, threshold):
    return AGGREGATIONS[name](samples, threshold)


AVERAGES = {name: functools.partial(plainly, name) for name in ("mad_mean", "biweight", "mean", "median")} | {"smoothed": smoothed}
PILOTS = (16, 32, 64, 128, 256, 512)
"""Sizes of `mad_pilot` that the reference is averaged with too."""


def with_pilot(name, pilot, image, samples, threshold):
    """What `explain` computes with `mad_pilot`: bounds from some samples, the weighted mean of all."""
    bounds = mad_bounds(samples[pilot_numbers(len(samples), pilot)], threshold)
    weights = jax.vmap(ROBUST_WEIGHTS[name], (0, None, None))(samples, *bounds)
    return weighted_mean(samples, weights)


@functools.partial(jax.jit, static_argnums=0)
def neighbours(sampler, key, config, like):
    image = jax.ShapeDtypeStruct(like.shape, like.dtype)
    return jax.vmap(lambda number: sampler(key, number, config, image))(jnp.arange(config.num_samples))


@functools.partial(jax.jit, static_argnums=0)
def passes(forward, params, image, cotangent, some):
    """The attributions of a chunk of neighbours."""
    rules = resolve("effective")
    return jax.vmap(lambda one: image * contribution(forward, rules, "adjoint", params, image, cotangent[None], *one)[0])(some)


@functools.partial(jax.jit, static_argnums=0)
def controls(forward, params, image, cotangent, drawn):
    """A control variate for each neighbour: the clean image's effective transformation, moved as the neighbour is, and back.

    Its mean over all neighbours costs no pass through the network.
    """
    still = jnp.zeros_like(image)
    clean = contribution(forward, resolve("effective"), "adjoint", params, image, cotangent[None], None, still, 0.0)[0]

    def one(neighbour):
        return image * pull_back(neighbour.transform, (1.0 - neighbour.level) * apply_transform(neighbour.transform, clean))

    return jax.lax.map(one, drawn, batch_size=CHUNK)


@jax.jit
def explained(samples, others):
    """The share of the samples' variance, over all pixels, that is gone beside the best multiple of `others` at each pixel."""
    x, y = (values.sum(-1) - values.sum(-1).mean(0, keepdims=True) for values in (samples, others))
    gone = jnp.mean(x * y, axis=0) ** 2 / jnp.maximum(jnp.mean(y * y, axis=0), 1e-30)
    return jnp.sum(gone) / jnp.sum(jnp.mean(x * x, axis=0))


@functools.partial(jax.jit, static_argnums=0)
def heat(average, image, samples, config):
    return postprocess(average(image, samples, config.mad_threshold), config)


def attributions(model, image, cotangent, drawn):
    """The samples of all neighbours, chunk by chunk."""
    count = len(drawn.level)
    padded = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[: -count % CHUNK]]) if count % CHUNK else leaf, drawn)
    chunks = [jax.tree.map(operator.itemgetter(slice(i, i + CHUNK)), padded) for i in range(0, count, CHUNK)]
    parts = [passes(model.forward, model.params, image, cotangent, chunk) for chunk in chunks]
    return jnp.concatenate(parts)[:count]


def study(model, images, targets, samplers, counts, repeats, reference, key) -> dict[str, Any]:
    """Likeness to the reference: [photograph, sampler, average, count, repeat], and what is said of the reference."""
    config = dataclasses.replace(model.config, chunk_size=None)
    params = in_precision(model.forward, model.params, config.precision, images.dtype)
    model = dataclasses.replace(model, params=params)
    found = np.zeros((2, len(images), len(samplers), len(AVERAGES), len(counts), repeats))
    own = np.zeros((len(images), len(samplers), len(AVERAGES), len(counts), repeats))
    halves, spread, control, pilots = [], [], [], np.zeros((len(images), 2, len(PILOTS)))
    some = [(a, p, name, pilot) for a, name in enumerate(("mad_mean", "biweight")) for p, pilot in enumerate(PILOTS) if pilot <= reference]
    classes = int(model.num_classes) if hasattr(model, "num_classes") else len(model.class_names)
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        start, image_key = time.perf_counter(), jax.random.fold_in(key, i)
        cotangent = jax.nn.one_hot(target, classes)
        drawn = neighbours(
            SAMPLERS["independent"], jax.random.fold_in(image_key, 1), dataclasses.replace(config, num_samples=reference), image
        )
        many = attributions(model, image, cotangent, drawn)
        control.append(explained(many, controls(model.forward, model.params, image, cotangent, drawn)).item())
        limits = {name: heat(average, image, many, config) for name, average in AVERAGES.items()}
        even, odd = (heat(AVERAGES["mad_mean"], image, many[half::2], config) for half in (0, 1))
        halves.append([pearson(even, odd).item(), top_overlap(even, odd).item()])
        spread.append(np.asarray(jnp.mean(jnp.var(many.sum(-1).reshape(20, -1, *image.shape[:2]), axis=1), axis=(1, 2))).tolist())
        for a, p, name, pilot in some:
            pilots[i, a, p] = pearson(heat(functools.partial(with_pilot, name, pilot), image, many, config), limits[name]).item()
        del many
        for s, sampler in enumerate(samplers.values()):
            runs = [(c, r) for c in range(len(counts)) for r in range(repeats)]
            drawn = []
            for c, r in runs:
                run_key = jax.random.fold_in(image_key, 2 + r)
                drawn.append(neighbours(sampler, run_key, dataclasses.replace(config, num_samples=counts[c]), image))
            samples = attributions(model, image, cotangent, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *drawn))
            first = 0
            for c, r in runs:
                part = samples[first : first + counts[c]]
                first += counts[c]
                for a, (name, average) in enumerate(AVERAGES.items()):
                    map_ = heat(average, image, part, config)
                    found[:, i, s, a, c, r] = pearson(map_, limits["mad_mean"]), top_overlap(map_, limits["mad_mean"])
                    own[i, s, a, c, r] = pearson(map_, limits[name])
        print(f"{i + 1} of {len(images)}: {time.perf_counter() - start:.1f} s", flush=True)
    return {
        "correlation": found[0],
        "overlap": found[1],
        "own": own,
        "halves": np.array(halves),
        "spread": np.array(spread),
        "control": np.array(control),
        "pilots": pilots,
    }


def compare(found: dict[str, Any], samplers: list[str], counts: tuple[int, ...]) -> None:
    """Print each sampler and average against independent samples and the MAD mean, paired by photograph, and the samples that it saves."""
    first = found["correlation"][:, samplers.index("independent"), 0].mean(axis=-1)  # photographs, counts
    print(
        "\ncorrelation above that of independent samples and mad_mean, with 95 % intervals; samples for the likeness of 50 of those "
        "(nan: not measured)"
    )
    print("| sampler | average | " + " | ".join(map(str, counts)) + " | for 50 |")
    for s, name in enumerate(samplers):
        for a, average in ((a, name) for a, name in enumerate(AVERAGES) if name in ("mad_mean", "biweight", "smoothed")):
            gain = found["correlation"][:, s, a].mean(axis=-1) - first
            cells = [f"{gained.mean:+.4f} [{gained.low:+.4f}, {gained.high:+.4f}]" for gained in (bootstrap(row, 0) for row in gain.T)]
            row = found["correlation"][:, s, a].mean(axis=(0, -1))
            target = np.interp(np.log(50), np.log(counts), first.mean(0), np.nan, np.nan)
            needed = np.exp(np.interp(target, row, np.log(counts), np.nan, np.nan))
            print(f"| {name} | {average} | " + " | ".join(cells) + f" | {needed:.0f} |")


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="folder or name; the embedded model by default")
    parser.add_argument("--data", required=True, help="photographs with labels, as `dave-jax evaluate` reads them")
    parser.add_argument("--photographs", type=int, default=30)
    parser.add_argument("--reference", type=int, default=2000)
    parser.add_argument("--counts", default="5,10,20,35,50,100")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--confidence", type=float, default=0.5, help="the least probability of a photograph's class")
    parser.add_argument("--samplers", default="all")
    parser.add_argument("--noise-alpha", type=float, help="the model's own by default")
    parser.add_argument("--precision", default="float32", help="as in DaveConfig; bfloat16_products halves the time on CPUs that have them")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args(arguments)
    before = context("jax", "jaxlib", "dave-jax")
    model = dave.load(given.model) if given.model else dave.load()
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, precision=given.precision))
    if given.noise_alpha is not None:
        model = dataclasses.replace(model, config=dataclasses.replace(model.config, noise_alpha=given.noise_alpha))
    everything = SAMPLERS | TRIED
    names = list(everything) if given.samplers == "all" else given.samplers.split(",")
    if "independent" not in names or not set(names) <= set(everything):
        parser.error(f"--samplers are of {list(everything)}, independent, which the others are held against, among them; got {names}")
    samplers = {name: everything[name] for name in names}
    counts = tuple(int(count) for count in given.counts.split(","))
    chosen = choose(read(given.data, model, skip_unknown=True), model, given.photographs, given.confidence, 0)
    found = study(model, chosen.images, chosen.targets, samplers, counts, given.repeats, given.reference, jax.random.key(0))
    print(f"halves of the reference: correlation {found['halves'][:, 0].mean():.4f}, overlap {found['halves'][:, 1].mean():.4f}")
    for a, name in enumerate(("mad_mean", "biweight")):
        rows = zip(PILOTS, found["pilots"][:, a].mean(0), found["pilots"][:, a].min(0), strict=True)
        shown = ", ".join(f"{pilot}: {mean:.4f} (least {least:.4f})" for pilot, mean, least in rows if pilot <= given.reference)
        print(f"{name} of {given.reference} samples with a pilot, correlation with that of all: {shown}")
    print("variance by twentieth of the levels:", np.round(found["spread"].mean(0) / found["spread"].mean(), 2).tolist())
    saved = 1.0 - np.sqrt(found["spread"]).mean(1) ** 2 / found["spread"].mean(1)
    print(f"levels in proportion to their deviation would save {saved.mean():.0%} of the samples of a plain mean")
    print(f"share of the variance that a control variate takes away: {found['control'].mean():.3f} (most {found['control'].max():.3f})")
    compare(found, list(samplers), counts)
    for kind in ("correlation", "overlap", "own"):
        print(f"\n{kind}, mean over {len(chosen.images)} photographs\n| sampler | average | " + " | ".join(map(str, counts)) + " |")
        for s, name in enumerate(samplers):
            for a, average in enumerate(AVERAGES):
                row = found[kind][:, s, a].mean(axis=(0, 2))
                print(f"| {name} | {average} | " + " | ".join(f"{value:.4f}" for value in row) + " |")
    found["spread"] /= found["spread"].mean()
    lists = {name: np.round(values, 5).tolist() for name, values in found.items()}
    settings = {"samplers": [*samplers], "averages": [*AVERAGES], "counts": [*counts], "noise_alpha": float(model.config.noise_alpha)}
    return report("samplers", before, given, lists, **settings)


if __name__ == "__main__":
    main()
