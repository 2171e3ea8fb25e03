"""The rules of the code itself: which way imports go, how arguments are named, what is documented, how long modules are."""

import ast
import dataclasses
import graphlib
import inspect
import re
import statistics
import subprocess
import sys
import types
from pathlib import Path

import pytest

import dave_jax

ROOT = Path(__file__).parents[1]
STAGES = ("pytree", "config", "effective", "models", "sampling", "attribution", "evaluation", "training", "batch", "export")
"""In the order of the pipeline: a stage imports from itself and those before it."""

EDGE = (
    *("__init__", "__main__", "app", "app_command", "arguments", "batch_command", "cli", "commands", "compiled", "evaluate"),
    *("export_command", "pages", "pages_command", "plot", "probe", "results"),
    "testing",
)
"""Modules around the pipeline, which may import any stage and which no stage imports."""

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in ("dave_jax", "convert_weights")
    for path in sorted((ROOT / package).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
EXPORTED = {
    name: value
    for name, value in ((name, getattr(dave_jax, name)) for name in dir(dave_jax) if not name.startswith("_"))
    if not isinstance(value, types.ModuleType) and getattr(value, "__module__", "").startswith("dave_jax")
}
FUNCTIONS = {name: value for name, value in EXPORTED.items() if not isinstance(value, type)}
DATACLASSES = {name: value for name, value in EXPORTED.items() if dataclasses.is_dataclass(value)}


def imports(tree: ast.AST, *, top_level: bool = False) -> set[str]:
    """The modules that a tree imports, with what it takes from them: `from a.b import c` gives `a.b.c`."""
    nodes = tree.body if top_level and isinstance(tree, ast.Module) else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def module_of(imported: str) -> str:
    """`a.b.c` as one of our modules: itself, or the one that holds the name c."""
    for name in (f"{imported}.__init__", imported, f"{imported.rpartition('.')[0]}.__init__", imported.rpartition(".")[0]):
        if name in FILES:
            return name
    return imported


def ours(tree: ast.AST, **options) -> set[str]:
    return {module_of(name) for name in imports(tree, **options) if name.split(".")[0] in ("dave_jax", "convert_weights")}


def stage_of(name: str) -> str:
    return name.split(".")[1]


def stage_modules(*stages: str) -> list[str]:
    return [name for name in FILES if name.startswith("dave_jax.") and stage_of(name) in stages]


def test_every_module_has_its_place():
    assert {stage_of(name) for name in FILES if name.startswith("dave_jax.")} == {*STAGES, *EDGE}


@pytest.mark.parametrize("name", stage_modules(*STAGES))
def test_a_stage_imports_from_those_before_it(name):
    allowed = STAGES[: STAGES.index(stage_of(name)) + 1]
    wrong = {other for other in ours(TREES[name]) if other.startswith("dave_jax.") and stage_of(other) not in allowed}
    assert not wrong


@pytest.mark.parametrize("name", stage_modules(*STAGES[:3], *STAGES[4:7], "batch"))
def test_only_models_and_training_know_other_checkpoints(name):
    assert not any(other.startswith("convert_weights") for other in ours(TREES[name]))


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("convert_weights")])
def test_converters_know_models_only(name):
    assert all(stage_of(other) in STAGES[:4] for other in ours(TREES[name]) if other.startswith("dave_jax."))


def test_models_and_converters_import_each_other_without_a_cycle():
    """At the top of a module, `models` takes the tables alone, which know nothing of dave_jax; a converter is imported when it is used."""
    assert not any(other.startswith("dave_jax") for other in ours(TREES["convert_weights.table"]))
    for name in stage_modules("models", "training"):
        converters = {other for other in ours(TREES[name], top_level=True) if other.startswith("convert_weights")}
        assert converters <= {"convert_weights.table"}, name


