"""transformers' Swin, V1 and V2: configurations, and what is refused; the state dicts are checked in `tests/parity`."""

import jax
import numpy as np
import pytest

from convert_weights.huggingface_swin import describe, table
from convert_weights.table import ConversionError
from dave_jax.models.swin_config import init_params

SMALL = {"depths": [1, 2], "embed_dim": 4, "num_heads": [1, 2], "window_size": 4, "patch_size": 2, "id2label": {"0": "cat", "1": "dog"}}
V1 = SMALL | {"model_type": "swin", "architectures": ["SwinForImageClassification"], "image_size": 16}
V2 = SMALL | {"model_type": "swinv2", "architectures": ["Swinv2Model"], "image_size": 16, "pretrained_window_sizes": [2, 0, 0, 0]}
PROCESSOR = {"size": 16}


def arrays_of(read, prefix):
    """Zeros under the keys of a checkpoint, of the shapes that they have there."""
    config, found = read.config, {}
    expected = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    leaves = {"/".join(part.key for part in path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(expected)}
    for row in table({}, config, prefix=prefix):
        if row.target in leaves:
            shape = leaves[row.target]
            stacked = "{i}" in row.source
            for i in range(shape[0] if stacked else 1):
                own = shape[1:] if stacked else shape
                own = (*own[:-2], own[-1], own[-2]) if row.source.endswith("weight") and len(own) > 1 else own
                own = (4, 3, 2, 2) if "projection.weight" in row.source else own
                found[row.source.format(i=i)] = np.zeros(own, np.float32)
    return found


@pytest.mark.parametrize(("document", "prefix"), [(V1, "swin."), (V2, "")], ids=["v1", "v2"])
def test_every_key_is_accounted_for(document, prefix):
    read = describe(document, PROCESSOR)
    arrays = arrays_of(read, prefix)
    arrays[f"{prefix}encoder.layers.1.blocks.0.attention.self.relative_position_index"] = np.zeros((16, 16), np.int64)
    params = read.params(arrays)
    assert params["stages"]["1"]["blocks"]["attention"]["query"]["kernel"].shape == (2, 8, 8)
    assert (read.config.version, read.config.num_classes) == ((1, 2) if document is V1 else (2, 0))
    assert read.class_names == (("cat", "dog") if document is V1 else None)
    assert read.config.pretrained_windows == ((0, 0) if document is V1 else (2, 0))
    arrays["other"] = arrays.pop(f"{prefix}encoder.layers.0.downsample.reduction.weight")
    with pytest.raises(ConversionError, match=r"(?s)missing \S*downsample\.reduction\.weight.*leftover other"):
        read.params(arrays)


def test_image_sizes_that_the_windows_tile():
    assert describe(V1, PROCESSOR, image_size=(32, 48)).config.image_size == (32, 48)
    assert describe(V2, PROCESSOR, image_size=(16, 16)).config.cuts(1)[1].shift == (0, 0)
    for size in ((20, 20), (16, 32)):  # stage 1: 5 x 5; 4 x 8, which timm shifts along one axis and transformers along none
        with pytest.raises(ValueError, match="must be tiled by square windows, the same as in training"):
            describe(V1, PROCESSOR, image_size=size)
    with pytest.raises(ValueError, match=r"multiple of the patch size \(2, 2\)"):
        describe(V1, PROCESSOR, image_size=(17, 16))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architectures": ["SwinForMaskedImageModeling"]}, r"one of \['SwinModel', 'SwinForImageClassification'\]"),
        ({"hidden_act": "mish", "num_channels": 4}, "hidden_act 'mish' is none of.*num_channels must be 3; got 4"),
        ({"layer_norm_eps": 1e-6, "use_absolute_embeddings": True}, "layer_norm_eps must be 1e-05; got 1e-06.*use_absolute_embeddings"),
        ({"window_size": "4"}, "must be laid out as transformers writes it.*window_size must be a whole number"),
        ({"num_heads": [1]}, "one entry for each stage"),
    ],
)
def test_what_is_not_supported_is_named(options, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        describe(V1 | options, PROCESSOR)
