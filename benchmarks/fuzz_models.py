"""Fuzzed models for `fuzz.py`: safetensors whose header, metadata or body is broken."""

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
from fuzz_cases import Case, Kind, Wrong
from fuzz_mutations import broken_bytes, broken_json
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
    shapes = parameter_shapes(family, network.config)
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
def parameter_shapes(family: str, config: Any) -> Any:
    """Those of the parameters that a network has."""
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