def test_pytrees_are_registered_in_one_place():
    """`register_dataclass` lets `jit` confuse two classes: see `dave_jax.pytree`."""
    attributes = {(name, node.attr) for name, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not {name for name, attribute in attributes if attribute == "register_dataclass"}


def test_imports_have_no_cycle():
    graph = {name: ours(tree, top_level=True) - {name} for name, tree in TREES.items()}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # CycleError names it


@pytest.mark.parametrize(
    ("package", "place"),
    [
        ("flax", "dave_jax.models.flax"),
        ("optax", "dave_jax.training"),
        ("huggingface_hub", "dave_jax.models.repository"),
        ("matplotlib", "dave_jax.plot"),
        ("open_clip", None),
        ("torch", None),
        ("timm", None),
    ],
)
def test_other_packages_stay_at_their_place(package, place):
    users = {name for name, tree in TREES.items() if any(other.split(".")[0] == package for other in imports(tree))}
    assert {name for name in users if place is None or not name.startswith(place)} == set()
    assert place is None or users


@pytest.mark.parametrize(("package", "name"), [("flax", "from_nnx"), ("optax", "linear_probe")])
def test_a_package_is_imported_when_it_is_used(package, name):
    program = f"import sys, dave_jax; assert {package!r} not in sys.modules; dave_jax.{name}; assert {package!r} in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_matplotlib_is_imported_when_a_picture_is_drawn():
    assert not any(other.startswith("matplotlib") for other in imports(TREES["dave_jax.plot"], top_level=True))


@pytest.mark.parametrize("name", FILES)
def test_annotations_are_values(name):
    """Run-time type checks need them."""
    assert "__future__.annotations" not in imports(TREES[name])


def test_modules_are_small():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert not {name: length for name, length in lengths.items() if name.startswith("dave_jax") and length > 310}
    assert statistics.median(length for name, length in lengths.items() if length and name.startswith("dave_jax")) < 150


def test_stages_are_introduced():
    introduction = dave_jax.__doc__ or ""
    folders = [stage for stage in STAGES if (ROOT / "dave_jax" / stage).is_dir()]
    assert [folder for folder in folders if f"{folder}/" not in introduction] == []


def test_readme_introduces_the_stages():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    folders = [stage for stage in STAGES if (ROOT / "dave_jax" / stage).is_dir()]
    assert [folder for folder in folders if f"{folder}/" not in text] == []


# How arguments are named and passed.

OTHER_NAMES = {
    "key": {"rng", "prng", "prng_key", "rng_key", "random_key"},
    "image": {"img", "picture"},
    "images": {"imgs", "pictures"},
    "num_...": {"nsamples", "nheads", "nclasses", "sample_count"},
    "config": {"cfg", "conf", "hparams"},
    "params": {"parameters", "weights_dict", "theta"},
    "eps": {"epsilon"},
    "target": {"label", "class_id", "class_idx", "target_class"},
    "targets": {"class_ids", "target_classes"},
    "decomposition": {"mode"},
}
"""Names that would be a second one for the same thing."""


def test_one_name_for_one_thing():
    banned = {other: name for name, others in OTHER_NAMES.items() for other in others}
    wrong = []
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.arg) and (node.arg in banned or re.match(r"n_|nb_|number_of_", node.arg)):
                wrong.append(f"{module}:{node.lineno} {node.arg} -> {banned.get(node.arg, 'num_...')}")
    assert not wrong


@pytest.mark.parametrize("name", FUNCTIONS)
def test_keys_are_passed_by_name(name):
    for parameter in inspect.signature(FUNCTIONS[name]).parameters.values():
        if "key" in parameter.name:
            assert parameter.name == "key" and parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_are_passed_by_name(name):
    """Behind the main arguments, of which the last one may have a default."""
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    assert not any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    optional = [parameter for parameter in parameters if parameter.default is not parameter.empty]
    assert len([parameter for parameter in optional if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]) <= 1


def test_an_argument_means_the_same_everywhere():
    annotations: dict[str, dict[str, set[str]]] = {}
    for name, function in FUNCTIONS.items():
        for parameter in inspect.signature(function).parameters.values():
            annotations.setdefault(parameter.name, {}).setdefault(
                inspect.formatannotation(parameter.annotation).removesuffix(" | None"), set()
            ).add(name)
    # `postprocess` takes what `explain(raw=True)` gives; an nnx and a linen module; of a function that is traced, any tree of arrays
    two_things = {"raw", "module", "image"}
    assert not {name: found for name, found in annotations.items() if len(found) > 1 and name not in two_things}


# What is documented.


def section(docstring: str, title: str) -> list[str]:
    """The names that a section of a Google-style docstring explains: `a, b: text` gives a and b."""
    lines = inspect.cleandoc(docstring).splitlines()
    if f"{title}:" not in lines:
        return []
    names: list[str] = []
    for line in lines[lines.index(f"{title}:") + 1 :]:
        if line and not line.startswith(" "):
            break
        if match := re.match(r" {4}(\w+(?:, \w+)*):", line):
            names += match[1].split(", ")
    return names


@pytest.mark.parametrize("name", EXPORTED)
def test_public_names_are_documented(name):
    documentation = inspect.cleandoc(EXPORTED[name].__doc__ or "")
    assert documentation and not documentation.startswith(f"{name}(")  # a dataclass without one gets its signature
    assert ("Example:" in documentation and ">>>" in documentation) or (name in DATACLASSES and "Attributes:" in documentation)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_are_explained_in_their_order(name):
    explained = section(FUNCTIONS[name].__doc__ or "", "Args")
    if explained:
        assert explained == list(inspect.signature(FUNCTIONS[name]).parameters)


@pytest.mark.parametrize("name", DATACLASSES)
def test_attributes_are_explained_in_their_order(name):
    explained = section(DATACLASSES[name].__doc__ or "", "Attributes")
    if explained:
        assert explained == [field.name for field in dataclasses.fields(DATACLASSES[name])]
