"""Accuracy of the embedded model on Imagenette's validation split, through the preprocessing that users get.

python benchmarks/default_model.py --data ../shared/data
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent))

from context import context, report

import dave_jax as dave
from dave_jax.evaluation.folders import IMAGENETTE
from dave_jax.training.imagenette import read_images


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of imagenette144-val.tar")
    parser.add_argument("--model", help="default: the embedded model")
    parser.add_argument("--photos", type=int, help="only every so many-th, to be quick")
    parser.add_argument("--output", type=Path, help="folder for the JSON")
    options = parser.parse_args(arguments)
    before = context("jax", "numpy", "pillow")
    model = dave.load(options.model)
    if model.class_names != tuple(IMAGENETTE.values()):
        raise SystemExit(f"The model must know Imagenette's ten classes; {model.name} has other names.")
    photos, labels = read_images(options.data / "imagenette144-val.tar")
    step = 1 if options.photos is None else max(1, len(photos) // options.photos)
    photos, labels = photos[::step], labels[::step]
    predicted = [
        np.asarray(model.logits(model.preprocess([Image.fromarray(photo) for photo in photos[i : i + 64]]))).argmax(-1)
        for i in tqdm(range(0, len(photos), 64))
    ]
    right = np.concatenate(predicted) == labels
    classes = {name: float(right[labels == index].mean()) for index, name in enumerate(model.class_names)}
    top1 = float(right.mean())
    print(f"{model.name}: top-1 {top1:.2%} of {len(labels)} photographs")
    print("\n".join(f"  {share:7.2%}  {name}" for name, share in classes.items()))
    found = {"model": model.name, "source": model.source, "photographs": len(labels), "top1": top1, "classes": classes}
    return report("default_model", before, options, found)


if __name__ == "__main__":
    main()
