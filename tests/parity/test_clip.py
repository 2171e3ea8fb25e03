"""Small random CLIPs and SigLIPs, saved by transformers and open_clip, loaded by their folder: token ids, logits, gradients."""

import dataclasses
import json

import jax
import jax.numpy as jnp
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
from clip_twins import (
    SENTENCES,
    save_open_clip,
    save_openai_tokenizer,
    scatter,
    siglip_tokenizer,
    tiny_clip,
    tiny_open_clip,
    tiny_siglip,
)
from PIL import Image
from safetensors.torch import save_file

import dave_jax as dave
from dave_jax.models.tokenizer import CLEANING

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:A sentence has")]


def close(ours, theirs, tolerance):
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def draw_images(model):
    """Two, for JAX and for torch."""
    images = np.random.default_rng(0).standard_normal((2, *model.preprocessing.image_size, 3), np.float32)
    return images, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_()


def compare(model, ids, logits_of):
    """Token ids, logits and the gradient of a contrast; `logits_of(images, ids)` are theirs."""
    np.testing.assert_array_equal(model.token_ids(SENTENCES), ids.numpy())
    images, tensors = draw_images(model)
    expected = logits_of(tensors, ids)
    prompted = model.prompts(SENTENCES)
    scale = np.exp(np.asarray(model.params["logit_scale"]))  # random towers have small cosines: rounding is that of vectors of length 1
    np.testing.assert_allclose(prompted.logits(images) / scale, expected.detach().numpy() / scale, rtol=0, atol=3e-6)
    (slopes,) = torch.autograd.grad((expected[:, 0] - expected[:, 1]).sum(), tensors)
    contrast = jnp.zeros(len(SENTENCES)).at[0].set(1.0).at[1].set(-1.0)
    ours = jax.vmap(lambda image: dave.effective_transformation(prompted, image, contrast, decomposition="gradient"))(jnp.asarray(images))
    close(ours, slopes.numpy().transpose(0, 2, 3, 1), 1e-4)


@pytest.mark.parametrize("case", ["two files", "one file, larger images", "old end", "other activation"])
def test_transformers_clip(case, tmp_path):
    theirs = tiny_clip(**{"old end": {"eos_token_id": 2}, "other activation": {"hidden_act": "gelu"}}.get(case, {}))
    theirs.save_pretrained(tmp_path)
    save_openai_tokenizer(tmp_path, together=False)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    size = 48 if "larger" in case else 32
    images = transformers.CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    if "one file" in case:  # transformers writes tokenizer.json and processor_config.json
        transformers.CLIPProcessor(images, tokenizer).save_pretrained(tmp_path)
        (tmp_path / "vocab.json").unlink()
    else:
        images.save_pretrained(tmp_path)
    ids = tokenizer(SENTENCES, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
    options = {"interpolate_pos_encoding": size != 32}
    model = dave.load(tmp_path)
    compare(model, ids, lambda pixels, ids: theirs(pixel_values=pixels, input_ids=ids, **options).logits_per_image)
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 256, (70, 101, 3), np.uint8))
    expected = images(photo, return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(model.preprocess(photo), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_transformers_siglip(side, tmp_path):
    theirs, tokenizer = tiny_siglip(), siglip_tokenizer(**({} if side == "left" else {"padding_side": side}))
    assert tokenizer.padding_side == side
    theirs.save_pretrained(tmp_path)
    images = transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    transformers.SiglipProcessor(images, tokenizer).save_pretrained(tmp_path)
    ids = tokenizer(SENTENCES, padding="max_length", truncation=True, max_length=16, return_tensors="pt").input_ids
    compare(dave.load(tmp_path), ids, lambda pixels, ids: theirs(pixel_values=pixels, input_ids=ids).logits_per_image)


def test_siglips_cleaning():
    """Its tokenizer is one of sentencepiece, which its cleaning does not use."""
    pytest.importorskip("sentencepiece")
    from transformers.models.siglip.tokenization_siglip import SiglipTokenizer

    class Cleaner:
        do_lower_case = True
        remove_punctuation = SiglipTokenizer.remove_punctuation

    for sentence in [*SENTENCES, " Snake_case\t(and)\u00a0more... ", "“quoted”, l’été"]:
        ours = sentence
        for name in ("lower", "punctuation", "whitespace"):
            ours = CLEANING[name](ours)
        assert ours == SiglipTokenizer.canonicalize_text(Cleaner(), sentence)


OPEN_CLIPS = {
    "as OpenAI's": {},
    "as CLIPA": {
        "vision_cfg": {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True, "ls_init_value": 0.1},
        "text_cfg": {"pool_type": "last", "no_causal_mask": True, "act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-6}},
        "quick_gelu": False,
    },
    "end by its id": {"text_cfg": {"pool_type": "eos", "eos_id": 49407, "proj_type": "none", "width": 16, "heads": 2}},
    "as SigLIP": {
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": {"pool_type": "last", "no_causal_mask": True, "proj_bias": True},
        **{"embed_dim": 96, "custom_text": True, "quick_gelu": False, "init_logit_bias": -10},
    },
    "timm's classifier as projection": {
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": None},
        "custom_text": True,
    },
    "a product behind timm's": {
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "linear"},
        "custom_text": True,
    },
}


@pytest.mark.parametrize("case", OPEN_CLIPS)
def test_open_clip(case, tmp_path):
    theirs, config = tiny_open_clip(**OPEN_CLIPS[case])
    save_open_clip(tmp_path, theirs, config, mean=[0.5] * 3, std=[0.25] * 3, resize_mode="squash")
    save_openai_tokenizer(tmp_path, together=True)
    ids = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(SENTENCES)
    model = dave.load(tmp_path)
    compare(model, ids, lambda pixels, ids: theirs.get_logits(pixels, ids)[0])
    theirs.visual.image_size = model.preprocessing.image_size
    transform = open_clip.image_transform(model.preprocessing.image_size, False, mean=(0.5,) * 3, std=(0.25,) * 3, resize_mode="squash")
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 256, (70, 101, 3), np.uint8))
    np.testing.assert_allclose(model.preprocess(photo)[0], transform(photo).numpy().transpose(1, 2, 0), rtol=0, atol=1e-5)


