"""The benchmark on a convolutional network, with random weights in the package's format and made-up photographs."""

import json
import pickle
import struct
import sys
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import convolutional
import efficientnet_lite

from dave_jax.evaluation.folders import IMAGENETTE


def shapes() -> dict[str, tuple[int, ...]]:
    """Of the state dict, in PyTorch's layout."""
    found: dict[str, tuple[int, ...]] = {}

    def conv(name, norm, *shape):
        found[f"{name}.weight"] = shape
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            found[f"{norm}.{leaf}"] = shape[:1]

    conv("_conv_stem", "_bn0", 32, 3, 3, 3)
    width, number = 32, 0
    for repeats, edge, _, expansion, channels in efficientnet_lite.BLOCKS:
        for _ in range(repeats):
            name, hidden = f"_blocks.{number}", width * expansion
            if expansion > 1:
                conv(f"{name}._expand_conv", f"{name}._bn0", hidden, width, 1, 1)
            conv(f"{name}._depthwise_conv", f"{name}._bn1", hidden, 1, edge, edge)
            conv(f"{name}._project_conv", f"{name}._bn2", channels, hidden, 1, 1)
            width, number = channels, number + 1
    conv("_conv_head", "_bn1", 1280, 320, 1, 1)
    return found | {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)}


class Global:
    """A function of torch that a pickle names."""

    def __init__(self, module, name):
        self.place = module, name


def write_state(path: Path, state: dict[str, np.ndarray]):
    """PyTorch's format before 1.6, byte by byte, as its documentation of the pickle's opcodes has it."""

    def text(value: str) -> bytes:
        return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()

    def integer(value: int) -> bytes:
        return pickle.BININT + struct.pack("<i", value)

    def items(values) -> bytes:
        return pickle.MARK + b"".join(values) + pickle.TUPLE

    body = b"\x80\x02ccollections\nOrderedDict\n)R("
    for number, (key, array) in enumerate(state.items()):
        persistent = items([text("storage"), b"ctorch\nFloatStorage\n", text(str(number)), text("cpu"), integer(array.size), pickle.NONE])
        strides = [step // array.itemsize for step in array.strides]
        arguments = [persistent + pickle.BINPERSID, integer(0), items(map(integer, array.shape)), items(map(integer, strides))]
        hooks = b"ccollections\nOrderedDict\n)R"
        body += text(key) + b"ctorch._utils\n_rebuild_tensor_v2\n" + items([*arguments, pickle.NEWFALSE, hooks]) + pickle.REDUCE
    body += pickle.SETITEMS + pickle.STOP
    with path.open("wb") as file:
        for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(header, file, 2)
        file.write(body)
        pickle.dump([str(number) for number in range(len(state))], file, 2)
        for array in state.values():
            file.write(struct.pack("<q", array.size) + array.tobytes())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    draw, path = np.random.default_rng(0), tmp_path_factory.mktemp("weights") / "lite0.pth"
    state = {}
    for key, shape in shapes().items():
        noise = draw.standard_normal(shape, np.float32)
        if len(shape) > 1:
            state[key] = noise * np.float32((2 / np.prod(shape[1:])) ** 0.5)
        else:
            state[key] = np.abs(noise) + np.float32(0.5) if key.endswith(("weight", "var")) else np.float32(0.1) * noise
    write_state(path, state)
    return path, state


def test_the_reader_reads_what_is_written_and_nothing_else(weights, tmp_path):
    path, state = weights
    read = efficientnet_lite.read(path)
    assert read.keys() == state.keys() and all(np.array_equal(read[key], state[key]) for key in state)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="cut off"):
        efficientnet_lite.read(cut)
    evil = tmp_path / "evil.pth"
    evil.write_bytes(pickle.dumps(print, 2))
    with pytest.raises(pickle.UnpicklingError, match=r"asks for \w+.print"):
        efficientnet_lite.read(evil)


def test_the_contrast_of_a_grid():
    draw = np.random.default_rng(0)
    noise, cell = draw.standard_normal((4, 70, 70)), draw.standard_normal((8, 8))
    cell = cell - np.tile(cell.reshape(2, 4, 2, 4).mean((0, 2)), (2, 2))  # nothing that repeats with 4
    pattern = np.tile(10 + cell, (9, 9))[None, :70, :70]
    assert convolutional.grid_contrast(pattern, 8) == pytest.approx(cell.std() / 10)
    assert convolutional.grid_contrast(pattern[:, :64, :64], 4) == pytest.approx(0.0, abs=1e-12)  # whole cells of 8
    assert convolutional.grid_contrast(np.tile(pattern[:, :64, :64], (1, 2, 2)), 16) == pytest.approx(0.0, abs=1e-12)
    # A cell of 8 x 8 is a mean over 4 x 64 values of |noise|, whose standard deviation is 0.755 of their mean; half of it repeats with 4.
    assert convolutional.grid_contrast(noise, 8) == pytest.approx(0.755 / 16 * 0.75**0.5, rel=0.3)
    assert convolutional.chance(noise, 8, 0) == pytest.approx(convolutional.grid_contrast(noise, 8), rel=0.3)
    assert convolutional.chance(np.repeat(pattern, 20, 0), 8, 0) < 0.5 * convolutional.grid_contrast(pattern, 8)
    assert convolutional.grid_contrast(np.ones((1, 21, 21)), 7) == 0.0


@pytest.mark.slow
def test_from_end_to_end(weights, tmp_path, monkeypatch, capsys):
    draw = np.random.default_rng(1)
    monkeypatch.setattr(convolutional, "CELL", 42)
    monkeypatch.setattr(convolutional, "STRIDES", (2, 4))
    small = efficientnet_lite.load
    monkeypatch.setattr(efficientnet_lite, "load", lambda path: small(path, image_size=84))
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        for name in IMAGENETTE:
            path = tmp_path / f"{name}.png"
            Image.fromarray(draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((50, 50)).save(path)
            archive.add(path, f"val/{name}/0.png")

    def as_seen(photographs, model, **options):  # random weights know nothing
        from dave_jax.evaluation.choice import Choice

        return Choice((), (), (tuple(photographs[:4]),), 4)

    monkeypatch.setattr(convolutional.choice, "choose", as_seen)
    arguments = [f"--imagenette={tmp_path / 'data.tar'}", f"--weights={weights[0]}", f"--output={tmp_path / 'results'}"]
    arguments += ["--photos=2", "--mosaics=1", "--samples=2", "--accuracy=0", "--noise=0.3", f"--picture={tmp_path / 'maps.png'}"]
    result = convolutional.main(arguments)
    (written,) = (tmp_path / "results").glob("convolutional_*.json")
    assert json.dumps(json.loads(written.read_text())) == json.dumps(result)  # as text: of one mosaic, intervals are NaN
    assert result["checked"]["effective_from_gradient"] < 1e-4
    for found, strides in zip(result["results"], (["2", "4"], ["14"]), strict=True):
        assert list(found["methods"]) == ["one map", "DAVE 2", "DAVE 2, noise 0.3"]
        for row in found["methods"].values():
            assert np.shape(row["gridpg"]) == (1, 4) and list(row["grid"]) == list(row["grid_by_chance"]) == strides
        assert found["methods"]["one map"]["over_one_map"]["mean"] == 0.0
    assert "GridPG" in capsys.readouterr().out
    with Image.open(tmp_path / "maps.png") as picture:
        assert picture.width > 400
    with pytest.raises(convolutional.Disagreement, match=r"least 1\.1"):
        convolutional.main([*arguments, "--accuracy=1.1"])
    assert jax.config.jax_numpy_rank_promotion == "raise"
