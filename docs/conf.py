"""The documentation site: `sphinx-build -W --keep-going -c docs . build/site`, with the extra `docs`.

The pages are those that a repository's web page shows, at the places where they are: the source folder is the checkout, so that links,
pictures and anchors mean the same in both. Added here: the navigation, and the reference, made from the docstrings.
"""

import re
import shutil
import sys
from importlib.metadata import version as installed
from pathlib import Path

from jax.typing import ArrayLike
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))

import jax  # noqa: E402

jax.Array.__name__ = "Array"  # else every annotation of jaxtyping shows the private module that it comes from

import make_reference  # noqa: E402  beside this file

project = "dave_jax"
author = "The dave_jax authors"
version = release = installed("dave-jax")
project_copyright = author
language = "en-GB"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "README"
include_patterns = ["*.md", "docs/**", "benchmarks/README.md", "benchmarks/results/*.md", "convert_weights/README.md"]
exclude_patterns = ["[.]*", "**/__pycache__", "build", "dist", "dave_jax", "tests", "benchmarks/results/*/**", "docs/site"]

NAVIGATION = {
    "Begin": ["docs/tutorial", "docs/how-it-works", "docs/concepts"],
    "Guides": [
        *("docs/models", "docs/any-model", "docs/image-text", "docs/linear-probe", "docs/calibration", "docs/decompositions"),
        *("docs/baselines", "docs/evaluation", "docs/extending", "docs/scaling"),
    ],
    "Networks": ["docs/default_model", "docs/convolutional", "docs/bcos"],
    "Figures": ["docs/performance", "benchmarks/README", "benchmarks/results/table", "docs/pictures"],
    "Reference": ["docs/reference/index", "convert_weights/README"],
    "Project": ["CHANGELOG", "CONTRIBUTING"],
}
"""Captions of the sidebar and the pages below them. A page of `docs/` that is not named here goes to the end of the guides."""

EXPORTED = list(make_reference.exported().values())
ARRAY_LIKE = stringify_annotation(ArrayLike, "smart")
ATTRIBUTES, COLON = ("attribute", "data", "property"), "\ue000"

# Pages

myst_heading_anchors = 4  # as a repository's web page makes them
highlight_language = "none"  # of blocks without a language: equations, and commands with what they print
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 180
nb_output_stderr = "warn"  # a warning of Python is one of the build, and an error with -W
nb_ipywidgets_js = {}  # nothing from the network

# The reference

autodoc_default_options = {"members": True, "no-value": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
add_module_names = False
default_role = "code"  # single backticks in docstrings
napoleon_attr_annotations = False  # the signature has them
napoleon_use_ivar = True
napoleon_use_rtype = False
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!dave_jax\.)\w+\..*"),  # other packages: their inventories are on the network, and the build asks nothing of it
    (r"py:.*", r"Array|ndarray|T|.*\.T"),  # arrays, without their packages; type variables
    (r"py:class", r"'.*|.*'"),  # shapes in jaxtyping's annotations
]

# Looks

html_theme = "furo"
html_title = f"dave_jax {release}"
html_static_path = ["site"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
pygments_dark_style = "github-dark"
html_theme_options = {"navigation_with_keys": True}


def with_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """The README is the first page; on the site it holds the navigation."""
    if page != root_doc:
        return
    named = {name for names in NAVIGATION.values() for name in names}
    others = sorted(name for name in app.env.found_docs if re.fullmatch(r"docs/[^/]+", name) and name not in named)
    for caption, names in NAVIGATION.items():
        below = [*names, *others] if caption == "Guides" else names
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *below, "```", ""])


def documented_elsewhere(app: Sphinx, what: str, name: str, subject: object, skip: bool, options: object) -> bool | None:
    """What `dave_jax` exports is on the stages' pages, and not on those of the modules again."""
    return True if what == "module" and any(subject is value for value in EXPORTED) else None


def with_short_types(
    app: Sphinx, what: str, name: str, subject: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """`ArrayLike` by its name, and what may be traced (`config.Scalar`, which is checked by nobody at run time) as what it is."""
    if signature:
        signature = signature.replace(ARRAY_LIKE, "~jax.typing.ArrayLike")
        signature = re.sub(r"(?:~typing\.)?Any = (?=\d)", "float | ~jax.Array = ", signature)
    return signature, returns


def as_restructured_text(app: Sphinx, what: str, name: str, subject: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain text in Google's style; three things of theirs would mean something else to the parsers."""
    found, section, in_block = [], "", False
    for i, line in enumerate(lines):
        if what in ATTRIBUTES:  # what stands before a colon would be taken for a type
            line = line.replace(":", COLON)
        elif line and not line.startswith(" "):
            section, in_block = line if re.fullmatch(r"[A-Z]\w+:", line) else "", False
        elif section in ("Args:", "Attributes:"):  # one text for several names: of two words the first would be a type
            line = re.sub(r"^ {4}\w+(, \w+)+(?=:)", lambda names: names[0].replace(", ", ",\u200b"), line)
        elif line and not section and not in_block and i and not lines[i - 1]:  # an equation or a table, shown as it is
            found += ["::", ""]
            in_block = True
        found.append(line)
    lines[:] = found


def with_colons(app: Sphinx, what: str, name: str, subject: object, options: object, lines: list[str]) -> None:
    """Behind napoleon: the colons that were kept from it."""
    lines[:] = [line.replace(COLON, ":") for line in lines]


def with_index(app: Sphinx, error: Exception | None) -> None:
    """Browsers open `index.html`; it is the README's page."""
    if error is None and app.builder.format == "html":
        shutil.copy(Path(app.outdir) / f"{root_doc}.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> None:
    """Make the reference's pages, and connect what is above."""
    make_reference.main()
    app.connect("source-read", with_navigation)
    app.connect("autodoc-skip-member", documented_elsewhere)
    app.connect("autodoc-process-signature", with_short_types)
    app.connect("autodoc-process-docstring", as_restructured_text, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", with_colons, priority=900)
    app.connect("build-finished", with_index)
