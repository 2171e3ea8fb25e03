"""The example pictures: what ships is what the script renders, and it renders the same every time."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = ROOT / "dave_jax" / "assets" / "photos"
NAMES = ["ball_and_parachute", "golf_ball", "parachute"]
HEIGHT = 48


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")  # as `python docs/make_pictures.py` does
        return runpy.run_path(str(ROOT / "docs" / "make_pictures.py"))


def test_every_shipped_picture_has_a_renderer_and_an_origin(script):
    assert sorted(path.stem for path in PHOTOS.glob("*.jpg")) == sorted(script["PICTURES"]) == NAMES
    origins = (ROOT / "docs" / "pictures.md").read_text()
    assert all(f"`{name}.jpg`" in origins for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_pictures_are_small_rgb_files(name):
    path = PHOTOS / f"{name}.jpg"
    assert path.stat().st_size < 150_000
    with Image.open(path) as image:
        assert (image.mode, image.format, image.size) == ("RGB", "JPEG", (640, 480))


@pytest.mark.parametrize("name", NAMES)
def test_rendering_is_deterministic_and_gives_what_ships(name, script):
    first, second = (np.asarray(script["PICTURES"][name](HEIGHT)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    with Image.open(PHOTOS / f"{name}.jpg") as image:
        shipped = np.asarray(image.resize((HEIGHT * 4 // 3, HEIGHT), Image.Resampling.BOX))
    assert first.shape == shipped.shape
    # A scene is the same at every size up to grain (2 of 255), JPEG and thin lines; unlike scenes differ by 50 and more.
    assert np.abs(first.astype(float) - shipped).mean() < 15


def test_the_command_writes_the_files(script, tmp_path):
    script["main"](["-o", str(tmp_path / "new"), "--height", "24"])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [f"{name}.jpg" for name in NAMES]
