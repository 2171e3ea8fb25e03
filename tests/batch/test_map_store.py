"""The store alone: what is written is read, a batch is finished or pending, and another run is refused."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from dave_jax.batch.layout import EXPLAINED, FAILED, FORMAT, Layout
from dave_jax.batch.maps import open_maps
from dave_jax.batch.store import open_folder, open_store, read_attributes, told

LAYOUT = Layout(count=5, num_targets=2, image_size=(3, 4), batch_size=2, name_bytes=6, dtype="float16")
RUN = {"run": {"model": {"name": "tiny"}, "config": {"num_samples": 4}}, "class_names": None}


def values(rows: int, status: int = EXPLAINED) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(rows)
    found = {"maps": draw.random((rows, 2, 3, 4)).astype(np.float16), "target": np.ones((rows, 2), np.int32)}
    found |= {name: draw.random((rows, 2), np.float32) for name in ("logit", "probability", "bias_share", "completeness")}
    found |= {"name": np.full((rows, 6), ord("n"), np.uint8), "reason": np.zeros((rows, 256), np.uint8)}
    return found | {"status": np.full(rows, status, np.uint8)}


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "maps.zarr"), LAYOUT, RUN)


def test_what_is_written_is_read(store):
    written = values(2)
    store.write(1, written)
    maps = open_maps(store.place)
    assert len(maps) == 5 and maps.status.tolist() == [0, 0, 1, 1, 0]
    np.testing.assert_array_equal(maps[3].maps, written["maps"][1])
    np.testing.assert_array_equal(maps[-2].logits, written["logit"][1])
    assert maps[2].name == "nnnnnn" and maps[0].name == "" and np.isnan(maps[0].maps).all() and maps[0].targets.tolist() == [-1, -1]
    with pytest.raises(IndexError):
        maps[5]


def test_the_arrays_are_zarr(store):
    zarr = pytest.importorskip("zarr")
    written = values(2)
    store.write(0, written)
    group = zarr.open_group(store.place, mode="r")
    np.testing.assert_array_equal(group["maps"][:2], written["maps"])
    assert group["maps"].chunks == (1, 2, 3, 4) and group["maps"].shards == (2, 2, 3, 4)
    assert dict(group.attrs) == RUN | {"format": FORMAT}


def test_batches_are_pending_until_they_are_whole(store):
    assert store.num_batches == 3 and store.pending() == [0, 1, 2]
    store.write(2, values(1, FAILED))
    store.write(0, values(2))
    assert store.pending() == [1] and store.pending(retry_failed=True) == [1, 2]
    assert open_store(store.place, LAYOUT, RUN).pending() == [1]


def test_status_is_written_when_all_else_is_there(store, monkeypatch):
    written = values(2)
    with pytest.raises(OSError, match="same command again"):
        store.write(0, written | {"maps": written["maps"][:1, :, :2]})  # a shape that cannot be written
    assert store.pending() == [0, 1, 2]


def test_another_run_is_refused_with_the_difference(store):
    other = {"run": {"model": {"name": "tiny"}, "config": {"num_samples": 8}}, "class_names": None}
    with pytest.raises(ValueError, match=r"config\.num_samples: 4 -> 8"):
        open_store(store.place, LAYOUT, other)


@pytest.mark.parametrize(("written", "told"), [(None, "without a number of its format"), (FORMAT + 1, f"of format {FORMAT + 1}")])
def test_a_store_of_another_format_is_refused(store, written, told):
    root = Path(store.place) / "zarr.json"
    group = json.loads(root.read_text())
    assert group["attributes"].pop("format") == FORMAT
    group["attributes"] |= {} if written is None else {"format": written}
    group["attributes"]["run"]["dave_jax"] = "0.0.1"
    root.write_text(json.dumps(group))
    expected = rf"{told}.*\(dave_jax 0\.0\.1\); this one, dave_jax {version('dave-jax')}, reads and finishes format {FORMAT}\. Use the"
    with pytest.raises(ValueError, match=expected):
        open_maps(store.place)
    with pytest.raises(ValueError, match=expected):  # before the run is compared
        open_store(store.place, LAYOUT, {"run": {}})


def test_something_else_is_not_overwritten(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="something else"):
        open_store(str(tmp_path / "full"), LAYOUT, RUN)
    (tmp_path / "group").mkdir()
    (tmp_path / "group" / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}))
    with pytest.raises(ValueError, match="no store of maps"):
        read_attributes(open_folder(tmp_path / "group"), "group")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        open_folder(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="no store of maps"):
        open_maps(tmp_path / "nothing")


def test_a_store_that_does_not_answer_or_has_no_room_is_told():
    def silent(timeout):
        raise TimeoutError

    with pytest.raises(OSError, match=r"no answer in 3 s.*finished batches are kept"):
        told("Writing", silent, 3)

    def full(timeout):
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device [tensorstore_spec='{}']")

    with pytest.raises(OSError, match=r"Writing failed: RESOURCE_EXHAUSTED: No space left on device\. Make room"):
        told("Writing", full, 3)
