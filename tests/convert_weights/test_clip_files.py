"""Files of CLIP and SigLIP checkpoints: what is read, and what is wrong with them. Values are compared in tests/parity."""

import json

import huggingface_hub.constants
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from timm_checkpoints import assert_same

from convert_weights import huggingface_clip, open_clip
from convert_weights.table import ConversionError
from convert_weights.tokenizer_files import clip_tokenizer, read_tokenizer
from dave_jax.models import hub
from dave_jax.models.image_text import ImageText, init_params
from dave_jax.models.vit import ViT

MERGES = ["a </w>", "c a", "ca t</w>", "d o", "do g</w>"]
LETTERS = sorted({*"acdgot</w>"} - {"<", "/", "w", ">"})
VOCABULARY = {
    token: number
    for number, token in enumerate(
        [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "ca", "cat</w>", "do", "dog</w>", "<|startoftext|>", "<|endoftext|>"]
    )
}
END = VOCABULARY["<|endoftext|>"]
TOWER = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
TINY = {
    "model_type": "clip",
    "architectures": ["CLIPModel"],
    "projection_dim": 6,
    "vision_config": TOWER | {"hidden_size": 8, "image_size": 16, "patch_size": 4},
    "text_config": TOWER | {"hidden_size": 8, "vocab_size": END + 1, "max_position_embeddings": 8, "eos_token_id": END},
}
SIXTEEN = {"size": {"shortest_edge": 16}, "crop_size": 16, "image_processor_type": "CLIPImageProcessor"}
OPEN = {
    "embed_dim": 6,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 8, "head_width": 4, "patch_size": 4, "mlp_ratio": 2.0},
    "text_cfg": {"context_length": 8, "vocab_size": END + 1, "width": 8, "heads": 2, "layers": 2, "mlp_ratio": 2.0},
}


def write_tokenizer(folder):
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES[1:], ""]))


def random_state(read):
    """A state dict of the shapes that a table asks for, and what becomes of it."""
    shapes = jax.eval_shape(lambda key: init_params(key, read.config), jax.random.key(0))
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: draw.normal(size=leaf.shape).astype(np.float32), shapes)


def to_state(params, read):
    """The table backwards, for layouts that are their own inverse or a transposition."""
    flat = {"/".join(part.key for part in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    state: dict[str, np.ndarray] = {}
    packed: dict[str, list[np.ndarray]] = {}
    for row in read.rows({"vision_model.": np.zeros(0)}):  # with transformers' prefix
        if row.target not in flat:
            continue
        leaf = flat[row.target]
        for i, value in enumerate(leaf) if "{i}" in row.source else [(0, leaf)]:
            key = row.source.format(i=i)
            if row.target == "image/patch_embedding/kernel":
                state[key] = np.einsum("hwco->ochw", value.reshape(4, 4, 3, -1))
            elif "in_proj" in key:
                packed.setdefault(key, []).append(value.T)
            elif row.target.endswith("kernel") and not key.endswith(("proj", "text_projection")):
                state[key] = value.T
            else:
                state[key] = value[0] if row.target == "image/class_token" else value
    state |= {key: np.concatenate(values) for key, values in packed.items()}
    return {key: np.ascontiguousarray(value) for key, value in state.items()}


def write(folder, document=TINY):
    """A tiny CLIP as transformers saves it; returns its parameters."""
    read = huggingface_clip.describe(document, SIXTEEN)
    params = random_state(read)
    save_file(to_state(params, read), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(document))
    (folder / "preprocessor_config.json").write_text(json.dumps(SIXTEEN))
    write_tokenizer(folder)
    return params


def test_a_folder_of_transformers(tmp_path):
    params = write(tmp_path)
    model = hub.load(tmp_path)
    assert isinstance(model, ImageText) and model.class_names is None
    assert_same(model.params, params)
    ids = model.token_ids(["Cat  dog"])[0]
    words = ["<|startoftext|>", "cat</w>", "dog</w>", *["<|endoftext|>"] * 5]
    np.testing.assert_array_equal(ids, [VOCABULARY[word] for word in words])
    assert model.tokenizer.encode("Cat  dog").tokens == ("<|startoftext|>", "Cat", "dog", "<|endoftext|>")
    assert model.prompts(["cat", "dog"]).logits(np.zeros((1, 16, 16, 3), np.float32)).shape == (1, 2)


def test_a_folder_of_open_clip(tmp_path):
    read = open_clip.describe({"model_cfg": OPEN})
    params = random_state(read)
    state = to_state(params, read) | {"context_length": np.array(8), "attn_mask": np.zeros((8, 8), np.float32)}
    save_file(state, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN, "preprocess_cfg": {"resize_mode": "squash"}}))
    write_tokenizer(tmp_path)
    for place in (tmp_path, tmp_path / "open_clip_model.safetensors"):
        model = hub.load(place)
        assert_same(model.params, params)
        assert (model.name, model.preprocessing.crop_mode) == (tmp_path.name, "squash")
    assert model.token_ids(["&lt;Dog"])[0].tolist()[-4:] == [0] * 4  # open_clip pads with zeros
    assert hub.load(tmp_path, image_size=24).forward.image.config.grid == (6, 6)


