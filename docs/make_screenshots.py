"""Photograph the pages: a report and a study of the embedded model's maps of the example pictures, in Chromium.

    python docs/make_screenshots.py

Needs the extras `batch` and `browser`, and Chromium on the path. Run it again when the pages or the pictures change.
"""

import argparse
import dataclasses
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
from PIL import Image

import dave_jax as dave
from dave_jax.pages.report import write_report
from dave_jax.pages.study import write_study

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = ROOT / "dave_jax" / "assets" / "photos"
CLASSES = ("golf ball", "parachute")
WIDE, NARROW = (1100, 760), (390, 844)


def main(arguments: list[str] | None = None) -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description="Photograph the pages of docs/pages.md.")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "screenshots", help="folder (default: docs/screenshots)")
    parser.add_argument("--samples", type=int, default=64, help="neighbours to average (default: %(default)s)")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_pages(folder, options.samples)
        for name, picture in photograph(folder).items():
            Image.open(io.BytesIO(picture)).save(options.output / f"{name}.webp", quality=86, method=6)


def make_pages(folder: Path, samples: int) -> None:
    """`report` and `study` in a folder: DAVE against a single sample without noise or transforms."""
    model = dave.load()
    single = dataclasses.replace(
        model.config, num_samples=1, noise_alpha=0.0, rotation=0.0, shift=0.0, scale_min=1.0, scale_max=1.0, flip_probability=0.0
    )
    configs = {"dave": dataclasses.replace(model.config, num_samples=samples), "single": single}
    for name, config in configs.items():
        dave.explain_dataset(model, PHOTOS, folder / f"{name}.zarr", key=jax.random.key(0), config=config, targets=CLASSES)
    write_report(folder / "dave.zarr", folder / "report")
    write_study([folder / f"{name}.zarr" for name in configs], folder / "study")


def photograph(folder: Path) -> dict[str, bytes]:
    """PNG files by name."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    found = {}
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for scheme, size, suffix in (("light", WIDE, ""), ("dark", NARROW, "_phone")):
            tab = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme).new_page()
            tab.goto((folder / "report" / "index.html").as_uri())
            found[f"report{suffix}"] = _shot(tab)
            tab.emulate_media(color_scheme="dark")
            tab.locator(".open").first.click()
            found[f"detail{suffix}"] = _shot(tab)
            tab.emulate_media(color_scheme=scheme)
            tab.goto((folder / "study" / "index.html").as_uri())
            tab.get_by_label("Your name or number").fill("p1")
            tab.keyboard.press("Enter")
            tab.wait_for_function("!document.getElementById('trial').hasAttribute('aria-busy')")
            found[f"study{suffix}"] = _shot(tab)
        browser.close()
    return found


def _shot(tab: Any) -> bytes:
    """What the window shows, with all of its pictures."""
    tab.wait_for_load_state("networkidle")
    tab.evaluate("Promise.all([...document.images].filter((one) => one.checkVisibility()).map((one) => one.decode()))")
    return tab.screenshot()


if __name__ == "__main__":
    main()
