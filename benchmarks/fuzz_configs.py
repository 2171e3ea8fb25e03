"""Fuzzed configurations for `fuzz.py`: what lies beside the weights, of every family that loads."""

import json
from pathlib import Path
from typing import Any

from fuzz_cases import Case, Wrong
from fuzz_models import check_reading, parameter_shapes
from fuzz_mutations import broken_document, broken_json
from hypothesis import strategies as st

_IMAGES = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_pct": 0.95, "interpolation": "bilinear", "input_size": [3, 16, 16]}
_VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 2, "mlp_ratio": 2, "num_classes": 3}
_SWIN = {"img_size": 16, "patch_size": 2, "embed_dim": 4, "depths": [1, 2], "num_heads": [1, 2], "window_size": 2, "num_classes": 3}
_STAGES = {"hidden_sizes": [4, 6], "patch_size": 2, "id2label": {"0": "cat", "1": "dog"}}
_HF = {
    **{"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 16, "patch_size": 4},
    **{"id2label": {"1": "dog", "0": "cat", "2": "owl"}, "layer_norm_eps": 1e-6},
}
_HF_SWIN = {"depths": [1, 2], "embed_dim": 4, "num_heads": [1, 2], "window_size": 4, "patch_size": 2, "image_size": 16}
_TOWER = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "hidden_size": 8}
_CLIP = {
    "projection_dim": 6,
    "vision_config": _TOWER | {"image_size": 16, "patch_size": 4},
    "text_config": _TOWER | {"vocab_size": 30, "max_position_embeddings": 8, "eos_token_id": 29},
}
_OPEN_CLIP = {
    "embed_dim": 6,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 8, "head_width": 4, "patch_size": 4, "mlp_ratio": 2.0},
    "text_cfg": {"context_length": 8, "vocab_size": 30, "width": 8, "heads": 2, "layers": 2, "mlp_ratio": 2.0},
}


def _hf(model_type: str, written: str, **options: Any) -> dict[str, Any]:
    return _HF | {"model_type": model_type, "architectures": [written]} | options


def _timm(architecture: str, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "architecture": architecture,
        "model_args": options,
        "pretrained_cfg": _IMAGES,
        "label_names": ["a", "b", "c"],
        "num_classes": 3,
    }


