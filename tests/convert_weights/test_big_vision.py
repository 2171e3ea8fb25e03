"""`.npz` checkpoints of big_vision and vit_jax, beside a twin in flax."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import scipy.ndimage
from big_vision_twin import Twin
from flax.traverse_util import flatten_dict

import dave_jax as dave


def write(path, twin=None, *, prefix="params/", change=lambda arrays: arrays):
    """Save a random twin; returns the function of an image (h, w, 3) that it is."""
    twin = twin or Twin("avg")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        start = twin.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]
    leaves, structure = jax.tree.flatten(start)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    leaves = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    params = jax.tree.unflatten(structure, leaves)
    arrays = {prefix + name: np.asarray(array) for name, array in flatten_dict(params, sep="/").items()}
    np.savez(path, **change(arrays))

    def logits(image):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return twin.apply({"params": params}, image[None])[0]

    return logits


@pytest.mark.parametrize(
    ("twin", "prefix"),
    [
        pytest.param(Twin("avg"), "", marks=pytest.mark.slow),
        pytest.param(Twin("token", scan=True), "opt/target/", marks=pytest.mark.slow),
        pytest.param(Twin("map"), "params/img/", marks=pytest.mark.slow),
        (Twin("avg", learned=False), "params/"),
    ],
)
def test_logits_and_derivatives_are_those_of_the_twin(twin, prefix, tmp_path, key):
    function = write(tmp_path / "vit.npz", twin, prefix=prefix)
    model = dave.load(tmp_path / "vit.npz", image_size=None if twin.learned else 16)
    image = jax.random.normal(key, (16, 16, 3))
    (expected, slope), (logits, ours) = (
        (function(image), jax.jit(jax.grad(lambda image, function=function: function(image)[0]))(image))
        for function in (function, lambda image: model.forward(model.params, image, "gradient"))
    )
    np.testing.assert_allclose(logits, expected, atol=1e-5 * float(jnp.abs(expected).max()))
    np.testing.assert_allclose(ours, slope, atol=1e-5 * float(jnp.abs(slope).max()))


def test_names_of_vit_jax(tmp_path, key):
    """The same arrays under the names of the older code; its position embedding has a row for the class token."""
    function = write(tmp_path / "new.npz", Twin("token"), prefix="")
    older = {"MultiHeadDotProductAttention_0": "MultiHeadDotProductAttention_1", "LayerNorm_1": "LayerNorm_2", "MlpBlock_0": "MlpBlock_3"}
    older |= {"pos_embedding": "Transformer/posembed_input/pos_embedding"}
    arrays = {}
    for name, array in np.load(tmp_path / "new.npz").items():
        for new, old in older.items():
            name = name.replace(new, old)
        with_row = "posembed_input" in name
        arrays[name] = np.concatenate([np.zeros((1, 1, 8), np.float32), array], axis=1) if with_row else array
    np.savez(tmp_path / "old.npz", **arrays)
    model = dave.load(tmp_path / "old.npz")
    assert model.forward.config.position_on_prefix
    image = jax.random.normal(key, (16, 16, 3))
    np.testing.assert_allclose(model.logits(image[None])[0], function(image), atol=1e-5)


def test_stacked_blocks_of_several_lengths(tmp_path):
    shorter = lambda arrays: {name: array[:2] if name.endswith("query/bias") else array for name, array in arrays.items()}
    write(tmp_path / "vit.npz", Twin("avg", scan=True), change=shorter)
    with pytest.raises(ValueError, match=r"must have one length, here 3; .*query/bias has 2"):
        dave.load(tmp_path / "vit.npz")


def test_half_precision_has_no_name_in_an_archive(tmp_path):
    write(tmp_path / "half.npz", change=lambda arrays: {name: array.astype(ml_dtypes.bfloat16) for name, array in arrays.items()})
    write(
        tmp_path / "whole.npz",
        change=lambda arrays: {name: array.astype(ml_dtypes.bfloat16).astype("f4") for name, array in arrays.items()},
    )
    half, whole = (dave.load(tmp_path / f"{name}.npz") for name in ("half", "whole"))
    jax.tree.map(np.testing.assert_array_equal, half.params, whole.params)


def test_another_image_size_as_big_vision_resamples(tmp_path):
    write(tmp_path / "vit.npz")
    old, new = (np.asarray(dave.load(tmp_path / "vit.npz", image_size=size).params["position_embedding"]) for size in (16, 28))
    expected = scipy.ndimage.zoom(old.reshape(4, 4, 8), (7 / 4, 7 / 4, 1), order=1).reshape(49, 8)
    np.testing.assert_allclose(new, expected, atol=1e-6)


def test_what_the_arrays_do_not_say(tmp_path):
    write(tmp_path / "vit.npz")
    preprocessing = dave.load(tmp_path / "vit.npz").preprocessing
    assert (preprocessing.mean, preprocessing.image_size, preprocessing.crop_fraction) == ((0.5, 0.5, 0.5), (16, 16), 0.875)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: {"w": np.zeros(3)}, "with an array 'embedding/kernel'"),
        (lambda arrays: arrays | {"params/pre_logits/kernel": np.zeros((8, 8))}, "pre_logits"),
        (lambda arrays: {name: array for name, array in arrays.items() if "Dense_1/kernel" not in name}, "missing blocks/0/mlp/1/kernel"),
        (lambda arrays: {name: array for name, array in arrays.items() if "query" not in name}, "an array is missing or misshapen"),
        (lambda arrays: arrays | {"params/more": np.zeros(3)}, "leftover more"),
        (lambda arrays: arrays | {"params/pos_embedding": np.zeros((1, 15, 8), np.float32)}, "multiple of|rows"),
        (lambda arrays: arrays | {"params/head/bias": np.array([{}, 1, 2, 3, 4], object)}, "pickled objects"),
        (lambda arrays: arrays | {"params/head/bias": np.full(5, np.nan, np.float32)}, "not finite"),
    ],
)
def test_what_is_wrong_is_named(change, message, tmp_path):
    write(tmp_path / "vit.npz", change=change)
    with pytest.raises(ValueError, match=message):
        dave.load(tmp_path / "vit.npz")


def test_archives_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        dave.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(ValueError, match=r"must be a whole \.npz archive"):
        dave.load(tmp_path / "text.npz")
    np.savez_compressed(tmp_path / "packed.npz", **{"embedding/kernel": np.zeros((4, 4, 3, 8))})
    with pytest.raises(ValueError, match="must not be compressed"):
        dave.load(tmp_path / "packed.npz")
    write(tmp_path / "short.npz")
    content = (tmp_path / "short.npz").read_bytes()
    at = content.index(b"'shape': (5,)")
    (tmp_path / "short.npz").write_bytes(content[:at] + b"'shape': (9,)" + content[at + 13 :])
    with pytest.raises(ValueError, match=r"as numpy\.savez writes it"):
        dave.load(tmp_path / "short.npz")
