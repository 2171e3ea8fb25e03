"""Write a model in dave_jax's own format: `python -m convert_weights NAME_OR_PATH -o DIR`."""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Convert one model; 0, or 2 with one line on the error stream."""
    parser = argparse.ArgumentParser(prog="python -m convert_weights", description="Write a model in dave_jax's own format.")
    parser.add_argument("model", metavar="NAME_OR_PATH", help="a timm name, org/repo[@revision], a folder, or a .safetensors or .npz file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder to write model.safetensors to")
    parser.add_argument("--image-size", type=int, metavar="N", help="for images of N x N pixels instead of the checkpoint's")
    options = parser.parse_args(arguments)
    from dave_jax.models import hub, store

    try:
        model = hub.load(options.model, image_size=options.image_size)
        path = store.save(model, options.output)
    except (OSError, TypeError, ValueError) as error:
        print(f"convert_weights: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB): {model.name}, from {model.source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
