"""The folder of a page: whether it may be written, and what is in every one: document, styles, scripts, and data as a script.

A page that was opened as a file may not fetch anything, so its data come as a script too: `data.js` sets `window.page`. It is written last,
and a page without it says that it is not finished.
"""

import html
import json
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from dave_jax.evaluation.log import write_bytes

DATA = "data.js"
PICTURES = "pictures"


def asset(name: str) -> str:
    """The text of a file in `dave_jax/pages/assets/`.

    Example:
        >>> asset("frame.html").startswith("<!doctype html>")
        True
    """
    return resources.files("dave_jax.pages").joinpath("assets", name).read_text(encoding="utf-8")


def check_folder(folder: Path, kind: str) -> None:
    """Raise unless a folder is new, empty, or holds a page of that kind.

    Args:
        folder: where the page is to be.
        kind: `report` or `study`; the document says so in its `generator`.

    Raises:
        ValueError: it holds something else, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"A {kind} is a folder; {str(folder)!r} is a file. Give another path.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    file = folder / "index.html"
    if not file.is_file() or f'content="dave_jax {kind}"' not in file.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(f"{str(folder)!r} holds something else than a {kind}. Give a new folder.")


def begin(folder: Path, kind: str, title: str) -> None:
    """Write document, styles and scripts of a page in the place of an earlier one; only what a page consists of is removed.

    Raises:
        ValueError: the folder holds something else than such a page.
    """
    check_folder(folder, kind)
    (folder / DATA).unlink(missing_ok=True)
    if (folder / PICTURES).exists():
        shutil.rmtree(folder / PICTURES)
    names = f'<link rel="stylesheet" href="base.css">\n<link rel="stylesheet" href="{kind}.css">'
    names += f'\n<script src="{DATA}" defer></script>\n<script src="{kind}.js" defer></script>'
    body = Template(asset(f"{kind}.html")).substitute(title=html.escape(title))
    write_bytes(folder / "index.html", document(kind, title, names, body).encode())
    for name in ("base.css", f"{kind}.css", f"{kind}.js"):
        write_bytes(folder / name, asset(name).encode())


def document(kind: str, title: str, head: str, body: str) -> str:
    """An HTML document of ours.

    Args:
        kind: of page; the document says so in its `generator`.
        title: plain text.
        head: what more stands there: styles and scripts.
        body: what is on the page.
    """
    return Template(asset("frame.html")).substitute(kind=kind, title=html.escape(title), head=head, body=body.rstrip())


def finish(folder: Path, data: Mapping[str, Any]) -> None:
    """Write the data of a page."""
    write_bytes(folder / DATA, as_script(data).encode())


def as_script(data: Any) -> str:
    """JSON as a script that sets `window.page`; without `<`, which could end a script, and without NaN, which is no JSON.

    Example:
        >>> as_script({"name": "</script>"})
        'window.page = {"name":"\\\\u003c/script>"};\\n'
    """
    return f"window.page = {json.dumps(data, allow_nan=False, separators=(',', ':')).replace('<', chr(92) + 'u003c')};\n"
