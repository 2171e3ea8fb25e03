"""Fuzzed data sets for `fuzz.py`: tables of labels, lists, and archives."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_cases import ACCEPTED, Case, Wrong
from fuzz_mutations import broken_bytes, broken_json
from fuzz_photographs import encoded
from hypothesis import strategies as st

TABLES = {
    "labels.json": [
        {"file": "a.png", "label": "church", "boxes": [[1, 1, 8, 9]]},
        {"file": "b.png", "label": 3, "mask": "b_mask.png"},
        {"file": "a.png", "label": "tench", "boxes": []},
    ],
    "labels.csv": "file,label,x0,y0,x1,y1,mask\na.png,church,1,1,8,9,\nb.png,3,,,,,b_mask.png\na.png,tench,,,,,\n",
    "list.csv": "path,target\na.png,church\nb.png,3\na.png,\n",
    "classes.json": {"n01": "church", "two": 3},
}


def _member_files() -> dict[str, bytes]:
    return {"a.png": encoded("RGB", "PNG"), "b.png": encoded("L", "PNG"), "b_mask.png": encoded("L", "PNG")}


@st.composite
def table_cases(draw: Any) -> Case:
    name = draw(st.sampled_from(sorted(TABLES)))
    table, members = TABLES[name], _member_files()
    content = table.encode() if isinstance(table, str) else json.dumps(table).encode()
    if draw(st.integers(0, 9)) == 0:
        return Case(members | {name: content}, "valid", name)
    if draw(st.integers(0, 9)) == 0:
        broken = draw(st.sampled_from(sorted(members)))
        return Case(members | {broken: draw(broken_bytes(members[broken])), name: content}, None, name)
    if isinstance(table, str):
        cells = [line.split(",") for line in table.splitlines()]
        for _ in range(draw(st.integers(0, 2))):
            row = draw(st.sampled_from(cells))
            row[draw(st.integers(0, len(row) - 1))] = draw(st.sampled_from(_CELLS))
        text = "\n".join(",".join(row) for row in cells).encode("utf-8", "surrogateescape")
        return Case(members | {name: draw(st.one_of(st.just(text), broken_bytes(text)))}, None, name)
    return Case(members | {name: draw(broken_json(table))}, None, name)


_CELLS = [
    *(
        "",
        "nan",
        "inf",
        "-1",
        "1e400",
        "99",
        '"',
        '"""',
        "\0",
        "a\rb",
        "é",
        "\udcff",
        "../a.png",
        "/",
        "a.png",
        "x" * 5000,
        "x" * 200000,
        "x0",
    ),
    *("=1", "church", "Church ", "00", "-0", "4", "5", "٣", "1_0", "b_mask.png", "file", "label"),
]


def five_classes() -> Any:
    """A model of which only the names and the number of the classes are asked."""
    from dave_jax.models.model import Model
    from dave_jax.models.preprocess import Preprocessing

    names = ("tench", "church", "chain saw", "gas pump", "golf ball")
    return Model(None, _forward, preprocessing=Preprocessing(image_size=(16, 16)), class_names=names)


def _forward(params: Any, image: Any, decomposition: Any) -> Any:
    return image[0, :5, 0]


def check_table(folder: Path, case: Case) -> None:
    """As data to evaluate on, or as a list for a run over a data set."""
    from dave_jax.batch.listing import list_photographs
    from dave_jax.batch.wanted import parse_targets, targets_of
    from dave_jax.evaluation.data import read

    model = five_classes()
    if case.seed == "list.csv":
        found = list_photographs(folder / "list.csv")
        if not all(isinstance(name, str) and name for name in found.names) or len(found.labels) != len(found.names):
            raise Wrong("names or labels that are none")
        ids, unfit = targets_of(parse_targets(model, ["label"]), found, model)
        for index in range(len(found.names)):
            if index not in unfit and not 0 <= int(ids[index][0]) < 5:
                raise Wrong(f"class {ids[index]}")
        if case.same_as is not None and list(found.labels) != ["church", "3", None]:
            raise Wrong(f"labels {found.labels}")
        return
    if case.seed == "classes.json":
        for index, name in enumerate(("n01", "two")):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "p.png").write_bytes(case.files["ab"[index] + ".png"])
    try:
        photographs = read(folder if case.seed == "classes.json" else folder / case.seed, model)
        for photograph in photographs:
            if not 0 <= photograph.target < 5:
                raise Wrong(f"class {photograph.target}")
            region = photograph.region(model.preprocessing) if photograph.marked else None
            if region is not None and (region.shape != (16, 16) or not region.any()):
                raise Wrong("an empty region")
        if len({photograph.name for photograph in photographs}) != len(photographs):
            raise Wrong("a name twice")
        if case.same_as is not None and [photograph.target for photograph in photographs] != (
            [1, 3] if case.seed == "classes.json" else [1, 3, 0]
        ):
            raise Wrong(f"classes {[photograph.target for photograph in photographs]}")
    finally:
        if case.seed == "classes.json":
            for name in ("n01", "two"):
                (folder / name / "p.png").unlink()
                (folder / name).rmdir()


