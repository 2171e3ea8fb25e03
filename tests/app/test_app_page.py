"""The page in Chromium: `dave-jax app` in a process of its own, with the embedded model, and everything that it asks for is its own."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import dave_jax as dave

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
PHOTOS = ROOT / "dave_jax" / "assets" / "photos"
NUM_SAMPLES = 16
WAIT = 240_000  # milliseconds: of a busy machine's compilation

WITNESS = """\
# Writes down whom the process calls.
import os, socket

def note(name, function):
    def noted(*arguments, **options):
        place = arguments[0] if name == "getaddrinfo" else arguments[1]
        with open(os.environ["WITNESS"], "a") as file:
            file.write(f"{name} {place!r}\\n")
        return function(*arguments, **options)
    return noted

socket.socket.connect = note("connect", socket.socket.connect)
socket.getaddrinfo = note("getaddrinfo", socket.getaddrinfo)
"""


@contextlib.contextmanager
def started(folder: Path, *options: str):
    """The command, its address, and the folder that it may write to."""
    (folder / "sitecustomize.py").write_text(WITNESS)
    (folder / "tmp").mkdir()
    (folder / "work").mkdir()
    environment = os.environ | {
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "WITNESS": str(folder / "calls"),
        "TMPDIR": str(folder / "tmp"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HOME": str(folder / "home"),
    }
    command = [sys.executable, "-m", "dave_jax", "app", "--port", "0", "--no-browser", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder / "work", env=environment, **pipes) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address, line + process.stderr.read()
        try:
            yield process, address[0]
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture(scope="module")
def server(chromium, tmp_path_factory):
    pytest.importorskip("gradio", reason="needs gradio (the extra `app`)")
    folder = tmp_path_factory.mktemp("app")
    with started(folder, "--samples", str(NUM_SAMPLES), "--max-megabytes", "1", "--max-megapixels", "1") as (process, address):
        yield process, address, folder


@pytest.fixture(scope="module")
def page(chromium, server):
    """One visit, which must cause no error and ask nobody else."""
    address = server[1]
    opened = chromium.new_context(accept_downloads=True, reduced_motion="reduce").new_page()
    opened.set_default_timeout(WAIT)
    complaints = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: None if request.url.startswith((address, "data:", "blob:")) else complaints.append(request.url))
    opened.on("response", lambda answer: complaints.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    opened.goto(address)
    opened.wait_for_selector("#explain")
    yield opened
    assert complaints == []


def downloaded(page, button: str) -> bytes:
    with page.expect_download() as download:
        page.locator(button).click()
    return Path(download.value.path()).read_bytes()


def explained(model, targets, photo="ball_and_parachute.jpg"):
    config = model.config.with_samples(NUM_SAMPLES)
    return np.asarray(dave.explain(model, model.preprocess(PHOTOS / photo), targets, key=jax.random.key(0), config=config))


@pytest.fixture(scope="module")
def model():
    return dave.load()


def test_an_example_its_classes_and_maps_that_become_sharper(page, model):
    assert page.locator(".dj-empty").is_visible()
    page.locator("#explain").click()
    page.get_by_text("Drop a photograph first").wait_for()
    page.locator("#examples button").first.click()
    page.wait_for_selector(".dj-board")
    assert page.locator(".dj-notice").count() == 0
    rows = page.locator(".dj-odds li").all_inner_texts()
    assert len(rows) == 5 and re.match(r"parachute\s+\d\d %", rows[0]) and re.match(r"golf ball\s+\d\d %", rows[1])
    page.evaluate(  # what is shown between the beginning and the end
        """() => {
            window.seen = [];
            setInterval(() => {
                const board = document.querySelector('.dj-board'), map = board && board.querySelector('.dj-map img');
                if (map && (!window.seen.length || window.seen.at(-1)[1] !== map.src)) window.seen.push([board.dataset.samples, map.src]);
            }, 20);
        }"""
    )
    page.locator("#explain").click()
    page.locator("#maps").wait_for()
    seen = page.evaluate("window.seen")
    assert [int(samples) for samples, _ in seen] == sorted({int(samples) for samples, _ in seen})
    assert seen[-1][0] == str(NUM_SAMPLES) and len({picture for _, picture in seen}) >= 3  # two on the way, and the last
    assert page.locator(".dj-map").count() == 2 and "Done: 16 samples" in page.locator(".dj-status").inner_text()

    saved = np.load(io.BytesIO(downloaded(page, "#maps")))
    ids = [model.class_index(name) for name in ("parachute", "golf ball")]
    assert saved["target"].tolist() == ids
    np.testing.assert_allclose(saved["map"], explained(model, [ids])[0], atol=2e-4)  # optimised differently here and there
    provenance = json.loads(str(saved["provenance"]))
    assert (provenance["model"], provenance["photo"]) == (model.name, "ball_and_parachute.jpg")
    with Image.open(io.BytesIO(downloaded(page, "#picture"))) as picture:
        assert picture.format == "PNG" and picture.width > 3 * 168


def test_the_program_is_shown(page, model):
    page.locator("#program button").first.click()
    page.locator("#code .cm-content").wait_for()
    program = page.locator("#code .cm-content").inner_text()
    assert f"config = model.config.with_samples({NUM_SAMPLES})" in program and "ball_and_parachute.jpg" in program
    compile(program, "snippet", "exec")


def test_a_contrast(page, model):
    page.get_by_label("One class rather than another").click()
    page.locator("#one").wait_for()
    page.locator("#explain").click()
    page.get_by_text("parachute rather than golf ball").first.wait_for()
    page.get_by_text("Done: 16 samples").wait_for()
    saved = np.load(io.BytesIO(downloaded(page, "#maps")))
    cotangent = np.zeros((1, 10), np.float32)
    cotangent[0, model.class_index("parachute")], cotangent[0, model.class_index("golf ball")] = 1, -1
    np.testing.assert_allclose(saved["map"], explained(model, cotangent), atol=2e-4)


def test_stop(page):
    page.locator("#more button").first.click()
    page.locator("#samples input[type=number]").fill("128")  # not done before Stop is pressed, and first to be compiled
    page.locator("#samples input[type=number]").press("Tab")
    page.locator("#explain").click()
    page.locator(".dj-progress").wait_for()
    over: list[str] = []  # the stream of answers closes when the step that was under way has ended
    for event in ("requestfinished", "requestfailed"):
        page.on(event, lambda request: over.append(request.url) if "/queue/data" in request.url else None)
    page.locator("#stop").click()
    page.get_by_text("Stopped.").wait_for()
    for _ in range(WAIT // 100):
        if over:
            break
        page.wait_for_timeout(100)
    assert over
    page.wait_for_timeout(500)
    assert page.get_by_text("Stopped.").is_visible()
    assert not page.locator(".dj-status").is_visible() and not page.locator("#maps").is_visible()


def test_uploads(page, tmp_path):
    def upload(path):
        page.locator("#photo input[type=file]").first.set_input_files(path)

    page.locator("#photo").get_by_label("Clear").or_(page.locator("#photo").get_by_label("Remove Image")).first.click()
    page.locator(".dj-empty").wait_for()
    Image.new("1", (2000, 2000)).save(tmp_path / "bomb.png")
    upload(tmp_path / "bomb.png")
    page.get_by_text("2000 x 2000 pixels; the limit is 1 million").wait_for()
    assert page.locator(".dj-notice").get_attribute("role") == "alert"


def test_what_another_client_may_not(page, server):
    address = server[1]
    for path in ("docs", "gradio_api/file=/etc/passwd", "gradio_api/file=https://example.org/", "gradio_api/proxy=https://example.org/"):
        assert page.context.request.get(address + path).status in (403, 404), path
    heavy = {"files": {"name": "heavy.jpg", "mimeType": "image/jpeg", "buffer": b"0" * 1_200_000}}
    assert page.context.request.post(address + "gradio_api/upload", multipart=heavy).status == 413
    assert page.context.request.get(address, headers={"Host": "evil.example"}).status == 421


def test_it_fits_a_phone_in_both_schemes(chromium, server):
    for scheme in ("light", "dark"):
        page = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme).new_page()
        page.goto(server[1])
        page.wait_for_selector("#explain")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        red, green, blue = map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3])
        assert (red + green + blue > 600) == (scheme == "light")
        page.context.close()


def test_it_ends_and_leaves_nothing(page, server):
    """The last one: it stops the server."""
    process, _, folder = server
    before = sorted(path.name for path in (folder / "tmp").iterdir())
    assert any(name.startswith("dave-jax-app-") for name in before)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert process.stderr.read() == ""
    assert list((folder / "tmp").iterdir()) == [] and list((folder / "work").iterdir()) == []
    calls = (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []
    assert [call for call in calls if not re.search(r"127\.0\.0\.1|localhost|::1", call)] == []
