"""The accounts that `convert` keeps, and the shipped table of timm's architectures."""

import json
import re

import jax
import numpy as np
import pytest

from convert_weights.architectures import FILE, architectures, from_document, near_names, to_text
from convert_weights.config_json import describe
from convert_weights.table import ConversionError, Entry, convert, flatten, unflatten
from convert_weights.timm import config_from_options

ROWS = [
    Entry("head.weight", "head/kernel", lambda array: array.T),
    Entry("head.bias", "head/bias", lambda array: array),
    Entry("layers.{i}.scale", "blocks/scale", lambda array: array),
]
EXPECTED = {"head": {"kernel": np.empty((3, 2)), "bias": np.empty(2)}, "blocks": {"scale": np.empty((2, 4))}}


def arrays() -> dict[str, np.ndarray]:
    return {
        "head.weight": np.arange(6.0).reshape(2, 3),
        "head.bias": np.ones(2, np.float16),
        "layers.0.scale": np.zeros(4),
        "layers.1.scale": np.ones(4),
    }


def test_every_row_is_laid_out_and_stacked_in_float32():
    tree = convert(arrays(), ROWS, EXPECTED)
    np.testing.assert_array_equal(tree["head"]["kernel"], np.arange(6.0).reshape(2, 3).T)
    np.testing.assert_array_equal(tree["blocks"]["scale"], np.repeat([[0.0], [1.0]], 4, axis=1))
    assert {leaf.dtype for leaf in flatten(tree).values()} == {np.dtype(np.float32)}


def test_the_device_takes_the_arrays_without_a_copy(monkeypatch):
    """A copy beside each would be a third more memory for a ViT-B, whose largest array is a third of it."""
    given, put = [], jax.device_put

    def recorded(array):
        given.append(array.ctypes.data)
        return put(array)

    monkeypatch.setattr(jax, "device_put", recorded)
    taken = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(convert(arrays(), ROWS, EXPECTED))]
    assert sorted(taken) == sorted(given)


def test_unflatten_inverts_flatten():
    flat = {"a/b/c": 1, "a/d": 2, "e": 3}
    assert flatten(unflatten(flat)) == flat


def test_one_error_lists_all_that_is_wrong_on_either_side():
    broken = arrays()
    del broken["head.bias"], broken["layers.1.scale"]
    broken |= {"head.weight": np.zeros((3, 2)), "layers.0.scale": np.full(4, np.nan), "layers.2.scale": np.ones(4), "queue": np.ones(1)}
    with pytest.raises(ConversionError) as error:
        convert(broken, ROWS, EXPECTED, what="the file")
    message = str(error.value)
    for part in (
        "missing head.bias",
        "missing layers.1.scale",
        "head.weight has shape (3, 2)",
        "leftover layers.2.scale",
        "leftover queue",
        "the file",
    ):
        assert part in message


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ConversionError, match=r"head\.bias holds values that are not finite"):
        convert(arrays() | {"head.bias": np.array([0.0, np.inf])}, ROWS, EXPECTED)


def test_a_layout_that_does_not_fit_is_one_of_the_problems():
    rows = [Entry("head.weight", "head/kernel", lambda array: array.reshape(7)), *ROWS[1:]]
    with pytest.raises(ConversionError, match=r"head\.weight has shape \(2, 3\), which does not fit"):
        convert(arrays(), rows, EXPECTED)


def test_a_parameter_without_a_row_is_named():
    with pytest.raises(ConversionError, match="no row for parameter head/bias"):
        convert(arrays(), [ROWS[0], ROWS[2]], EXPECTED)


def test_ignored_keys_and_adapted_arrays():
    extra = arrays() | {"queue": np.ones(1)}
    tree = convert(extra, ROWS, EXPECTED, ignored=["queue"], adapt={"head/bias": lambda array: array + 1})
    np.testing.assert_array_equal(tree["head"]["bias"], [2, 2])


def test_the_shipped_table_is_small_and_what_the_writer_writes():
    text = FILE.read_text(encoding="utf-8")
    assert len(text) < 200_000
    document = json.loads(text)
    assert to_text(from_document(document), document["made_from"].removeprefix("timm ")) == text


def vision_transformers():
    return {name: entry for name, entry in architectures().items() if entry["family"] == "vit"}


def test_the_shipped_table_agrees_with_the_recorded_one(shared):
    recorded = json.loads((shared / "timm" / "arch_table.json").read_text())
    shipped = vision_transformers()
    assert set(shipped) == set(recorded)
    for name, entry in recorded.items():
        assert shipped[name]["tags"] == entry["tags"], name
        for classes in {fields["num_classes"] for fields in entry["tags"].values()} | {1000}:
            ours = shipped[name]["options"] | {"num_classes": classes}
            theirs = entry["kwargs"] | {"num_classes": classes} | ({"distilled": True} if entry["dist_token"] else {})
            assert _config_or_error(ours) == _config_or_error(theirs), name


def _config_or_error(options):
    try:
        return config_from_options(options)
    except ValueError as error:
        return str(error)


def test_the_convolutional_architectures_that_dave_jax_builds():
    found = {"resnet": [], "convnext": []}
    for name, entry in architectures().items():
        if entry["family"] in found:
            try:
                describe({"architecture": name})
            except ValueError as error:
                assert re.search("attn_layer|aa_layer|groupnorm|block_reduce_first", str(error)), name
            else:
                found[entry["family"]].append(name)
    assert {family: len(names) for family, names in found.items()} == {"resnet": 68, "convnext": 31}
    named = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)] + ["resnet50d", "resnext50_32x4d", "wide_resnet50_2"]
    assert {*named, "test_resnet"} <= set(found["resnet"])
    sizes = ("atto", "femto", "pico", "nano", "tiny", "small", "base", "large")
    assert {f"{version}_{size}" for version in ("convnext", "convnextv2") for size in sizes} <= set(found["convnext"])
    assert {"convnext_xlarge", "convnext_xxlarge", "convnextv2_huge"} <= set(found["convnext"])


def test_the_architectures_that_dave_jax_builds():
    refused, loadable = {}, 0
    for name, entry in vision_transformers().items():
        try:
            config_from_options(entry["options"])
            loadable += len(entry["tags"])
        except ValueError as error:
            refused[name] = str(error)
    assert sum(len(entry["tags"]) for entry in vision_transformers().values()) == 333
    assert loadable == 327
    for name, message in refused.items():
        options = architectures()[name]["options"]
        option = "block_fn" if "block_fn" in options else "attn_layer"
        assert f"{option} {options[option]!r} is none of" in message or f"{option}={options[option]!r}" in message
    assert {name for name in refused if architectures()[name]["tags"]} == {
        "vit_dlittle_patch16_reg1_gap_256",
        "vit_dpwee_patch16_reg1_gap_256",
        "vit_dwee_patch16_reg1_gap_256",
        "vit_pwee_patch16_reg1_gap_256",
    }


def test_near_names_or_where_to_find_them():
    assert near_names("vit_smal", ["vit_small", "resnet"]) == "Near names: vit_small."
    assert "dave-jax models" in near_names("zzz", ["vit_small"])