CONFIGS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "timm vit": (_timm("vision_transformer", _VIT | {"reg_tokens": 2, "init_values": 1e-5, "act_layer": "gelu"}), None),
    "timm by name": (
        {"architecture": "vit_tiny_patch16_224", "num_classes": 3, "pretrained_cfg": _IMAGES | {"input_size": [3, 32, 32]}},
        None,
    ),
    "timm eva": (_timm("eva", _VIT | {"use_rot_pos_emb": True, "qkv_fused": False, "embed_dim": 16}), None),
    "timm beit": (_timm("beit", _VIT | {"use_rel_pos_bias": True}), None),
    "timm swin": (_timm("swin_transformer", _SWIN), None),
    "timm swinv2": (_timm("swin_transformer_v2", _SWIN), None),
    "timm resnet": (
        _timm("resnet", {"block": "BasicBlock", "layers": [1, 2], "channels": [4, 6], "stem_width": 4, "num_classes": 3}),
        None,
    ),
    "timm convnext": (_timm("convnext", {"depths": [1, 2], "dims": [4, 6], "num_classes": 3}), None),
    "bcos": ({"architecture": "bcos_vitc_ti_patch1_14", "num_classes": 3, "label_names": ["a", "b", "c"], "logit_bias": -2.0}, None),
    "hf vit": (_hf("vit", "ViTForImageClassification"), {"size": {"height": 16, "width": 16}, "image_processor_type": "ViTImageProcessor"}),
    "hf deit": (_hf("deit", "DeiTForImageClassificationWithTeacher"), {"size": 18, "crop_size": 16, "do_center_crop": True}),
    "hf dinov2": (_hf("dinov2", "Dinov2ForImageClassification", mlp_ratio=4), {"size": {"shortest_edge": 18}, "crop_size": 16}),
    "hf registers": (
        _hf("dinov2_with_registers", "Dinov2WithRegistersModel", mlp_ratio=4, use_swiglu_ffn=True),
        {"size": 16, "crop_size": 16},
    ),
    "hf dinov3": (_hf("dinov3_vit", "DINOv3ViTModel", num_attention_heads=3, num_register_tokens=4), {"size": {"height": 16, "width": 16}}),
    "hf ijepa": (_hf("ijepa", "IJepaModel"), {"size": {"height": 16, "width": 16}}),
    "hf beit": (_hf("beit", "BeitForImageClassification", use_relative_position_bias=True), {"size": 16}),
    "hf convnext": (
        _STAGES | {"model_type": "convnext", "architectures": ["ConvNextForImageClassification"], "num_stages": 2, "depths": [1, 2]},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}, "crop_pct": 0.5},
    ),
    "hf convnextv2": (
        _STAGES | {"model_type": "convnextv2", "architectures": ["ConvNextV2Model"], "layer_norm_eps": 0.1, "depths": [1, 2]},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}, "crop_pct": 0.5},
    ),
    "hf swin": (
        _HF_SWIN | {"model_type": "swin", "architectures": ["SwinForImageClassification"], "id2label": {"0": "a", "1": "b"}},
        {"size": 16},
    ),
    "hf swinv2": (
        _HF_SWIN | {"model_type": "swinv2", "architectures": ["Swinv2Model"], "pretrained_window_sizes": [2, 0, 0, 0]},
        {"size": 16},
    ),
    "hf clip": (
        _CLIP | {"model_type": "clip", "architectures": ["CLIPModel"]},
        {"size": {"shortest_edge": 16}, "crop_size": 16, "image_processor_type": "CLIPImageProcessor"},
    ),
    "hf siglip": (_CLIP | {"model_type": "siglip", "architectures": ["SiglipModel"]}, {"size": {"height": 16, "width": 16}}),
    "open_clip": (
        {"model_cfg": _OPEN_CLIP, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "resize_mode": "shortest"}},
        None,
    ),
    "open_clip timm": (
        {
            "model_cfg": _OPEN_CLIP
            | {"vision_cfg": {"timm_model_name": "vit_tiny_patch16_224", "image_size": 32, "timm_pool": "", "timm_proj": "linear"}}
        },
        None,
    ),
}
"""`config.json` and the image processor's file, of each family."""


@st.composite
def config_cases(draw: Any, names: list[str]) -> Case:
    name = draw(st.sampled_from(names))
    document, processor = CONFIGS[name]
    file = "open_clip_config.json" if name.startswith("open_clip") else "config.json"
    files = {file: json.dumps(document).encode()} | (
        {} if processor is None else {"preprocessor_config.json": json.dumps(processor).encode()}
    )
    if draw(st.integers(0, 19)) == 0:
        return Case(files, "valid", name)
    if processor is not None and draw(st.integers(0, 2)) == 0:
        return Case(files | {"preprocessor_config.json": draw(broken_json(processor))}, None, name)
    whole = draw(st.booleans())  # every second one is still JSON, and reaches the options
    return Case(files | {file: json.dumps(draw(broken_document(document))).encode() if whole else draw(broken_json(document))}, None, name)


def check_config(folder: Path, case: Case) -> None:
    """Read as `dave.load` reads it, before any weight is: what is accepted can be traced, has finite images and a name for each class.

    Valid ones are accepted.
    """
    from dave_jax.models import hub
    from dave_jax.models.families import FAMILIES
    from dave_jax.models.files import Found
    from dave_jax.models.model import Model

    def beside(name: str) -> Path | None:
        return folder / name if (folder / name).exists() else None

    config = next(folder / name for name in ("config.json", "open_clip_config.json") if name in case.files)
    try:
        read = hub._describe(Found("fuzzed", str(folder), (), config, beside), None)
    except (ValueError, TypeError, OSError) as error:
        if case.same_as is not None:
            raise Wrong(f"a valid one is refused: {error}") from error
        raise
    network = FAMILIES[read.family].network(read.config)
    if getattr(read.config, "depth", 1) > 50:  # a scan, but its parameters are made one by one
        return
    try:
        params = parameter_shapes(read.family, read.config)
        check_reading(Model(params, network, preprocessing=read.preprocessing, class_names=read.class_names), network)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        if "The model takes images" in str(error):  # from so many pixels on, which is said when one comes
            return
        raise Wrong(f"accepted, but {type(error).__name__}: {str(error)[:200]}") from error
