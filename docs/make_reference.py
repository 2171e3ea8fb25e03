"""Write the pages of the reference, `docs/reference/`, from the package: what there is, a line each, and where the docstrings go.

    python docs/make_reference.py

`docs/conf.py` runs it at the beginning of every build; its pages are not part of the repository.
"""

import importlib
import inspect
import pkgutil
import re
import types
from pathlib import Path
from typing import Any

import dave_jax

FOLDER = Path(__file__).with_name("reference")
INTRODUCTION = """`import dave_jax as dave` gives the names of these tables. Each heading leads to their descriptions, and to the modules of
that stage, whose names are public too unless they begin with an underscore."""

STAGES = {
    "config": ("Settings", "What one explanation depends on besides model, image and key."),
    "effective": ("Effective transformations", "What is linear: operators, layers, decompositions, and any JAX function."),
    "models": ("Models", "Who predicts: networks, checkpoints, photographs, text."),
    "sampling": ("Sampling", "Where we look: transforms, noise, calibration."),
    "attribution": ("Attribution", "What we say: explanations, averages, biases, other methods."),
    "evaluation": ("Evaluation", "How good: metrics, and the comparison of methods."),
    "training": ("Training", "How the embedded model was made; linear probes."),
    "batch": ("Data sets", "Source, sharded run, store."),
    "around": ("Around the stages", "Pictures, pages, the command line, a model for tests."),
}
"""The stages in the order of the pipeline: their titles, and what they are about. All other modules are around them."""


def stage_of(module: str) -> str:
    """The stage of a module, or `around`."""
    part = module.split(".")[1]
    return part if part in STAGES else "around"


def exported() -> dict[str, Any]:
    """What `dave_jax` itself offers, by name: functions, then classes."""
    public = {name: getattr(dave_jax, name) for name in dir(dave_jax) if not name.startswith("_")}
    ours = {name: value for name, value in public.items() if getattr(value, "__module__", "").startswith("dave_jax.")}
    return dict(sorted(ours.items(), key=lambda item: (isinstance(item[1], type), item[0])))


def modules() -> dict[str, types.ModuleType]:
    """Every public module that holds something."""
    names = [module.name for module in pkgutil.walk_packages(dave_jax.__path__, "dave_jax.")]
    names = [name for name in names if not any(part.startswith("_") for part in name.split("."))]
    found = {name: importlib.import_module(name) for name in names}
    return {name: module for name, module in found.items() if module.__doc__ and not hasattr(module, "__path__")}


def first_line(subject: Any) -> str:
    """The first sentence of a docstring."""
    text = inspect.cleandoc(subject.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=\.) (?=[A-Z`])", text)[0].rstrip(":,").replace("|", r"\|")


def table(rows: list[tuple[str, str]]) -> list[str]:
    """Rows of two columns."""
    return ["| name | what |", "| --- | --- |", *(f"| {left} | {right} |" for left, right in rows), ""]


def documented(kind: str, name: str) -> list[str]:
    """Where the docstrings of something go."""
    return ["```{eval-rst}", f".. {kind}:: {name}", "```", ""]


def hidden(pages: list[str]) -> list[str]:
    """The pages below this one in the navigation."""
    return ["```{toctree}", ":hidden:", "", *pages, "```", ""]


def module_page(name: str, above: str, elsewhere: list[str]) -> str:
    """The page of a module, which the navigation leaves out: there are many. What `dave_jax` exports of it is on the stage's page."""
    links = ", ".join(f"[`{name}`](#dave_jax.{name})" for name in elsewhere)
    also = [f"Exported as names of `dave_jax`, and described there: {links}.", ""] if elsewhere else []
    return "\n".join(["---", "orphan: true", "---", "", f"# {name}", "", above, "", *also, *documented("automodule", name)])


def pages() -> dict[str, str]:
    """The pages by their names."""
    found, index = {}, ["# Reference", "", INTRODUCTION, ""]
    names, all_modules = exported(), modules()
    for stage, (title, about) in STAGES.items():
        here = {name: value for name, value in names.items() if stage_of(value.__module__) == stage}
        inside = {name: module for name, module in all_modules.items() if stage_of(name) == stage}
        index += [f"## [{title}]({stage}.md)", "", about, ""]
        rows = [(f"[`dave.{name}`](#dave_jax.{name})", first_line(value)) for name, value in here.items()]
        index += table(rows) if rows else []
        page = [f"# {title}", "", about, ""]
        for name, value in here.items():
            kind = "autoclass" if isinstance(value, type) else "autofunction"
            page += documented(kind, f"dave_jax.{name}")
        page += ["## Modules", "", *table([(f"[`{name}`]({name}.md)", first_line(module)) for name, module in inside.items()])]
        found[stage] = "\n".join(page)
        for name in inside:
            elsewhere = [export for export, value in here.items() if value.__module__ == name]
            found[name] = module_page(name, f"[{title}]({stage}.md)", elsewhere)
    found["index"] = "\n".join(index + hidden(list(STAGES)))
    return found


def main() -> None:
    """Write what has changed, and remove what is gone."""
    FOLDER.mkdir(exist_ok=True)
    made = pages()
    for old in FOLDER.glob("*.md"):
        if old.name.removesuffix(".md") not in made:
            old.unlink()
    for name, text in made.items():
        file = FOLDER / f"{name}.md"
        if not file.exists() or file.read_text(encoding="utf-8") != text:  # else Sphinx would read it again
            file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
