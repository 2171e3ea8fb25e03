"""One random CLIP in the layouts of open_clip, OpenAI, transformers and timm."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("open_clip")
pytest.importorskip("tokenizers")

import open_clip
import timm
import torch
import transformers
from clip_compare import close, draw_images
from clip_twins import SENTENCES, save_open_clip, save_openai_tokenizer, tiny_clip, tiny_open_clip
from safetensors.torch import save_file

import dave_jax as dave

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:A sentence has")]


def to_transformers(state, options):
    """OpenAI's names of arrays as those of transformers' CLIPModel."""
    found = {}

    def tower(theirs, ours, width):
        for key, value in state.items():
            if not key.startswith(f"{theirs}transformer.resblocks."):
                continue
            number, *name = key.removeprefix(f"{theirs}transformer.resblocks.").split(".")
            name, at = ".".join(name), f"{ours}.encoder.layers.{number}"
            if "in_proj" in name:
                kind = "weight" if name.endswith("weight") else "bias"
                for part, rows in zip("qkv", value.split(width), strict=True):
                    found[f"{at}.self_attn.{part}_proj.{kind}"] = rows
                continue
            for old, new in (("ln_", "layer_norm"), ("attn", "self_attn"), ("c_fc", "fc1"), ("c_proj", "fc2")):
                name = name.replace(old, new)
            found[f"{at}.{name}"] = value

    tower("visual.", "vision_model", options.vision_config.hidden_size)
    tower("", "text_model", options.text_config.hidden_size)
    for new, old in {
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "logit_scale": "logit_scale",
    }.items():
        found[new] = state[old]
    for new, old in {
        "vision_model.pre_layrnorm": "visual.ln_pre",
        "vision_model.post_layernorm": "visual.ln_post",
        "text_model.final_layer_norm": "ln_final",
    }.items():
        found |= {f"{new}.{kind}": state[f"{old}.{kind}"] for kind in ("weight", "bias")}
    return found | {"visual_projection.weight": state["visual.proj"].T, "text_projection.weight": state["text_projection"].T}


def test_four_layouts_of_one_clip(tmp_path):
    """open_clip's, OpenAI's, transformers' and, of the image tower, timm's."""
    theirs, config = tiny_open_clip()
    state = theirs.state_dict()
    models = {}
    for layout in ("open_clip", "openai"):
        save_open_clip(tmp_path / layout, theirs, config)
        save_openai_tokenizer(tmp_path / layout, together=layout == "openai")
    sizes = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
    weights = {key: value.contiguous() for key, value in (state | sizes).items()}
    save_file(weights, tmp_path / "openai" / "open_clip_model.safetensors")
    copy = tiny_clip(intermediate_size=48)
    copy.load_state_dict(to_transformers(state, copy.config))
    copy.save_pretrained(tmp_path / "transformers")
    save_openai_tokenizer(tmp_path / "transformers", together=True)
    transformers.CLIPImageProcessorPil(size=32, crop_size=32).save_pretrained(tmp_path / "transformers")
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 1.5, "num_classes": 16}
    layers = {"pre_norm": True, "norm_layer": "LayerNorm(eps=1e-05)", "act_layer": "QuickGELU"}
    quick = timm.layers.get_act_layer("quick_gelu")
    trunk = timm.models.VisionTransformer(**options, pre_norm=True, norm_layer=torch.nn.LayerNorm, act_layer=quick)
    trunk.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(dict(state), trunk))
    (tmp_path / "timm").mkdir()
    save_file({key: value.contiguous() for key, value in trunk.state_dict().items()}, tmp_path / "timm" / "model.safetensors")
    document = {"architecture": "vision_transformer", "model_args": options | layers}
    (tmp_path / "timm" / "config.json").write_text(json.dumps(document))
    models = {layout: dave.load(tmp_path / layout) for layout in ("open_clip", "openai", "transformers", "timm")}
    images, tensors = draw_images(models["open_clip"])
    embeddings = theirs.encode_image(tensors).detach().numpy()
    close(models.pop("timm").logits(images), embeddings, 1e-5)
    expected = theirs.get_logits(tensors, open_clip.tokenize(SENTENCES))[0].detach().numpy()
    for layout, model in models.items():
        np.testing.assert_array_equal(model.params["image"]["projection"]["kernel"], state["visual.proj"].numpy(), layout)
        close(model.prompts(SENTENCES).logits(images), expected, 1e-5)