def test_open_clip_with_a_tokenizer_of_transformers(tmp_path):
    """SigLIP's cleaning, and the padding that the files name."""
    text = {"hf_tokenizer_name": "of the folder", "vocab_size": 300, "context_length": 12, "tokenizer_kwargs": {"clean": "canonicalize"}}
    theirs, config = tiny_open_clip(text_cfg=text | {"pool_type": "last", "no_causal_mask": True})
    save_open_clip(tmp_path, theirs, config)
    siglip_tokenizer(padding_side="right").save_pretrained(tmp_path)
    ids = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(SENTENCES)
    compare(dave.load(tmp_path), ids, lambda pixels, ids: theirs.get_logits(pixels, ids)[0])


def test_open_clip_at_another_size(tmp_path):
    theirs, config = tiny_open_clip()
    save_open_clip(tmp_path, theirs, config)
    save_openai_tokenizer(tmp_path, together=True)
    state = theirs.state_dict()
    larger, _ = tiny_open_clip(vision_cfg={"image_size": 48})
    open_clip.factory.resize_pos_embed(state, larger)
    larger.load_state_dict(state)
    images, tensors = draw_images(model := dave.load(tmp_path, image_size=48))
    close(model.embed_images(images), larger.encode_image(tensors, normalize=True).detach().numpy(), 1e-5)


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


def test_templates_as_in_zero_shot_classification(tmp_path):
    theirs, config = tiny_open_clip()
    save_open_clip(tmp_path, theirs, config)
    save_openai_tokenizer(tmp_path, together=True)
    templates, names = ["a photo of a {}.", "art of the {}"], ["cat", "golden retriever"]
    weights = open_clip.build_zero_shot_classifier(
        theirs, open_clip.tokenize, names, [lambda name, form=form: form.format(name) for form in templates], use_tqdm=False
    )
    kernel = dave.load(tmp_path).prompts(names, templates=templates).params["head"]["kernel"]
    close(kernel, (theirs.logit_scale.exp() * weights).detach().numpy(), 1e-5)


TOWERS = {
    "CLIPVisionModel": lambda result: result.pooler_output,
    "CLIPVisionModelWithProjection": lambda result: result.image_embeds,
    "CLIPForImageClassification": lambda result: result.logits,
    "SiglipVisionModel": lambda result: result.pooler_output,
    "SiglipForImageClassification": lambda result: result.logits,
}


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("prefixed", [False, True])
def test_image_towers_alone(name, prefixed, tmp_path):
    """As transformers writes them now, and with the prefix of older files."""
    kind = getattr(transformers, name)
    both = (tiny_clip if name.startswith("CLIP") else tiny_siglip)().config
    theirs = scatter(kind(both if "Classification" in name else both.vision_config))
    theirs.save_pretrained(tmp_path)
    if prefixed:
        state = {key: value.contiguous() for key, value in theirs.state_dict().items()}
        if not any(key.startswith("vision_model.") for key in state):
            state = {f"vision_model.{key}": value for key, value in state.items()}
        save_file(state | {"vision_model.embeddings.position_ids": torch.arange(17)[None]}, tmp_path / "model.safetensors")
    transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    model = dave.load(tmp_path)
    images, tensors = draw_images(model)
    expected = TOWERS[name](theirs(pixel_values=tensors))
    close(model.logits(images), expected.detach().numpy(), 1e-5)
    (slopes,) = torch.autograd.grad(expected[:, 0].sum(), tensors)
    cotangent = jnp.zeros(expected.shape[1]).at[0].set(1.0)
    ours = jax.vmap(lambda image: dave.effective_transformation(model, image, cotangent, decomposition="gradient"))(jnp.asarray(images))
    close(ours, slopes.numpy().transpose(0, 2, 3, 1), 1e-4)


def test_the_gradient_on_the_tokens(tmp_path):
    """The scores of `explain_text` without a decomposition are gradient times token embedding."""
    theirs, config = tiny_open_clip()
    save_open_clip(tmp_path, theirs, config)
    save_openai_tokenizer(tmp_path, together=True)
    model = dave.load(tmp_path)
    images, tensors = draw_images(model)
    kept = []
    theirs.token_embedding.register_forward_hook(lambda module, inputs, output: kept.append(output.retain_grad() or output))
    theirs.get_logits(tensors[:1], open_clip.tokenize(SENTENCES[:1]))[0].sum().backward()
    found = dave.explain_text(model, images[:1], SENTENCES[0], decomposition="gradient")
    expected = (kept[0].grad * kept[0]).sum(-1).detach().numpy()
    close(found.scores, expected[:, : len(found.tokens)], 1e-4)
    assert found.tokens == ("<|startoftext|>", "a", "photo", "of", "a", "cat", "<|endoftext|>")
    assert dataclasses.is_dataclass(found) and float(found.padding[0]) == 0.0
