"""Commands on photographs: `explain`, `calibrate`."""

from pathlib import Path
from typing import Any

from dave_jax.arguments.common import add_command, add_method, add_model, add_photos, add_prompts, add_samples

_EXPLAIN = """\
For each PHOTO, three files appear in the folder:
  STEM.panel.png    photograph, heat map and overlay; with several targets a column each
  STEM.overlay.png  the overlay of the first target, in the model's image size
  STEM.npz          map (k, h, w), target, target_name, probability, pixels (what the model saw), provenance (JSON)
Photographs of one name get numbers: cat, cat-2. The same seed gives the same maps.

examples:
  dave-jax explain cat.jpg
  dave-jax explain *.jpg --model deit3_small_patch16_224.fb_in1k --target top-3 -o maps
  dave-jax explain cat.jpg --model clip-folder --prompt "a photo of a cat" --prompt "a photo of a dog"
"""


def add_explain(commands: Any) -> None:
    """`dave-jax explain`."""
    explain = add_command(commands, "explain", "explain photographs: which pixels speak for a class", _EXPLAIN)
    add_photos(explain)
    add_model(explain)
    add_prompts(explain)
    explain.add_argument(
        "--target", action="append", metavar="ID|NAME|top-K", help="class to explain; may be repeated (default: top-1, or all prompts)"
    )
    add_samples(explain)
    add_method(explain)
    explain.add_argument("--format", choices=("npz", "npy"), default="npz", help="of the map; npy holds its numbers only")
    explain.add_argument("-o", "--output", type=Path, default=Path(), metavar="DIR", help="folder for the results (default: this one)")


def add_calibrate(commands: Any) -> None:
    """`dave-jax calibrate`."""
    calibrate = add_command(commands, "calibrate", "find the noise level that suits a model")
    add_photos(calibrate)
    add_model(calibrate)
    add_prompts(calibrate)
    calibrate.add_argument(
        "--tolerance", type=float, default=0.2, metavar="P", help="accepted change of the probability (default: %(default)s)"
    )
    calibrate.add_argument(
        "-o", "--output", type=Path, default=Path("calibration.png"), metavar="PNG", help="drawing (default: %(default)s)"
    )
