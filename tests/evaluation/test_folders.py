"""The classes that a data set has."""

import io
import json
import tarfile

import pytest
from PIL import Image

from dave_jax.evaluation.folders import class_names


def photographs(folder, *names):
    for name in names:
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / name / "1.png")


def test_folders_archives_and_tables_have_the_same_classes(tmp_path):
    photographs(tmp_path / "data", "n03028079", "owl", "10", "9")
    (tmp_path / "data" / "classes.json").write_text(json.dumps({"owl": "barn owl"}))
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(tmp_path / "data", ".")
    table = [{"file": "x.png", "label": label} for label in ("church", "barn owl", "10", 9, None, "church")]
    (tmp_path / "table.json").write_text(json.dumps(table))
    for place in ("data", "data.tar", "table.json"):
        assert class_names(tmp_path / place) == ("9", "10", "barn owl", "church")


def test_an_archives_photographs_are_not_read_for_it(tmp_path):
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        for name in ("cat/1.jpg", "dog/1.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"no!"))
    assert class_names(tmp_path / "data.tar") == ("cat", "dog")


def test_classes_that_cannot_be_told_apart(tmp_path):
    photographs(tmp_path, "hot dog", "hot_dog", "cat")
    with pytest.raises(ValueError, match=r"\['hot dog', 'hot_dog'\] do not"):
        class_names(tmp_path)


def test_no_classes(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no data"):
        class_names(tmp_path / "none")
    with pytest.raises(ValueError, match="no photograph with a label"):
        class_names(tmp_path)
    (tmp_path / "data.zip").touch()
    with pytest.raises(ValueError, match=r"\.json, \.csv or \.tar"):
        class_names(tmp_path / "data.zip")
