"""What a source is taken for, and in which order its photographs come."""

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dave_jax.batch.archives import Archives
from dave_jax.batch.listing import as_bytes, as_text, expand, fingerprint, list_photographs
from dave_jax.batch.wanted import Wanted, parse_targets, targets_of
from dave_jax.models.model import Model
from dave_jax.models.preprocess import load_photo


def encoded(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 5), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def value_of(photographs, index: int) -> int:
    return load_photo(photographs.photo(index)).getpixel((0, 0))[0]


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def test_a_folder_is_listed_in_the_order_of_names_with_its_first_folders_as_labels(tmp_path):
    for i, name in enumerate(("b/2.png", "b/deep/1.jpg", "a/9.PNG", "top.png", ".hidden/x.png", "a/notes.txt")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(i))
    found = list_photographs(tmp_path)
    assert found.names == ["a/9.PNG", "b/2.png", "b/deep/1.jpg", "top.png"]
    assert found.labels == ["a", "b", "b", None]
    assert [value_of(found, i) for i in range(4)] == [2, 0, 1, 3]


def test_a_table_names_paths_beside_it_and_may_name_targets(tmp_path):
    (tmp_path / "x.png").write_bytes(encoded(7))
    (tmp_path / "list.csv").write_text("path,target\nx.png,church\nmissing.png,\n")
    found = list_photographs(tmp_path / "list.csv")
    assert (found.names, found.labels) == (["x.png", "missing.png"], ["church", None])
    assert value_of(found, 0) == 7
    (tmp_path / "list.csv").write_text("file\nx.png\n")
    with pytest.raises(ValueError, match="column path"):
        list_photographs(tmp_path / "list.csv")
    (tmp_path / "list.csv").write_bytes(b"path,target\nx.png,\xff\n")
    with pytest.raises(ValueError, match=r"list\.csv' is no CSV table in UTF-8"):
        list_photographs(tmp_path / "list.csv")


def test_archives_are_read_by_place_with_the_class_beside_the_image(tmp_path):
    first = {"000.png": encoded(1), "000.cls": b"3\n", "sub/001.jpg": encoded(2), "000.json": b"{}"}
    write_tar(tmp_path / "s-0.tar", first)
    write_tar(tmp_path / "s-1.tar", {"002.png": encoded(3), "003.png": encoded(4)[:40]})
    for source in (tmp_path, tmp_path / "s-*.tar", tmp_path / "s-{0..1}.tar"):
        found = list_photographs(str(source))
        assert isinstance(found, Archives)
        assert found.names == ["s-0.tar/000.png", "s-0.tar/sub/001.jpg", "s-1.tar/002.png", "s-1.tar/003.png"]
        assert found.labels == ["3", "sub", None, None]
        assert [value_of(found, i) for i in range(3)] == [1, 2, 3]
        with pytest.raises((ValueError, OSError)):
            found.photo(3)
    assert list_photographs(tmp_path / "s-0.tar").names == ["000.png", "sub/001.jpg"]


def test_a_member_is_no_longer_than_its_archive(tmp_path):
    """A header may say anything; so much memory would be reserved."""
    path = write_tar(tmp_path / "one.tar", {"a.png": encoded(5)})
    found = Archives(["a.png"], [None], [path], [(0, 512, 2**62)])
    assert value_of(found, 0) == 5


def test_patterns_are_expanded_with_their_zeros():
    assert expand("a{1..2}-{08..10}.tar")[:4] == ["a1-08.tar", "a1-09.tar", "a1-10.tar", "a2-08.tar"]


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("nothing", FileNotFoundError, "There is no data"),
        ("none-*.tar", FileNotFoundError, "No file fits"),
        ("text.txt", ValueError, "A source is a folder"),
        ("bad.tar", ValueError, "no uncompressed tar archive"),
        ("empty", ValueError, "holds no photograph"),
        ("dict", ValueError, "several datasets, train, test"),
    ],
)
def test_what_is_no_source_is_refused(tmp_path, name, error, match):
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "bad.tar").write_text("x" * 600)
    (tmp_path / "empty").mkdir()
    (tmp_path / "dict").mkdir()
    (tmp_path / "dict" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(error, match=match):
        list_photographs(tmp_path / name)


@pytest.mark.parametrize(("package", "file"), [("pyarrow", "list.parquet"), ("datasets", "state.json")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, package, file):
    for name in (file, "dataset_info.json"):
        (tmp_path / name).write_text("{}")
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=f"pip install {package}"):
        list_photographs(tmp_path / file if file.endswith("parquet") else tmp_path)


def test_a_parquet_table_is_as_a_csv_table(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"path": ["x.png", None, "y.png"], "target": ["church", "dog", None]}), tmp_path / "list.parquet")
    found = list_photographs(tmp_path / "list.parquet")
    assert (found.names, found.labels) == (["x.png", "y.png"], ["church", None])


@pytest.mark.filterwarnings("default")
def test_a_dataset_on_disk_gives_its_images_and_class_names(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"label": datasets.ClassLabel(names=["church", "tench"]), "photo": datasets.Image()})
    images = [{"bytes": encoded(5), "path": None}, {"bytes": encoded(6)[:40], "path": None}]
    datasets.Dataset.from_dict({"label": [1, 0], "photo": images}, features=features).save_to_disk(tmp_path / "set")
    found = list_photographs(tmp_path / "set")
    assert (found.names, found.labels) == (["0", "1"], ["tench", "church"])
    assert value_of(found, 0) == 5
    with pytest.raises((ValueError, OSError)):
        found.photo(1)


def test_photographs_in_memory_are_numbered():
    found = list_photographs([np.zeros((4, 4, 3), np.uint8), "a.png"])
    assert found.names == ["0", "a.png"]


def test_fingerprints_tell_order_and_labels_apart(tmp_path):
    prints = set()
    for text in ("path,target\na,1\nb,2\n", "path,target\nb,2\na,1\n", "path,target\na,2\nb,1\n", "path\na\nb\n"):
        (tmp_path / "list.csv").write_text(text)
        prints.add(fingerprint(list_photographs(tmp_path / "list.csv")))
    assert len(prints) == 4


def test_text_is_cut_between_characters():
    assert as_text(as_bytes("naïve", 3)) == "na" and as_text(as_bytes("naïve", 9)) == "naïve"


def test_targets_are_labels_classes_or_the_most_probable(tmp_path):
    (tmp_path / "list.csv").write_text("path,target\na,3\nb,\nc,9\nd,zebra\n")
    found, model = list_photographs(tmp_path / "list.csv"), Model.from_function(lambda image: image.ravel()[:5])
    assert parse_targets(model, "top-3") == Wanted(3, top=True)
    assert parse_targets(model, ["4", 0]) == Wanted(2, classes=(4, 0))
    classes, unfit = targets_of(parse_targets(model, "label"), found, model)
    assert classes[:, 0].tolist() == [3, 0, 0, 0] and sorted(unfit) == [1, 2, 3]
    assert targets_of(Wanted(2, classes=(4, 0)), found, model)[0].tolist() == [[4, 0]] * 4
    for wrong in ("top-6", "top-0", ["top-1", "2"], "5", "zebra", []):
        with pytest.raises(ValueError):
            parse_targets(model, wrong)


def test_photographs_in_memory_are_told_apart_by_their_pixels():
    first, second = (list_photographs([np.full((4, 4, 3), value, np.uint8)]) for value in (1, 2))
    assert fingerprint(first) == fingerprint(list_photographs([np.full((4, 4, 3), 1, np.uint8)])) != fingerprint(second)
