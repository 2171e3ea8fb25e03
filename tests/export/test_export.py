"""The program without us: what it gives, what it takes, what stands beside it, and what is refused."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import dave_jax as dave
from dave_jax.effective.decomposition import effective
from dave_jax.export.program import lower
from dave_jax.testing import tiny_model

CLOSE = 1e-5
"""Of a map with a maximum of one: constants inside a program are folded, which rounds otherwise than computing them."""

IMAGES = np.asarray(jax.random.normal(jax.random.key(1), (3, 16, 16, 3)))
IDS = np.array([[0, 3], [4, 1], [2, 2]], np.int32)
KEY = np.array([0, 7], np.uint32)
QUICK = dave.DaveConfig(num_samples=2, aggregation="mean", gaussian_size=1, bilateral_size=1)
"""For what does not depend on the settings: less to compile."""


def quick_model(params=None) -> dave.Model:
    model = tiny_model(depth=1)
    return dataclasses.replace(model, config=QUICK, params=model.params if params is None else params)


def run(path: Path, *arguments):
    return jax.export.deserialize(bytearray(path.read_bytes())).call(*arguments)


def lowered(model=None, **options) -> str:
    model = tiny_model() if model is None else model
    given = {"config": model.config, "batch": 2, "platforms": ["tpu"], "num_targets": 1, "target_kind": "id", "inside": False}
    return lower(model, effective, **(given | options)).exported.mlir_module()


def scatters(text: str) -> list[str]:
    """Those whose indices may meet."""
    return [line for line in text.splitlines() if '"stablehlo.scatter"' in line and "unique_indices = true" not in line]


def test_the_program_gives_the_maps_of_explain_for_any_batch(tmp_path):
    model = quick_model()
    manifest = dave.export(model, tmp_path / "dave.stablehlo", batch="any", platforms=["cpu"], num_targets=2)
    assert manifest["inputs"]["images"] == {"shape": ["any", 16, 16, 3], "dtype": "float32"}
    assert manifest["outputs"]["maps"] == {"shape": ["any", 2, 16, 16], "dtype": "float32"}
    found = run(tmp_path / "dave.stablehlo", IMAGES, IDS, KEY)
    assert np.abs(found["maps"] - dave.explain(model, IMAGES, IDS, key=jax.random.key(7))).max() < CLOSE
    assert np.abs(found["logits"] - model.logits(IMAGES)).max() < CLOSE


@pytest.mark.slow
def test_one_file_for_three_platforms(tmp_path):
    model = tiny_model()
    smooth = dataclasses.replace(model.config, aggregation="biweight")  # the mask of `mad_mean` is no continuous function
    model = dataclasses.replace(model, config=smooth)
    manifest = dave.export(model, tmp_path / "new" / "dave.stablehlo", batch="any", num_targets=2)
    assert json.loads((tmp_path / "new" / "dave.json").read_text()) == manifest
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["dave.json", "dave.stablehlo"]
    assert manifest["platforms"] == ["cpu", "cuda", "tpu"] and manifest["weights"] is None
    chosen = {name: (settings["precision"], settings["warp_adjoint"]) for name, settings in manifest["settings"].items()}
    assert chosen == {"cpu": ("float32", "gather"), "cuda": ("bfloat16", "gather"), "tpu": ("bfloat16", "gather")}
    found = run(tmp_path / "new" / "dave.stablehlo", IMAGES, IDS, KEY)
    assert np.abs(found["maps"] - dave.explain(model, IMAGES, IDS, key=jax.random.key(7))).max() < CLOSE


@pytest.mark.parametrize("platforms", [["cuda", "tpu"], pytest.param(["tpu"], marks=pytest.mark.slow)], ids=str)
def test_programs_for_accelerators(platforms):
    """In half precision, without scatters that race; a number for the batch leaves no shape open."""
    text = lowered(platforms=platforms)
    assert "bf16" in text and not scatters(text) and "tensor<?" not in text


@pytest.mark.slow
def test_what_is_looked_for_would_be_found():
    config = dataclasses.replace(tiny_model().config, warp_adjoint="scatter")
    text = lowered(platforms=["cpu"], batch="any", config=config)
    assert "bf16" not in text and scatters(text) and "tensor<?" in text


@pytest.mark.slow
def test_weights_beside_are_arguments(tmp_path):
    model = quick_model()
    manifest = dave.export(
        model, tmp_path / "dave.stablehlo", batch=1, platforms=["cpu"], weights="beside", target_kind="top", num_targets=2
    )
    weights = load_file(tmp_path / "dave.safetensors")
    program = jax.export.deserialize(bytearray((tmp_path / "dave.stablehlo").read_bytes()))
    places = jax.tree.unflatten(program.in_tree, range(len(program.in_avals)))[0][0]
    order = sorted(places, key=lambda name: places[name])
    assert [entry["name"] for entry in manifest["weights"]["arrays"]] == order == sorted(weights)
    assert all(list(weights[entry["name"]].shape) == entry["shape"] for entry in manifest["weights"]["arrays"])
    other = {name: -array for name, array in weights.items()}
    image = IMAGES[:1]
    for given, params in ((weights, model.params), (other, jax.tree.map(jnp.negative, model.params))):
        found = program.call(given, image, KEY)
        same = quick_model(params)
        assert found["targets"].tolist() == np.argsort(-np.asarray(same.logits(image)))[:, :2].tolist()
        assert np.abs(found["maps"] - dave.explain(same, image, found["targets"], key=jax.random.key(7))).max() < CLOSE
    with pytest.raises(ValueError, match="shape"):
        program.call(weights, IMAGES, KEY)


@pytest.mark.slow
def test_what_explain_refuses_gives_nan(tmp_path):
    dave.export(quick_model(), tmp_path / "ids.stablehlo", batch=3, platforms=["cpu"], num_targets=2)
    images, ids = IMAGES.copy(), IDS.copy()
    images[0, 3, 3, 1], ids[1] = np.nan, [5, -1]
    assert np.isnan(run(tmp_path / "ids.stablehlo", images, ids, KEY)["maps"]).all(axis=(2, 3)).tolist() == [
        [True] * 2,
        [True] * 2,
        [False] * 2,
    ]


@pytest.mark.slow
def test_cotangents_and_parameters_in_half_precision(tmp_path):
    model = quick_model(jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), quick_model().params))
    contrast = np.zeros((1, 1, 5), np.float32)
    contrast[0, 0, :2] = 1, -1
    manifest = dave.export(model, tmp_path / "dave.stablehlo", platforms=["cpu"], target_kind="cotangent", weights="beside")
    found = run(tmp_path / "dave.stablehlo", load_file(tmp_path / "dave.safetensors"), IMAGES[:1], contrast, KEY)["maps"]
    wanted = dave.explain(model, IMAGES[:1], contrast, key=jax.random.key(7))
    assert {entry["dtype"] for entry in manifest["weights"]["arrays"]} == {"bfloat16"}
    assert np.abs(found - wanted).max() < 5e-2  # eight bits, and products in another order
    assert manifest["inputs"]["targets"] == {"shape": [1, 1, 5], "dtype": "float32"}


def network(params, image):
    return jax.nn.gelu(image.ravel() @ params[0], approximate=False) @ params[1]["out"]


def traced_model(function=network) -> dave.Model:
    params = (jax.random.normal(jax.random.key(0), (48, 8)), {"out": jax.random.normal(jax.random.key(1), (8, 3))})
    preprocessing = dave.Preprocessing(image_size=(4, 4))
    return dave.Model.from_function(function, params, preprocessing=preprocessing, config=QUICK)


@pytest.mark.slow
def test_a_traced_model(tmp_path):
    model, images = traced_model(), jax.random.normal(jax.random.key(2), (2, 4, 4, 3))
    manifest = dave.export(model, tmp_path / "dave.stablehlo", batch="any", platforms=["cpu", "tpu"], weights="beside")
    assert [entry["name"] for entry in manifest["weights"]["arrays"]] == ["0", "1/out"]
    found = run(tmp_path / "dave.stablehlo", load_file(tmp_path / "dave.safetensors"), images, IDS[:2, :1], KEY)
    assert np.abs(found["maps"] - dave.explain(model, images, [[0], [2]], key=jax.random.key(7)))[0].max() < CLOSE
    assert np.isnan(found["maps"][1]).all()  # there are three classes, and 4 is asked for


def test_a_call_into_python_cannot_be_exported(tmp_path):
    def calls_back(params, image):
        scale = jax.pure_callback(lambda: np.float32(2.0), jax.ShapeDtypeStruct((), jnp.float32))
        return scale * network(params, image)

    with pytest.raises(ValueError, match=r"'calls_back' cannot be exported for cpu .* calls back into Python"):
        dave.export(traced_model(calls_back), tmp_path / "dave.stablehlo", platforms=["cpu"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"platforms": ["cpu", "gpu"]}, r"one of \['cpu', 'cuda', 'rocm', 'tpu'\]; got 'gpu'. Did you mean cuda or rocm\?"),
        ({"platforms": ["tpuu"]}, "Did you mean tpu?"),
        ({"platforms": "cpu"}, "platforms must be names"),
        ({"platforms": []}, "platforms must be names"),
        ({"batch": 0}, "at least 1, or 'any'; got 0"),
        ({"batch": "all"}, "or 'any'; got 'all'"),
        ({"num_targets": 6}, "at most 5, the number of the model's classes; got 6"),
        ({"num_targets": 0}, "at least 1; got 0"),
        ({"target_kind": "class"}, "target_kind must be"),
        ({"weights": "outside"}, "weights must be 'inside' or 'beside'; got 'outside'"),
        ({"path": "dave.mlir"}, "must end in .stablehlo"),
    ],
)
def test_errors_say_what_must_hold(options, message, tmp_path):
    given = {"path": "dave.stablehlo"} | options
    with pytest.raises(ValueError, match=message):
        dave.export(quick_model(), tmp_path / given.pop("path"), **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".stablehlo", ".json", ".safetensors"])
def test_what_is_there_stays(suffix, tmp_path):
    (tmp_path / f"dave{suffix}").write_text("mine")
    with pytest.raises(FileExistsError, match=rf"there is already .*dave\{suffix}\. Choose another name"):
        dave.export(quick_model(), tmp_path / "dave.stablehlo", weights="beside")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]


def test_a_program_holds_two_gibibytes(monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules[lower.__module__], "MOST_INSIDE", 100)
    with pytest.raises(ValueError, match=r"at most 2 GiB of weights.*Use weights='beside'"):
        dave.export(quick_model(), tmp_path / "dave.stablehlo")


@pytest.mark.slow
def test_the_loader_of_the_page_runs_without_us(tmp_path):
    """In a process where dave_jax cannot be imported: the blocks of docs/export.md that load."""
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    inside, beside = (block for block in re.findall(r"^```python\n(.*?)^```$", page, flags=re.M | re.S) if "manifest = json" in block)
    beside = beside.partition("\n\n")[2]  # behind the call of dave.export
    assert (
        len([line for line in inside.splitlines() if line and not re.match(r"import|from", line)]) <= 10
        and "dave_jax" not in inside + beside
    )
    model = quick_model()
    dave.export(model, tmp_path / "dave.stablehlo", platforms=["cpu"])
    dave.export(model, tmp_path / "open.stablehlo", platforms=["cpu"], weights="beside")
    call = """
program = jax.jit(jax.export.deserialize(bytearray(Path("open.stablehlo").read_bytes())).call)
other = program(weights, (pixels - mean) / std, np.array([[4]], np.int32), np.array([0, 7], np.uint32))
np.savez("found.npz", pixels=pixels, inside=found["maps"], beside=other["maps"])
assert not [name for name in sys.modules if name.startswith(("dave_jax", "convert_weights", "flax", "safetensors"))]
"""
    blocked = "import sys\nsys.modules['dave_jax'] = None\n"
    program = (
        (blocked + inside + beside + call).replace("[[8]]", "[[4]]").replace("name.startswith", "sys.modules[name] and name.startswith")
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    images = (found["pixels"] - np.float32(0.5)) / np.float32(0.5)
    wanted = dave.explain(model, images, [[4]], key=jax.random.key(7))
    assert np.abs(found["inside"] - wanted).max() < CLOSE and np.abs(found["beside"] - wanted).max() < CLOSE