def archives() -> dict[str, bytes]:
    """Valid ones: plain, with labels, compressed."""
    found = {}
    for name, mode in {"plain.tar": "w:", "gnu.tar": "w:", "gz.tar": "w:gz", "xz.tar": "w:xz", "bz2.tar": "w:bz2"}.items():
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode, format=tarfile.GNU_FORMAT if name == "gnu.tar" else tarfile.PAX_FORMAT) as archive:
            members = {
                "church/a.png": encoded("RGB", "PNG"),
                "tench/" + "b" * 150 + ".png": encoded("L", "PNG"),
                "church/a.cls": b"church",
            }
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        found[name] = file.getvalue()
    return found


@st.composite
def archive_cases(draw: Any, seeds: dict[str, bytes]) -> Case:
    name = draw(st.sampled_from(sorted(seeds)))
    content = seeds[name]
    if draw(st.integers(0, 19)) == 0:
        return Case({"data.tar": content}, "valid", name)
    if draw(st.booleans()) and name in ("plain.tar", "gnu.tar"):  # a header with a checksum that fits
        data = bytearray(content)
        block = 512 * draw(st.integers(0, len(data) // 512 - 1))
        place, value = draw(st.sampled_from(_FIELDS))
        data[block + place : block + place + len(value)] = value
        data[block + 148 : block + 156] = b" " * 8
        data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
        return Case({"data.tar": bytes(data)}, None, name)
    return Case({"data.tar": draw(broken_bytes(content, tuple(seeds.values())))}, None, name)


_FIELDS = [
    *(
        (124, size)
        for size in (b"77777777777\0", b"00000000000\0", b"00000000001\0", b"-0000000001\0", b"\x80" + bytes(10) + b"\xff", b"\xff" * 12)
    ),
    *((156, bytes([kind])) for kind in b"012345678LKSxgVMN\0"),
    *((0, name) for name in (b"../../x.png\0", b"/etc/passwd\0", b"\xff\xfe.png\0", b"\0", b"church/classes.json\0")),
    *((100, b"xxxxxxx\0"), (136, b"\xff" * 12), (257, b"garbage\0"), (483, b"77777777777\0")),
]


def check_archive(folder: Path, case: Case) -> None:
    """As data to evaluate on, and as an archive of a run over a data set."""
    from dave_jax.batch.archives import list_archives
    from dave_jax.evaluation.data import read
    from dave_jax.models.preprocess import Preprocessing

    model, path = five_classes(), folder / "data.tar"
    if case.seed in ("plain.tar", "gnu.tar"):
        found = list_archives([path])
        for index in range(len(found.names)):
            try:
                images = Preprocessing(image_size=(8, 8))(found.photo(index))
            except ACCEPTED:  # one broken photograph of a data set has its name beside it
                continue
            if images.shape != (1, 8, 8, 3) or not np.isfinite(images).all():
                raise Wrong("no picture")
        if case.same_as is not None and list(found.labels) != ["church", "tench"]:
            raise Wrong(f"labels {found.labels}")
    photographs = read(path, model)
    if case.same_as is not None and [photograph.target for photograph in photographs] != [1, 0]:
        raise Wrong("other photographs")
    for photograph in photographs:
        try:
            photograph.photo()
        except ValueError as error:
            if photograph.name not in str(error):
                raise Wrong(f"names no file: {error}") from error
