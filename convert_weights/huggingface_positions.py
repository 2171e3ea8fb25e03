"""The options of transformers' models whose attention knows where tokens are: BEiT and DINOv3."""

from collections.abc import Mapping
from typing import Any

from convert_weights.options import pair
from dave_jax.models.rotary import Rotary


def beit_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `ViTConfig` that only BEiT's options say.

    Raises:
        ValueError: bias tables of the blocks and a shared one together, or images that are no squares.

    Example:
        >>> beit_fields({"use_relative_position_bias": True})["pooling"]
        'avg'
    """
    own, shared = (bool(options.get(f"use_{kind}relative_position_bias")) for kind in ("", "shared_"))
    height, width = pair(options.get("image_size", 224))
    if own and shared:
        raise ValueError("use_relative_position_bias and use_shared_relative_position_bias together are not supported")
    if height != width:
        raise ValueError(f"image_size must be that of a square (transformers mistakes rows for columns otherwise); got {(height, width)}")
    mean = bool(options.get("use_mean_pooling", True))
    return {
        "position_embedding": bool(options.get("use_absolute_position_embeddings")),
        "relative_position": own or shared,
        "layer_scale": float(options.get("layer_scale_init_value", 0.1)) > 0,
        "key_bias": False,
        "pooling": "avg" if mean else "token",
        "final_norm": "pooled" if mean else "tokens",
    }


def dinov3_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `ViTConfig` that only DINOv3's options say.

    Raises:
        ValueError: biases of queries without those of values, or of the MLP without those of attention's output, or the other way round.

    Example:
        >>> dinov3_fields({"rope_theta": 50.0})["rotary"].temperature
        50.0
    """
    biases = {name: bool(options.get(f"{name}_bias", name != "key")) for name in ("query", "key", "value", "proj", "mlp")}
    for one, other in (("query", "value"), ("proj", "mlp")):
        if biases[one] != biases[other]:
            raise ValueError(f"{one}_bias and {other}_bias must be equal; got {biases[one]} and {biases[other]}")
    if biases["key"] and not biases["query"]:
        raise ValueError("key_bias needs query_bias and value_bias")
    return {
        "num_registers": int(options.get("num_register_tokens", 0)),
        "position_embedding": False,
        "rotary": Rotary(temperature=float(options.get("rope_theta", 100.0)), coordinates="centred", pairs="halves"),
        "layer_scale": True,
        "gated_mlp": bool(options.get("use_gated_mlp")),
        "qkv_bias": biases["query"],
        "key_bias": biases["key"],
        "proj_bias": biases["proj"],
    }
