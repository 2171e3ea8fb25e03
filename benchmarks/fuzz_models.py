"""Fuzzed models for `fuzz.py`: safetensors whose header, metadata or body is broken, and the configurations of every family that loads."""

import dataclasses
import functools
import json
import struct
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fuzz_cases import Case, Kind, Wrong, broken_bytes, broken_document, broken_json
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "convert_weights"))

_DTYPES = ["F32", "F64", "F16", "BF16", "I8", "U8", "I32", "I64", "BOOL", "F8_E4M3", "C64", "x", ""]


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and body of a safetensors file."""
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def joined(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@st.composite
def safetensors_cases(draw: Any, folders: dict[str, dict[str, bytes]]) -> Case:
    name = draw(st.sampled_from(sorted(folders)))
    files = dict(folders[name])
    target = draw(st.sampled_from(sorted(file for file in files if "safetensors" in file)))
    content = files[target]
    if draw(st.integers(0, 19)) == 0:
        return Case(files, "valid", name)
    if target.endswith(".json"):
        return Case(files | {target: draw(broken_json(json.loads(content)))}, None, name)
    header, body = split(content)
    key = draw(st.sampled_from(sorted(set(header) - {"__metadata__"})))
    match draw(st.integers(0, 7)):
        case 0:
            content = draw(broken_bytes(content))
        case 1:
            content = joined(draw(broken_json(header)), body)
        case 2:
            header[key]["dtype"] = draw(st.sampled_from(_DTYPES))
            content = joined(header, body)
        case 3:
            header[key]["shape"] = draw(
                st.sampled_from(([], [0], [-1], [2**40, 2**40], header[key]["shape"][::-1], [1, *header[key]["shape"]]))
            )
            content = joined(header, body)
        case 4:
            header[draw(st.sampled_from(("other", key.upper(), f"{key}.scale")))] = header.pop(key)
            content = joined(header, body)
        case 5:  # numbers that are none, and numbers
            begin, end = header[key]["data_offsets"]
            place = 4 * draw(st.integers(begin // 4, max(begin // 4, end // 4 - 1)))
            number = draw(st.sampled_from((np.nan, np.inf, -np.inf, 0.0, -1.5, 3e38, 1e-45)))
            content = joined(header, body[:place] + struct.pack("<f", number) + body[place + 4 :])
        case 6:
            content = struct.pack("<Q", draw(st.sampled_from((0, 1, 10**6, 10**8, 10**9, 2**63, 2**64 - 1)))) + content[8:]
        case 7 if "dave_jax" in header.get("__metadata__", {}):
            stored = json.loads(header["__metadata__"]["dave_jax"])
            header["__metadata__"]["dave_jax"] = draw(broken_json(stored)).decode(errors="replace")
            content = joined(header, body)
        case _:
            files["config.json"] = draw(broken_json(json.loads(files.get("config.json", b"{}"))))
    return Case(files | {target: content}, None, name)


def safetensors_kind(folder: Path) -> Kind:
    """Folders of dave_jax, quantised and not, of timm, sharded and not, and of transformers."""
    import huggingface_files
    import timm_checkpoints

    import dave_jax as dave
    from dave_jax.testing import tiny_model

    named = dataclasses.replace(tiny_model(), class_names=("tench", "church", "chain saw", "gas pump", "golf ball"))
    dave.save(named, folder / "own")
    dave.save(tiny_model(), folder / "quantised", quantise=True)
    timm_checkpoints.write_checkpoint(folder / "timm")
    timm_checkpoints.write_checkpoint(folder / "sharded")
    timm_checkpoints.shard(folder / "sharded")
    huggingface_files.write(folder / "transformers")
    folders = {path.name: {file.name: file.read_bytes() for file in path.iterdir()} for path in sorted(folder.iterdir()) if path.is_dir()}
    right = {name: dave.load(folder / name) for name in folders}
    return Kind(safetensors_cases(folders), functools.partial(check_model, right))


def check_model(right: dict[str, Any], folder: Path, case: Case) -> None:
    """All parameters there, finite and of the shapes that the network has; the files of the valid one give it again."""
    import dave_jax as dave
    from dave_jax.models.families import FAMILIES, family_of

    model = dave.load(folder)
    network: Any = model.forward
    family = family_of(network)
    if family is None:
        raise Wrong("a network of no family")
    shapes = _shapes(family, network.config)
    if jax.tree.structure(shapes) != jax.tree.structure(model.params):
        raise Wrong("other parameters than the network's")
    for like, leaf in zip(jax.tree.leaves(shapes), jax.tree.leaves(model.params), strict=True):
        if like.shape != leaf.shape or not np.isfinite(np.asarray(leaf, np.float32)).all():
            raise Wrong(f"a parameter of shape {leaf.shape} for {like.shape}, or not finite")
    check_reading(model, FAMILIES[family].network(network.config))
    if case.same_as is not None:
        same = right[case.seed]
        if not all(
            np.array_equal(one, other) for one, other in zip(jax.tree.leaves(model.params), jax.tree.leaves(same.params), strict=True)
        ):
            raise Wrong("other parameters than the file's")


def check_reading(model: Any, network: Any) -> None:
    """What is said about images and classes holds for the network: nothing is computed."""
    height, width = model.preprocessing.image_size
    images = model.preprocessing(np.full((20, 30, 3), 77, np.uint8))
    if images.shape != (1, height, width, 3) or not np.isfinite(images).all():
        raise Wrong(f"images {images.shape}")
    classes = _classes(
        network,
        (height, width),
        jax.tree.structure(model.params),
        tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(model.params)),
    )
    if classes is not None and model.class_names is not None and len(model.class_names) != classes:
        raise Wrong(f"{len(model.class_names)} names for {classes} classes")


@functools.lru_cache(512)
def _shapes(family: str, config: Any) -> Any:
    from dave_jax.models.families import FAMILIES

    return jax.eval_shape(lambda: FAMILIES[family].init_params(jax.random.key(0), config))


@functools.lru_cache(512)
def _classes(network: Any, size: tuple[int, int], structure: Any, leaves: tuple[Any, ...]) -> int | None:
    """How many logits there are; None for two towers, whose images and sentences need not have any."""
    params = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves])
    image = jax.ShapeDtypeStruct((*size, 3), jnp.float32)
    if hasattr(network, "text"):
        jax.eval_shape(network.image, params["image"], image)
        jax.eval_shape(network.text, params["text"], jax.ShapeDtypeStruct((network.config.text.context_length,), jnp.int32))
        return None
    (classes,) = jax.eval_shape(network, params, image).shape
    return classes


# Configurations.

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


def config_kind(folder: Path) -> Kind:
    """What the files beside the weights say: read as `dave.load` reads it, before any weight is."""
    del folder
    return Kind(config_cases(sorted(CONFIGS)), check_config)


def check_config(folder: Path, case: Case) -> None:
    """A configuration that is accepted can be traced, has finite images and a name for each class; the valid ones are accepted."""
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
        params = _shapes(read.family, read.config)
        check_reading(Model(params, network, preprocessing=read.preprocessing, class_names=read.class_names), network)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        if "The model takes images" in str(error):  # from so many pixels on, which is said when one comes
            return
        raise Wrong(f"accepted, but {type(error).__name__}: {str(error)[:200]}") from error
