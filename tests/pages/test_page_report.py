"""The gallery's data and pictures are those of the store, whatever of it is missing; folders of others are left alone."""

import json
import os

import numpy as np
import pytest
from made_up import CLASSES, SIZE, make_photos, make_store
from PIL import Image

import dave_jax as dave
from dave_jax.pages.folder import as_script
from dave_jax.pages.report import stem, write_report


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos", 10)


def data(folder) -> dict:
    text = (folder / "data.js").read_text()
    assert text.startswith("window.page = ") and text.endswith(";\n") and "<" not in text
    return json.loads(text[len("window.page = ") : -2])


def files(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_report_holds_what_the_store_holds(photos, tmp_path):
    store, folder = make_store(tmp_path / "maps.zarr", photos, broken=[3]), tmp_path / "report"
    assert write_report(store, folder) == {"images": 10, "explained": 9, "failed": 1, "pending": 0, "lost": 0}
    found, maps = data(folder), dave.open_maps(store)
    assert [row["index"] for row in found["images"]] == [0, 1, 2, 4, 5, 6, 7, 8, 9] and found["size"] == list(SIZE)
    assert found["broken"] == [{"index": 3, "name": "003.png", "reason": "cannot be read"}]
    assert found["classes"] == {"0": CLASSES[0], "1": CLASSES[1]}
    for row in found["images"]:
        entry = maps[row["index"]]
        assert (row["name"], row["targets"]) == (entry.name, entry.targets.tolist())
        for name, values in (("probabilities", entry.probabilities), ("shares", entry.bias_shares), ("completeness", entry.completeness)):
            np.testing.assert_allclose(row[name], values, rtol=1e-6)
        photo = np.asarray(Image.open(folder / f"{stem(row['index'])}.jpg"))
        assert photo.shape == (*SIZE, 3) and abs(int(photo.mean()) - row["index"]) <= 1  # its grey
        for place in range(2):
            alpha = np.asarray(Image.open(folder / f"{stem(row['index'])}-{place}.png").convert("RGBA"))[..., 3]
            np.testing.assert_allclose(alpha / 255, np.sqrt(entry.maps[place].astype(float)), atol=0.003)
    settings = {name: text for group in found["settings"] for name, text in group["rows"]}
    assert settings["num_samples"] == "4" and settings["config.depth"] == "2" and settings["image_size"] == "12, 16"


def test_nothing_outside_the_folder_is_named(photos, tmp_path):
    write_report(make_store(tmp_path / "maps.zarr", photos), tmp_path / "report")
    for path in (tmp_path / "report").iterdir():
        if path.is_file():
            text = path.read_text()
            assert "://" not in text and "fetch(" not in text and "import(" not in text, path.name


def test_what_is_not_there_yet_is_counted(photos, tmp_path):
    store = make_store(tmp_path / "maps.zarr", photos, batches=1)
    assert write_report(store, tmp_path / "report") == {"images": 10, "explained": 4, "failed": 0, "pending": 6, "lost": 0}
    assert len(data(tmp_path / "report")["images"]) == 4


def test_photographs_that_are_gone_are_told(photos, tmp_path):
    store = make_store(tmp_path / "maps.zarr", photos)
    (photos / "002.png").unlink()
    assert write_report(store, tmp_path / "report")["lost"] == 1
    rows = data(tmp_path / "report")["images"]
    assert rows[2]["lost"] == "it is no longer in the source" and "lost" not in rows[3]
    photo = np.asarray(Image.open(tmp_path / "report" / f"{stem(3)}.jpg"))
    assert abs(int(photo.mean()) - 3) <= 1 and not (tmp_path / "report" / f"{stem(2)}.jpg").exists()  # found by name, not by place


def test_photographs_that_moved_are_found_where_one_says(photos, tmp_path):
    store = make_store(tmp_path / "maps.zarr", photos)
    photos.rename(tmp_path / "moved")
    assert write_report(store, tmp_path / "report")["lost"] == 10
    assert "There is no data" in data(tmp_path / "report")["problem"]
    assert write_report(store, tmp_path / "report", source=tmp_path / "moved")["lost"] == 0
    with pytest.raises(FileNotFoundError, match="There is no data"):
        write_report(store, tmp_path / "report", source=tmp_path / "elsewhere")
    assert data(tmp_path / "report")["counts"]["lost"] == 0  # the report before stays


def test_lists_of_paths_and_photographs_in_memory(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = make_store(tmp_path / "list.zarr", ["photos/004.png", str(photos / "005.png"), "photos/none.png"])
    monkeypatch.chdir(os.sep)
    assert write_report(store, tmp_path / "report")["lost"] == 1
    assert "There is no file" in data(tmp_path / "report")["images"][2]["lost"]
    pixels = np.full((2, 20, 30, 3), 7, np.uint8)
    store = make_store(tmp_path / "memory.zarr", pixels)
    assert write_report(store, tmp_path / "report")["lost"] == 2
    assert "in memory" in data(tmp_path / "report")["problem"]
    assert write_report(store, tmp_path / "report", source=pixels)["lost"] == 0


def test_a_report_is_replaced_and_other_folders_are_not(photos, tmp_path):
    store, folder = make_store(tmp_path / "maps.zarr", photos), tmp_path / "report"
    write_report(store, folder)
    before = files(folder)
    (folder / "mine.txt").write_text("kept")
    (folder / "pictures" / "000" / "000099.jpg").write_text("of another run")
    write_report(store, folder)
    assert files(folder) == before | {"mine.txt": b"kept"}
    for wrong in (photos, store):
        before = files(wrong)
        with pytest.raises(ValueError, match="holds something else than a report"):
            write_report(store, wrong)
        assert files(wrong) == before
    with pytest.raises(ValueError, match="is a file"):
        write_report(store, photos / "001.png")
    with pytest.raises(FileNotFoundError, match="no store of maps"):
        write_report(tmp_path / "nothing.zarr", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_scripts_cannot_end_early_and_numbers_are_json():
    assert as_script(["</script><!--"]).count("<") == 0
    with pytest.raises(ValueError):
        as_script([float("nan")])
