"""Data sets: every form gives the same photographs, and whatever is wrong is named before any work."""

import dataclasses
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dave_jax as dave
from dave_jax.evaluation.data import MASK_FRAME, Photograph, fingerprint, read
from dave_jax.evaluation.regions import boxes_to_region

CLASSES = ("tench", "English springer", "church", "gas pump", "golf ball")


@pytest.fixture(scope="module")
def model():
    return dataclasses.replace(dave.testing.tiny_model(), class_names=CLASSES)


def picture(path: Path, size=(30, 20), seed=0, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def table(folder: Path, *entries: dict) -> Path:
    (folder / "labels.json").write_text(json.dumps(entries))
    return folder


def found(photographs: list[Photograph]) -> dict[str, int]:
    assert len({photograph.name for photograph in photographs}) == len(photographs)
    return {photograph.name: photograph.target for photograph in photographs}


def test_class_folders_by_name_by_number_and_by_wordnet_id(model, tmp_path):
    for i, name in enumerate(("golf_ball/a.png", "Church/deep/b.jpg", "3/c.png", "n01440764/d.webp", "golf_ball/notes.txt")):
        picture(tmp_path / name, seed=i) if not name.endswith("txt") else (tmp_path / name).write_text("no image")
    assert found(read(tmp_path, model)) == {"3/c.png": 3, "Church/deep/b.jpg": 2, "golf_ball/a.png": 4, "n01440764/d.webp": 0}


def test_classes_json_translates_folders(model, tmp_path):
    picture(tmp_path / "n2" / "a.png")
    picture(tmp_path / "n1" / "b.png")
    (tmp_path / "classes.json").write_text(json.dumps({"n1": "gas pump", "n2": 1}))
    assert found(read(tmp_path, model)) == {"n1/b.png": 3, "n2/a.png": 1}


def test_an_archive_is_its_folder(model, tmp_path):
    for i, name in enumerate(("n01440764/a.png", "own/b.png")):
        picture(tmp_path / "data" / name, seed=i)
    (tmp_path / "data" / "classes.json").write_text(json.dumps({"own": "church"}))
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(tmp_path / "data", ".")
    packed, unpacked = read(tmp_path / "data.tar", model), read(tmp_path / "data", model)
    assert found(packed) == found(unpacked) == {"n01440764/a.png": 0, "own/b.png": 2}
    assert all(np.array_equal(a.photo(), b.photo()) for a, b in zip(packed, unpacked, strict=True))
    assert fingerprint(packed) == fingerprint(unpacked)


def test_a_csv_is_the_json_table(model, tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    entries = [
        {"file": "a.png", "label": "church", "boxes": [[0, 0, 15, 20], [20, 0, 30, 20]]},
        {"file": "b.png", "label": "3", "boxes": None},
    ]
    (tmp_path / "t.csv").write_text("file,label,x0,y0,x1,y1\na.png,church,0,0,15,20\nb.png,3,,,,\na.png,church,20,0,30,20\n")
    (tmp_path / "t.json").write_text(json.dumps(entries))
    assert read(tmp_path / "t.csv", model) == read(tmp_path / "t.json", model)
    assert [photograph.marked for photograph in read(tmp_path / "t.csv", model)] == [True, False]


def test_labels_that_are_left_out(model, tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name)
    table(
        tmp_path,
        {"file": "a.png", "label": None, "kind": "church"},
        {"file": "b.png", "label": "church", "kind": "gas pump"},
        {"file": "absent.png", "label": "yak", "kind": None},
        {"file": "b.png", "label": "tench", "kind": None},
    )
    assert found(read(tmp_path, model, skip_unknown=True)) == {"b.png": 2, "b.png#tench": 0}  # an unknown class: the file is never opened
    assert found(read(tmp_path, model, label_field="kind")) == {"a.png": 2, "b.png": 3}


def test_boxes_are_those_of_the_upright_photograph(model, tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6  # stored on its side
    picture(tmp_path / "a.jpg", size=(30, 20), exif=turned)
    (photograph,) = read(table(tmp_path, {"file": "a.jpg", "label": "church", "boxes": [[0, 0, 20, 30]]}), model)
    assert photograph.photo().size == (20, 30) and photograph.region(model.preprocessing).all()
    with pytest.raises(ValueError, match="inside its photograph, 0 to 20 across and 0 to 30 down"):
        read(table(tmp_path, {"file": "a.jpg", "label": "church", "boxes": [[0, 0, 30, 20]]}), model)


def test_regions_are_boxes_or_masks_in_the_models_frame(model, tmp_path):
    picture(tmp_path / "a.png")
    inside = np.zeros((20, 30), np.uint8)
    inside[4:12, 8:20] = 255
    Image.fromarray(inside).save(tmp_path / "whole.png")
    seen = np.asarray(MASK_FRAME(Image.fromarray(inside)))[0, ..., 0] > 0  # what is left of it in the frame of resize 256 and crop 224
    Image.fromarray(seen.astype(np.uint8) * 255).save(tmp_path / "frame.png")
    box = {"file": "a.png", "label": "church", "boxes": [[8, 4, 20, 12]]}
    whole, frame = ({"file": "a.png", "label": "church", "mask": name} for name in ("whole.png", "frame.png"))
    expected = boxes_to_region([[8, 4, 20, 12]], (20, 30), model.preprocessing)
    for entry in (box, whole, frame):
        (photograph,) = read(table(tmp_path, entry), model)
        region = photograph.region(model.preprocessing)
        assert region.any() and (region != expected).sum() <= (0 if entry is not frame else 6), entry  # resampled twice: its border moves


def test_an_object_outside_the_crop_is_not_marked(model, tmp_path):
    picture(tmp_path / "a.png", size=(90, 20))
    (photograph,) = read(table(tmp_path, {"file": "a.png", "label": "church", "boxes": [[0, 0, 20, 20]]}), model)
    assert not photograph.marked


def test_the_fingerprint_tells_data_apart(model):
    one = Photograph("a", 1, b"bytes", ((0.0, 0.0, 2.0, 2.0),))
    others = [dataclasses.replace(one, **change) for change in ({"name": "b"}, {"target": 2}, {"content": b"byte"}, {"boxes": ()})]
    assert len({fingerprint([photograph]) for photograph in (one, *others)}) == 5


BAD = [
    ({"file": "a.png", "label": "curch"}, r"label 'curch' is none of the model's classes \(Near names: \['church'\]\)"),
    ({"file": "a.png", "label": 5}, r"label '5' is none of the model's classes \(class numbers end at 4\)"),
    ({"file": "absent.png", "label": "church"}, "there is no file"),
    ({"file": "a.png", "label": "church", "boxes": [[0, 0, 31, 20]]}, "a.png: A box must lie inside its photograph, 0 to 30 across"),
    ({"file": "a.png", "label": "church", "boxes": [[10, 0, 5, 20]]}, "x0 < x1"),
    ({"file": "a.png", "label": "church", "boxes": [[0, 0, 5]]}, r"\(x0, y0, x1, y1\)"),
    ({"file": "a.png", "label": "church", "boxes": "0 0 5 5"}, "a list of boxes"),
    (
        {"file": "a.png", "label": "church", "mask": "m.png"},
        r"a mask must have the shape of its photograph, \(20, 30\), or be \(224, 224\)",
    ),
    ({"file": "a.png", "label": "church", "mask": "absent.png"}, "there is no mask"),
    ({"file": 3, "label": "church"}, "An entry of .* has a file"),
    ({"label": "church"}, r"needs a field 'file'; its fields are \['label'\]"),
    ({"file": "a.png"}, "needs a field 'label'"),
    ({"file": "a.png", "label": None}, "no photograph with a label"),
]


@pytest.mark.parametrize(("entry", "message"), BAD)
def test_bad_entries(entry, message, model, tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "m.png", size=(10, 10))
    with pytest.raises((ValueError, OSError), match=message):
        read(table(tmp_path, entry), model)


def test_problems_are_counted_and_the_first_shown(model, tmp_path):
    picture(tmp_path / "a.png")
    entries = [{"file": "a.png", "label": name} for name in ("w", "x", "y", "z", "church", "church")]
    with pytest.raises(ValueError, match=r"'w' is none .*'x' is none .*'y' is none .*; and 2 more\."):
        read(table(tmp_path, *entries), model)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent", None, "There is no data"),
        ("t.json", "{", "is not JSON"),
        ("t.json", "{}", "must hold a list of objects"),
        ("t.csv", "file,label,x0,y0,x1,y1\na.png,church,1,2,,4\n", r"Line 2 of .* needs x0, y0, x1 and y1"),
        ("t.tar", "text", "is no tar archive"),
        ("t.txt", "text", r"Data is a folder, a \.json, \.csv or \.tar file"),
        ("empty/x", "text", "no photograph with a label"),
        ("folder/ant/a.png", "text", "class folder 'ant' is none of the model's classes"),
    ],
)
def test_bad_places(name, content, message, model, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        path.write_text(content)
    data = path if path.parent == tmp_path else tmp_path / Path(name).parts[0]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(data, model)


def test_a_broken_photograph_in_an_archive(tmp_path):
    with pytest.raises(ValueError, match=r"'a/b\.png' is not a photograph"):
        Photograph("a/b.png", 0, b"no image").photo()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,label\na.png,\xff\n", "no CSV table in UTF-8"),
        (b"file,label\na.png,church,1,2\n", "line 2 has more fields than the first"),
        (b"file,label\na.png," + b"x" * 200_000, "field larger than field limit"),
        (b'file,label\na.png,"church\n', "unexpected end of data"),
        (b"file,label,label\na.png,church,tench\n", "must name each column once"),
        (b"", "must name each column once"),
    ],
    ids=range(6),
)
def test_a_broken_csv_table_is_named(content, message, model, tmp_path):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"list\.csv' is no CSV table in UTF-8 \(.*{message}|list\.csv' is {message}"):
        read(tmp_path / "list.csv", model)


