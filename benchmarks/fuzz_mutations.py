"""Hypothesis strategies for `fuzz.py` that break what is valid: bytes everywhere, and JSON by its structure."""

import copy
import json
import math
import struct
from typing import Any

from hypothesis import strategies as st

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
