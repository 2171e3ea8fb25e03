"""Draw the README's picture: an example picture beside the embedded model's heat maps for the two classes in it.

    python docs/make_panel.py

Run it again when the model, the pictures or the drawing change.
"""

import argparse
import dataclasses
from pathlib import Path

import jax

import dave_jax as dave
from dave_jax import plot

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("golf ball", "parachute")


def main(arguments: list[str] | None = None) -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description="Draw the README's picture.")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "panel.png", help="file to write (default: docs/panel.png)")
    parser.add_argument("--samples", type=int, default=100, help="neighbours to average (default: %(default)s)")
    options = parser.parse_args(arguments)
    model = dave.load()
    images = model.preprocess(ROOT / "dave_jax" / "assets" / "photos" / "ball_and_parachute.jpg")
    targets = [model.class_index(name) for name in CLASSES]
    config = dataclasses.replace(model.config, num_samples=options.samples)
    maps = dave.explain(model, images, [targets], key=jax.random.key(0), config=config)
    probabilities = jax.nn.softmax(model.logits(images)[0])
    titles = [f"{name} {probabilities[target]:.0%}" for name, target in zip(CLASSES, targets, strict=True)]
    plot.panel(model.preprocessing.denormalise(images[0]), maps[0], titles).save(options.output, optimize=True)


if __name__ == "__main__":
    main()
