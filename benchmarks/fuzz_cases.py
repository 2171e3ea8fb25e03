"""What `fuzz.py` feeds and what it accepts: valid files, Hypothesis strategies that break them, and checks of what comes out.

A check returns normally only where the answer is right; an error is told apart by its class, and must name the file. Structure is broken
where there is some (JSON documents, a safetensors header, EXIF), and bytes everywhere.
"""

import copy
import io
import json
import math
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from PIL import Image


class Wrong(Exception):
    """Neither a clear error nor a right answer."""


class Case(NamedTuple):
    """Files to write, and what is known of the answer.

    Attributes:
        files: content by name.
        same_as: what the answer must equal, where the change does not touch it; else None.
        seed: of what valid file it was made.
    """

    files: dict[str, bytes]
    same_as: Any = None
    seed: str = ""


class Kind(NamedTuple):
    """Of input.

    Attributes:
        cases: a strategy.
        check: reads what was written to a folder; raises the reader's errors, or `Wrong`.
    """

    cases: st.SearchStrategy[Case]
    check: Callable[[Path, Case], None]


ACCEPTED = (ValueError, TypeError, OSError)
"""Errors that a reader may raise."""


def outcome(kind: Kind, folder: Path, case: Case) -> str:
    """`right`, the class of a clear error, or `WRONG: ...`."""
    for file in folder.iterdir():
        file.unlink()
    for name, content in case.files.items():
        (folder / name).write_bytes(content)
    try:
        kind.check(folder, case)
    except Wrong as error:
        return f"WRONG: {error}"
    except ACCEPTED as error:
        if not any(name in str(error) for name in (*case.files, str(folder))):
            return f"WRONG: names no file: {type(error).__name__}: {str(error)[:300]}"
        return next(known.__name__ for known in (FileNotFoundError, *ACCEPTED) if isinstance(error, known))
    except Exception as error:
        return f"WRONG: {type(error).__name__}: {str(error)[:300]}"
    return "right"


# Bytes.

_EDGES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]


@st.composite
def broken_bytes(draw: Any, content: bytes, others: tuple[bytes, ...] = ()) -> bytes:
    """Up to four changes: bytes set, numbers at their limits, parts cut, doubled, zeroed or taken from other files, ends cut or added."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        early = draw(st.booleans())  # headers lie there
        place = place % 64 if early and place else place
        size = draw(st.integers(1, 64))
        match draw(st.integers(0, 7)):
            case 0:
                data[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                number = draw(st.sampled_from(_EDGES))
                data[place : place + 4] = struct.pack(draw(st.sampled_from(("<I", ">I"))), number)
            case 2:
                del data[place : place + size]
            case 3:
                data[place:place] = data[place : place + size] * draw(st.integers(1, 4))
            case 4:
                data[place : place + size] = bytes(len(data[place : place + size]))
            case 5:
                del data[place:]
            case 6:
                data += draw(st.binary(max_size=32))
            case 7:
                other = draw(st.sampled_from((content, *others)))
                data[place : place + size] = other[place : place + size]
    return bytes(data)


# JSON.

_VALUES = [
    *(None, True, False, -1, 0, 1, 2, 3, 7, 16, 1.5, -0.0, 1e-300, 1e300, math.nan, math.inf, -math.inf),
    *(2**31, 2**63, 10**30, "", "x", "16", "é\u0000", [], {}, [1, 2], [16, 16], [[]], {"a": 1}, [None], ["a"], [1] * 1000),
]


def paths(value: Any, prefix: tuple = ()) -> list[tuple]:
    """Of everything inside a JSON document."""
    found = []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += [(*prefix, key), *paths(inner, (*prefix, key))]
    return found


@st.composite
def broken_document(draw: Any, document: Any) -> Any:
    """One to three changes: entries replaced, left out, renamed, exchanged, added; numbers scaled."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = paths(document)
        if not places:
            return document
        *way, last = draw(st.sampled_from(places))
        parent = document
        for step in way:
            parent = parent[step]
        match draw(st.integers(0, 5)):
            case 0 | 1:
                parent[last] = copy.deepcopy(draw(st.sampled_from(_VALUES)))
            case 2:
                del parent[last]
            case 3 if isinstance(parent, dict):
                parent[draw(st.sampled_from((str(last).upper(), f"{last}_", "num_classes", "img_size", "0")))] = parent.pop(last)
            case 4 if isinstance(parent[last], int | float):
                parent[last] = draw(st.sampled_from((lambda n: -n, lambda n: 2 * n, lambda n: n + 1, lambda n: n * 10**6, str)))(
                    parent[last]
                )
            case _:
                value = document
                for step in draw(st.sampled_from(places)):
                    value = (
                        value[step]
                        if isinstance(value, dict | list) and step in (value if isinstance(value, dict) else range(len(value)))
                        else 0
                    )
                parent[last] = copy.deepcopy(value)
    return document


@st.composite
def broken_json(draw: Any, document: Any) -> bytes:
    """Mostly a document with other entries; sometimes other text."""
    if draw(st.integers(0, 9)):
        return json.dumps(draw(broken_document(document))).encode()
    text = json.dumps(document).encode()
    return draw(
        st.one_of(
            broken_bytes(text),
            st.sampled_from((b"", b"null", b"[" * 50000, b'{"a":' * 50000, b"\xff\xfe", b"9" * 5000, b"\xef\xbb\xbf" + text)),
        )
    )


# Photographs.


