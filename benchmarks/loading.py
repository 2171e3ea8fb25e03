"""Loading a checkpoint: seconds and peak memory, beside timm's.

    pip install -e '.[parity]'
    python benchmarks/loading.py --output benchmarks/results

A random model in timm's layout, written to a temporary folder. First both sides must give the same logits. Then each side loads it in a
process of its own, by turns, from a disk cache that the writing has warmed; imports are not counted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from context import context, report

import dave_jax as dave

SIDES = {
    "dave_jax": """
import jax, dave_jax
dave_jax.load()  # what is imported and compiled once
def load(folder):
    return jax.block_until_ready(dave_jax.load(folder).params)
def size(params):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(params))
""",
    "timm": """
import timm
timm.create_model("test_vit")
def load(folder):
    return timm.create_model(f"local-dir:{folder}", pretrained=True)
def size(model):
    return sum(value.nbytes for value in model.state_dict().values())
""",
}
MEASURE = """
import gc, json, re, sys, time
from pathlib import Path
def memory(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
gc.collect()
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before, start = memory("VmRSS"), time.perf_counter()
loaded = load(sys.argv[1])
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "peak": (memory("VmHWM") - before) / size(loaded), "bytes": size(loaded)}))
"""
"""Peak: memory beyond what the process had before, as a multiple of the parameters in float32; pages of a mapped file count."""

TOLERANCE = 1e-4


def check(architecture: str, folder: Path) -> float:
    """Write the random model; the largest difference of the two sides' logits, relative to the largest logit."""
    import timm
    import torch

    torch.manual_seed(0)
    theirs = timm.create_model(architecture).eval()
    timm.models.save_for_hf(theirs, folder, safe_serialization=True)
    ours = dave.load(folder)
    image = np.random.default_rng(0).normal(size=(1, *ours.preprocessing.image_size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(image.transpose(0, 3, 1, 2))).numpy()
    difference = float(np.abs(ours.logits(image) - expected).max() / np.abs(expected).max())
    if not difference < TOLERANCE:
        raise RuntimeError(f"The logits of the two sides must agree to {TOLERANCE}; they differ by {difference:.1e}. Nothing is timed.")
    return difference


def measure(side: str, folder: Path) -> dict[str, float]:
    """Load once in a new process."""
    program = [sys.executable, "-W", "ignore", "-c", SIDES[side] + MEASURE, str(folder)]
    return json.loads(subprocess.run(program, check=True, capture_output=True, text=True).stdout)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Check, measure, print and write; returns what is written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--architecture", default="vit_base_patch16_224", help="of timm")
    parser.add_argument("--rounds", type=int, default=3, help="loads by either side")
    parser.add_argument("--output", type=Path, help="folder for the result as JSON")
    options = parser.parse_args(arguments)
    before = context("dave-jax", "jax", "numpy", "safetensors", "timm", "torch")
    with tempfile.TemporaryDirectory() as folder:
        difference = check(options.architecture, Path(folder))
        rounds = [{side: measure(side, Path(folder)) for side in SIDES} for _ in range(options.rounds)]
    found = {
        "difference": difference,
        "rounds": rounds,
        "seconds": {side: min(one[side]["seconds"] for one in rounds) for side in SIDES},
        "peak": {side: max(one[side]["peak"] for one in rounds) for side in SIDES},
    }
    print(f"{options.architecture}: logits differ by {difference:.1e}")
    for side in SIDES:
        print(f"{side:9} {found['seconds'][side]:.2f} s, peak memory {found['peak'][side]:.2f} times the parameters")
    return report("loading", before, options, found)


if __name__ == "__main__":
    main()
