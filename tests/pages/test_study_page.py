"""The study that is written: what stores must agree on, which comparisons are asked, and that nothing tells whose a map is."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from made_up import CLASSES, make_photos, make_store
from PIL import Image

import dave_jax as dave
from dave_jax.pages.items import Item
from dave_jax.pages.study import choose_trials, write_study


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos", 10)


@pytest.fixture
def stores(photos, tmp_path):
    return [make_store(tmp_path / f"{name}.zarr", photos, seed=seed) for seed, name in enumerate(("dave", "rival", "secret"))]


def data(folder) -> dict:
    return json.loads((folder / "data.js").read_text()[len("window.page = ") : -2])


def test_pictures_are_the_stores_and_the_key_says_whose(stores, tmp_path):
    folder = tmp_path / "study"
    found = write_study(stores, folder, trials=15, repeats=0.2)
    assert (found["trials"], found["repeats"], found["checks"], found["left_out"]) == (15, 3, 2, {})
    page, key = data(folder), json.loads((tmp_path / "study.key.json").read_text())
    assert page["study"] == key["study"] == found["study"] and page["trials"] == key["trials"]
    assert set(page) == {"study", "question", "seed", "size", "repeats", "checks", "trials"}
    opened = {name: dave.open_maps(entry["store"]) for name, entry in key["methods"].items()}
    assert list(opened) == ["dave", "rival", "secret"]
    for trial in page["trials"]:
        one, other = (key["pictures"][trial[side]] for side in ("one", "other"))
        assert one["photograph"] == other["photograph"] and one["class"] == other["class"] == trial["class"]
        assert one["method"] != other["method"]
        number = int(one["photograph"].partition(".")[0])
        assert abs(int(np.asarray(Image.open(folder / "pictures" / f"{trial['photo']}.jpg")).mean()) - number) <= 1
        for picture, entry in ((trial["one"], one), (trial["other"], other)):
            alpha = np.asarray(Image.open(folder / "pictures" / f"{picture}.png").convert("RGBA"))[..., 3]
            heat = opened[entry["method"]][number].maps[CLASSES.index(entry["class"])]
            np.testing.assert_allclose(alpha / 255, np.sqrt(heat.astype(float)), atol=0.003)


def test_nothing_in_the_folder_tells_whose_a_map_is(stores, tmp_path):
    write_study(stores, tmp_path / "study", trials=30)
    text = "".join(path.read_text() for path in (tmp_path / "study").iterdir() if path.is_file())
    assert not re.search(r"rival|secret|\.zarr|photos|\d\d\d\.png|://", text)
    key = json.loads((tmp_path / "study.key.json").read_text())
    methods = Counter((key["pictures"][trial["one"]]["method"], key["pictures"][trial["other"]]["method"]) for trial in key["trials"])
    assert len(methods) == 6  # each pair in either order
    numbers = {name: [int(number) for number, entry in key["pictures"].items() if entry["method"] == name] for name in key["methods"]}
    assert all(min(own) < max(other) and max(own) > min(other) for own in numbers.values() for other in numbers.values())


def test_the_seed_decides_and_other_maps_are_another_study(stores, photos, tmp_path):
    hashes = [write_study(stores[:2], tmp_path / f"study{i}", seed=seed)["study"] for i, seed in enumerate((0, 0, 1))]
    assert hashes[0] == hashes[1] != hashes[2]
    assert data(tmp_path / "study0") == data(tmp_path / "study1") != data(tmp_path / "study2")
    assert write_study([stores[0], stores[2]], tmp_path / "other")["study"] not in hashes
    assert write_study(stores[:2], tmp_path / "asked", question="Better for {class}?")["study"] not in hashes


def test_pairs_and_photographs_are_asked_evenly():
    items = [Item(f"{i}", "dog", ((i, 0),) * 3) for i in range(8)]
    trials = choose_trials(items, 3, 12, 0)
    assert set(Counter(tuple(sorted(trial.stores)) for trial in trials).values()) == {4}
    assert max(Counter(trial.item for trial in trials).values()) == 2  # twelve over eight
    everything = choose_trials(items, 3, 1000, 0)
    assert len({(trial.item, tuple(sorted(trial.stores))) for trial in everything}) == len(everything) == 24
    assert choose_trials(items, 3, 12, 0) == trials != choose_trials(items, 3, 12, 1)


def test_stores_must_agree(stores, photos, tmp_path):
    folder = tmp_path / "study"
    half = make_store(tmp_path / "half.zarr", photos, seed=5, batches=2, broken=[1])
    other = make_store(tmp_path / "other.zarr", photos, seed=6, targets=(1, 3))
    with pytest.raises(
        ValueError, match=r"'dave' has 6 maps that not all have \(001\.png: golf ball, 001\.png: parachute, \.\.\.\).*14 maps"
    ):
        write_study([stores[0], half], folder)
    with pytest.raises(ValueError, match=r"'dave' has 10 maps .*golf ball.*'other' has 10 maps .*dog"):
        write_study([stores[0], other], folder)
    with pytest.raises(ValueError, match="hold the same run"):
        write_study([stores[0], make_store(tmp_path / "again.zarr", photos)], folder)
    with pytest.raises(ValueError, match="2 or more stores"):
        write_study(stores[:1], folder)
    with pytest.raises(ValueError, match="repeats from 0 to 1/3"):
        write_study(stores, folder, repeats=0.5)
    assert not folder.exists() and not (tmp_path / "study.key.json").exists()
    assert write_study([stores[0], half], folder, intersection=True)["trials"] == 14
    assert write_study([stores[0], other, stores[1]], tmp_path / "study2", intersection=True)["trials"] == 30  # 10 items, 3 pairs
    with pytest.raises(ValueError, match="no map of the same photograph"):
        write_study([stores[0], make_store(tmp_path / "third.zarr", photos, seed=7, targets=(2, 3))], folder, intersection=True)


def test_other_crops_and_unnamed_photographs_are_refused(stores, photos, tmp_path):
    attributes = dave.open_maps(stores[0]).attributes["run"]["model"]
    model = attributes | {"preprocessing": attributes["preprocessing"] | {"crop_fraction": 0.5}}
    with pytest.raises(ValueError, match=r"do not see photographs alike \(crop_fraction: 1\.0 -> 0\.5\)"):
        write_study([stores[0], make_store(tmp_path / "crop.zarr", photos, model=model)], tmp_path / "study")
    pixels = [np.full((3, 20, 30, 3), level, np.uint8) for level in (1, 2)]
    unnamed = [make_store(tmp_path / f"memory{i}.zarr", one, seed=i) for i, one in enumerate(pixels)]
    with pytest.raises(ValueError, match="in memory and have no names"):
        write_study(unnamed, tmp_path / "study")


def test_photographs_that_are_gone_are_left_out(stores, photos, tmp_path):
    (photos / "004.png").unlink()
    found = write_study(stores[:2], tmp_path / "study")
    assert found["trials"] == 18 and found["left_out"] == {"004.png": "it is no longer in the source"}
    photos.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"No photograph of the stores can be read.*--source"):
        write_study(stores[:2], tmp_path / "gone")
    assert write_study(stores[:2], tmp_path / "gone", source=tmp_path / "moved")["trials"] == 18


def test_a_key_that_answers_need_is_not_overwritten(stores, tmp_path):
    write_study(stores[:2], tmp_path / "study")
    before = (tmp_path / "study.key.json").read_bytes(), (tmp_path / "study" / "data.js").read_bytes()
    with pytest.raises(ValueError, match="is the key of another study"):
        write_study(stores[:2], tmp_path / "study", seed=1)
    write_study(stores[:2], tmp_path / "study")
    assert before == ((tmp_path / "study.key.json").read_bytes(), (tmp_path / "study" / "data.js").read_bytes())
    with pytest.raises(ValueError, match="holds something else than a study"):
        write_study(stores[:2], stores[0])