def _pixels(mode: str, size: tuple[int, int] = (24, 17)) -> Image.Image:
    draw = np.random.default_rng(len(mode))
    rows = draw.integers(0, 256, (size[1], size[0], 4), np.uint8)
    rows[: size[1] // 2] //= 3  # not the same upside down
    if mode.startswith("I"):
        return (
            Image.fromarray(rows[..., 0].astype(np.uint16) * 257)
            if mode == "I;16"
            else Image.fromarray(rows[..., 0].astype(np.int32) * 257)
        )
    if mode == "F":
        return Image.fromarray(rows[..., 0].astype(np.float32) / 255)
    if mode == "PA":
        return Image.fromarray(rows, "RGBA").quantize(16)
    return Image.fromarray(rows[..., :3]).convert(mode)


def _encoded(mode: str, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    _pixels(mode).save(file, kind, **options)
    return file.getvalue()


def _oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "maker"
    return exif


def photographs() -> dict[str, bytes]:
    """Valid ones: formats, modes, compressions, orientations, animations."""
    found = {f"{mode} {kind} {options}".replace("'", ""): _encoded(mode, kind, **options) for mode, kind, options in _FORMS}
    frames = [_pixels("RGB"), _pixels("L").convert("RGB")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        found[f"two frames {kind}"] = file.getvalue()
    for orientation in range(1, 9):
        found[f"orientation {orientation}"] = _encoded("RGB", "PNG" if orientation % 2 else "JPEG", exif=_oriented(orientation))
    return found


_FORMS: list[tuple[str, str, dict[str, Any]]] = [
    *(("RGB", "JPEG", {}), ("RGB", "JPEG", {"progressive": True}), ("L", "JPEG", {}), ("CMYK", "JPEG", {})),
    *((mode, "PNG", {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("P", "PNG", {"transparency": 3}), ("P", "PNG", {"transparency": bytes(range(200))}), ("PA", "PNG", {})),
    *(("RGB", "WEBP", {"lossless": True}), ("RGBA", "WEBP", {}), ("P", "GIF", {}), ("L", "GIF", {"transparency": 0}), ("RGB", "BMP", {})),
    *((mode, "TIFF", {}) for mode in ("1", "L", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I", "F", "P")),
    *(("RGB", "TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
]

SUFFIXES = (".jpg", ".png", ".tif", ".gif", ".webp")


@st.composite
def photo_cases(draw: Any, seeds: dict[str, bytes]) -> Case:
    name = draw(st.sampled_from(sorted(seeds)))
    content, file = seeds[name], f"photo{draw(st.sampled_from(SUFFIXES))}"
    match draw(st.integers(0, 19)):
        case 0:  # what it was
            return Case({file: content}, content, name)
        case 1:  # the same pixels, turned, with an orientation that turns them back
            orientation = draw(st.integers(1, 8))
            out = io.BytesIO()
            _pixels("RGB").transpose(_TURNS[orientation]).save(out, "PNG", exif=_oriented(orientation)) if orientation > 1 else out.write(
                seeds["RGB PNG {}"]
            )
            return Case({file: out.getvalue()}, seeds["RGB PNG {}"], f"turned {orientation}")
        case 2:
            return Case({file: _resized_png(draw(st.sampled_from(_SIZES)), draw(st.sampled_from(_SIZES)))}, None, "dimensions")
    return Case({file: draw(broken_bytes(content, tuple(seeds.values())))}, None, name)


_SIZES = [0, 1, 2, 17, 1000, 12345, 13378, 2**16, 2**24, 2**31 - 1, 2**32 - 1]
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What undoes what a viewer does for an orientation."""


def _resized_png(width: int, height: int) -> bytes:
    """A PNG whose header states another size, with a checksum that fits."""
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")


def check_photo(folder: Path, case: Case) -> None:
    """As a file, and as the bytes of an archive's member: the same answer, finite, of the right shape."""
    from dave_jax.models.preprocess import Preprocessing, load_photo

    preprocessing = Preprocessing(image_size=(64, 48))
    (file,) = (folder / name for name in case.files)
    upright = load_photo(file)
    if upright.mode != "RGB" or min(upright.size) < 1:
        raise Wrong(f"mode {upright.mode}, size {upright.size}")
    images = preprocessing(file)
    if images.shape != (1, 64, 48, 3) or images.dtype != np.float32 or not np.isfinite(images).all() or abs(images).max() > 1 + 1e-6:
        raise Wrong(f"shape {images.shape}, dtype {images.dtype}, finite {np.isfinite(images).all()}")
    if case.same_as is not None:
        (folder / "same.bin").write_bytes(case.same_as)
        if not np.array_equal(images, preprocessing(folder / "same.bin")):
            raise Wrong("another picture than the one that it is")


# Tables and archives.

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
    return {"a.png": _encoded("RGB", "PNG"), "b.png": _encoded("L", "PNG"), "b_mask.png": _encoded("L", "PNG")}


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
                "church/a.png": _encoded("RGB", "PNG"),
                "tench/" + "b" * 150 + ".png": _encoded("L", "PNG"),
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


def kinds(names: list[str], folder: Path) -> dict[str, Kind]:
    """Those asked for; the models of some are written to a folder first."""
    from fuzz_models import config_kind, safetensors_kind

    makers: dict[str, Callable[[], Kind]] = {
        "photographs": lambda: Kind(photo_cases(photographs()), check_photo),
        "tables": lambda: Kind(table_cases(), check_table),
        "archives": lambda: Kind(archive_cases(archives()), check_archive),
        "safetensors": lambda: safetensors_kind(folder),
        "config": lambda: config_kind(folder),
    }
    return {name: makers[name]() for name in names}
