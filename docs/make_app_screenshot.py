"""Photograph the page of `dave-jax app`, for docs/app.md: an example with the maps of its two classes.

    python docs/make_app_screenshot.py

Needs the `browser` extra and Chromium. Run it again when the page changes.
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WAIT = 600_000  # milliseconds


def main(arguments: list[str] | None = None) -> None:
    """Start the command, look at the page, and write the picture."""
    parser = argparse.ArgumentParser(description="Photograph the page of dave-jax app.")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "app.jpg", help="file to write (default: docs/app.jpg)")
    parser.add_argument("--samples", type=int, default=32, help="neighbours to average (default: %(default)s)")
    parser.add_argument("--dark", action="store_true", help="the dark scheme")
    parser.add_argument("--width", type=int, default=1280, help="of the window, in pixels (default: %(default)s)")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"), help="the browser's program")
    options = parser.parse_args(arguments)
    command = [sys.executable, "-m", "dave_jax", "app", "--port", "0", "--no-browser", "--samples", str(options.samples)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            photograph(re.findall(r"http\S+", process.stdout.readline())[0], options)
        finally:
            process.send_signal(signal.SIGINT)


def photograph(address: str, options: argparse.Namespace) -> None:
    """Pick the first example, explain it, and take the picture when the maps are done."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        scheme = "dark" if options.dark else "light"
        page = browser.new_page(viewport={"width": options.width, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
        page.set_default_timeout(WAIT)
        page.goto(address)
        page.locator("#examples button").first.click()
        page.locator(".dj-board").wait_for()
        for _ in range(2):  # the second time nothing is compiled
            page.locator("#explain").click()
            page.locator("#maps").wait_for(state="hidden")
            page.locator("#maps").wait_for()
        page.locator("h1").click()  # takes the focus from the button
        page.screenshot(path=options.output, full_page=options.width < 600, type="jpeg", quality=85)
        browser.close()


if __name__ == "__main__":
    main()