def test_images_that_patches_leave_pixels_of():
    sized = {"size": {"shortest_edge": 18}, "crop_size": 18, "image_processor_type": "CLIPImageProcessor"}
    theirs = huggingface_clip.describe(TINY | {"vision_config": TINY["vision_config"] | {"image_size": 18}}, sized)
    opened = open_clip.describe({"model_cfg": OPEN | {"vision_cfg": OPEN["vision_cfg"] | {"image_size": 18}}})
    for read in (theirs, opened):
        image = read.config.image
        assert (image.image_size, image.grid, image.overhang) == ((18, 18), (4, 4), True)
        assert read.preprocessing.image_size == (18, 18)
    with pytest.raises(ValueError, match="must be a multiple of the patch size"):
        open_clip.describe({"model_cfg": OPEN}, image_size=(18, 18))
    with pytest.raises(ValueError, match="must be a multiple of the patch size"):
        huggingface_clip.describe(TINY, SIXTEEN, image_size=(18, 18))


def test_weights_of_transformers_come_first(tmp_path):
    """Repositories of open_clip often hold both."""
    params = write(tmp_path)
    save_file({"junk": np.zeros(1, np.float32)}, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text("{}")
    assert_same(hub.load(tmp_path).params, params)


def test_a_repository_of_open_clip_in_the_cache(tmp_path, monkeypatch):
    """Without a network: it has neither config.json nor weights under the other libraries' names."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    commit, root = "0123456789abcdef" * 2 + "01234567", tmp_path / "models--org--clip"
    snapshot, absent = root / "snapshots" / commit, root / ".no_exist" / commit
    for folder in (snapshot, absent, root / "refs"):
        folder.mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    for name in ("config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"):
        (absent / name).touch()
    (absent / "special_tokens_map.json").touch()
    read = open_clip.describe({"model_cfg": OPEN})
    params = random_state(read)
    save_file(to_state(params, read), snapshot / "open_clip_model.safetensors")
    (snapshot / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN}))
    write_tokenizer(snapshot)
    model = hub.load("org/clip")
    assert_same(model.params, params)
    assert model.source.startswith(f"org/clip@{commit} sha256:")


def test_an_image_tower_alone_needs_no_tokenizer(tmp_path):
    write(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    kept = {key: value for key, value in state.items() if key.startswith("vision_model.") or key == "visual_projection.weight"}
    document = TINY["vision_config"] | {"model_type": "clip_vision_model", "architectures": ["CLIPVisionModelWithProjection"]}
    save_file(kept, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(document | {"projection_dim": 6}))
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink()
    model = hub.load(tmp_path)
    assert isinstance(model.forward, ViT) and model.logits(np.zeros((1, 16, 16, 3), np.float32)).shape == (1, 6)


def test_without_its_tokenizer(tmp_path):
    write(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"needs the tokenizer of its text tower.*vocab\.json and merges\.txt"):
        hub.load(tmp_path)
    (tmp_path / "spiece.model").touch()
    with pytest.raises(FileNotFoundError, match=r"spiece\.model is not read"):
        hub.load(tmp_path)


def test_broken_tokenizers(tmp_path):
    write(tmp_path)
    for name, text, message in (
        ("merges.txt", "c a\nx y", "must hold pairs of tokens"),
        ("vocab.json", "[1]", "must be a JSON object"),
        ("vocab.json", json.dumps({"a": 0}), "must have the tokens"),
        ("tokenizer.json", "{", "must be JSON"),
        ("tokenizer.json", "{}", "must be one that the library tokenizers wrote"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            hub.load(tmp_path)
        if name == "vocab.json":
            write_tokenizer(tmp_path)


def test_the_padding_that_files_name(tmp_path):
    (tmp_path / "tokenizer.json").write_text(clip_tokenizer(VOCABULARY, "\n".join(MERGES[1:])))

    def read(**settings):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        return read_tokenizer(lambda name: tmp_path / name if (tmp_path / name).exists() else None, 8, kind="CLIPTokenizer")

    assert (read().pad_id, read().padding_side, read().cleaning) == (END, "right", ())
    other = read(tokenizer_class="Siglip2TokenizerFast", pad_token={"content": "cat</w>"})
    assert (other.pad_id, other.padding_side, other.cleaning) == (VOCABULARY["cat</w>"], "left", ("lower",))
    assert read(tokenizer_class="SiglipTokenizer", pad_token="a", do_lower_case=False).cleaning == ("punctuation", "whitespace")
    with pytest.raises(ValueError, match="must name a padding token that it has; it names 'nothing'"):
        read(pad_token="nothing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["CLIPTextModel"]}, "one of .*'CLIPModel'"),
        ({"vision_config": {"hidden_act": "mish", "patch_size": 4}}, "hidden_act must be one of"),
        ({"vision_config": 3}, "laid out as transformers"),
        ({"vision_config": {"patch_size": 20}}, "must be a multiple of patch_size"),
        ({"vision_config": {"num_hidden_layers": 10**9, "image_size": 16, "patch_size": 4}}, "depth must be at most"),
        ({"text_config": {"vocab_size": 10**12}}, "vocab_size must be at most"),
        ({"text_config": {"max_position_embeddings": 10**12}}, "context_length must be at most"),
        ({"text_config": {"eos_token_id": 10**6}}, "end_id must be a token"),
        ({"projection_dim": "six"}, "projection_dim must be a whole number"),
    ],
)
def test_what_transformers_config_must_be(change, message):
    with pytest.raises(ValueError, match=message):
        huggingface_clip.describe(TINY | change, SIXTEEN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_cfg": {"layers": [3, 4, 6, 3]}}, "ResNets are not supported"),
        ({"vision_cfg": {"timm_model_name": "convnext_base"}}, "VisionTransformer, open_clip's or timm's; 'convnext_base'"),
        ({"vision_cfg": {"attentional_pool": True}}, "attentional_pool"),
        ({"vision_cfg": {"qk_norm": True, "leyers": 3}}, r"qk_norm=True.*\n.*unknown option leyers=3 \(did you mean layers\?\)"),
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, "hf_model_name='roberta-base' is not supported"),
        ({"text_cfg": {"embed_cls": True, "pool_type": "first"}}, "embed_cls.*\n.*pool_type 'first'"),
        ({"text_cfg": {"tokenizer_kwargs": {"strip_sep_token": True}}}, "may set clean alone"),
        ({"multimodal_cfg": {}}, "unknown option multimodal_cfg"),
        ({"text_cfg": {"layers": 10**9}}, "depth must be at most"),
        ({"text_cfg": 7}, "laid out as open_clip"),
    ],
)
def test_what_open_clips_config_must_be(change, message):
    with pytest.raises(ValueError, match=message):
        open_clip.describe({"model_cfg": OPEN | change})
    with pytest.raises(ValueError, match="resize_mode must be one of"):
        open_clip.describe({"model_cfg": OPEN, "preprocess_cfg": {"resize_mode": "longest"}})


def test_one_error_lists_the_arrays_that_do_not_fit(tmp_path):
    write(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["text_model.embeddings.position_ids"] = np.arange(8)[None]
    state["logit_bias"] = np.zeros(1, np.float32)
    del state["text_model.encoder.layers.1.mlp.fc2.bias"]
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(TINY | {"text_config": TINY["text_config"] | {"hidden_size": 10**6}}))
    with pytest.raises(ConversionError) as error:
        hub.load(tmp_path)
    for problem in ("missing text_model.encoder.layers.1.mlp.fc2.bias", "leftover logit_bias", "text/final_norm/scale needs (1000000,)"):
        assert problem in str(error.value)
    assert "position_ids" not in str(error.value)
