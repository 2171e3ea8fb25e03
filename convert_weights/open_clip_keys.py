"""The keys of open_clip's models, which for its own towers are those of OpenAI's CLIP."""

from collections.abc import Mapping

import numpy as np

from convert_weights import timm
from convert_weights.layouts import dense, norm, parts, patches, tokens, vector
from convert_weights.table import Entry
from convert_weights.towers import SCALARS, packed, under
from dave_jax.models.vit_config import ViTConfig


def table(trunk: ViTConfig | None, arrays: Mapping[str, np.ndarray]) -> list[Entry]:
    """The rows for every parameter of both towers.

    Args:
        trunk: the image tower, if it is one of timm's.
        arrays: the checkpoint; a text tower of its own has keys that begin with `text.`.
    """
    if trunk is None:
        image = under("visual.", "image/", _own())
    else:
        packed_gate = not any(".fc1_g." in key for key in arrays)
        image = under("visual.trunk.", "image/", timm.table(trunk, packed_gate=packed_gate))
        head = "visual.trunk.head" if "visual.trunk.head.weight" in arrays else "visual.head.proj"
        image += dense(head, "image/projection")
    start = "text." if any(key.startswith("text.") for key in arrays) else ""
    text = [
        Entry("token_embedding.weight", "token_embedding", vector),
        Entry("positional_embedding", "position_embedding", vector),
        *_transformer(),
        *norm("ln_final", "final_norm"),
        *(
            dense("text_projection", "projection")
            if f"{start}text_projection.weight" in arrays
            else [Entry("text_projection", "projection/kernel", vector)]
        ),
    ]
    return [*image, *under(start, "text/", text), *SCALARS]


def _own() -> list[Entry]:
    """open_clip's own vision transformer."""
    return [
        *dense("conv1", "patch_embedding", patches),
        Entry("class_embedding", "class_token", lambda array: array.reshape(1, -1)),
        Entry("positional_embedding", "position_embedding", tokens),
        *norm("ln_pre", "pre_norm"),
        *_transformer(),
        *norm("ln_post", "final_norm"),
        Entry("proj", "projection/kernel", vector),
    ]


def _transformer() -> list[Entry]:
    block = "transformer.resblocks.{i}"
    return [
        *norm(f"{block}.ln_1", "blocks/attention_norm"),
        *packed(parts(f"{block}.attn.in_proj", "blocks/attention", ("query", "key", "value"))),
        *dense(f"{block}.attn.out_proj", "blocks/attention/proj"),
        Entry(f"{block}.ls_1.gamma", "blocks/attention_scale/scale", vector),
        *norm(f"{block}.ln_2", "blocks/mlp_norm"),
        *dense(f"{block}.mlp.c_fc", "blocks/mlp/fc1"),
        *dense(f"{block}.mlp.c_proj", "blocks/mlp/fc2"),
        Entry(f"{block}.ls_2.gamma", "blocks/mlp_scale/scale", vector),
    ]