def test_a_mark_in_front_of_a_table_is_no_part_of_its_first_column(model, tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("\ufefffile,label\na.png,church\n", encoding="utf-8")
    assert found(read(tmp_path / "list.csv", model)) == {"a.png": 2}


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b"9" * 5000, b'{"file": 1}'], ids=range(4))
def test_a_broken_json_table_is_named(content, model, tmp_path):
    (tmp_path / "labels.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"labels\.json' (is not JSON|must hold a list of objects)"):
        read(tmp_path, model)


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_a_damaged_archive_is_named(compression, model, tmp_path):
    picture(tmp_path / "church" / "a.png", size=(200, 200))
    with tarfile.open(tmp_path / "whole.tar", f"w:{compression}") as archive:
        archive.add(tmp_path / "church", "church")
    whole = (tmp_path / "whole.tar").read_bytes()
    assert found(read(tmp_path / "whole.tar", model)) == {"church/a.png": 2}
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.tar' is no tar archive, or damaged"):
        read(tmp_path / "cut.tar", model)


def test_an_archive_that_asks_for_all_memory_and_one_with_broken_classes(model, tmp_path, monkeypatch):
    (tmp_path / "classes.json").write_text("[1]")
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(tmp_path / "classes.json", "classes.json")
    with pytest.raises(ValueError, match=r"classes\.json in '.*data\.tar' must hold one object"):
        read(tmp_path / "data.tar", model)
    monkeypatch.setattr(tarfile, "open", lambda *_: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(ValueError, match=r"data\.tar' is no tar archive, or damaged"):
        read(tmp_path / "data.tar", model)


@pytest.mark.parametrize("broken", ["a.png", "mask.png"])
def test_broken_pictures_of_a_table_are_named(broken, model, tmp_path):
    """Whatever a decoder raises: here a chunk that Pillow calls a syntax error."""
    for name in ("a.png", "mask.png"):
        picture(tmp_path / name)
    content = (tmp_path / broken).read_bytes()
    (tmp_path / broken).write_bytes(content[:33] + b"\0\0\0\1\0\0\0\0" + content[41:])
    with pytest.raises(ValueError, match=rf"{broken}' cannot be read as an image"):
        read(table(tmp_path, {"file": "a.png", "label": "church", "mask": "mask.png"}), model)
    with pytest.raises(ValueError, match=r"'a/b\.png' "):
        Photograph("a/b.png", 0, (tmp_path / broken).read_bytes()).photo()
