"""Small random CLIPs of open_clip, loaded by their folder: token ids, logits, gradients, templates, tokens explained."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("open_clip")
pytest.importorskip("tokenizers")

import open_clip
from clip_compare import close, compare, draw_images
from clip_twins import SENTENCES, save_open_clip, save_openai_tokenizer, siglip_tokenizer, tiny_open_clip
from PIL import Image

import dave_jax as dave

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:A sentence has")]


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
    compare(model, ids, theirs, lambda pixels, ids: theirs.get_logits(pixels, ids)[0])
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
    compare(dave.load(tmp_path), ids, theirs, lambda pixels, ids: theirs.get_logits(pixels, ids)[0])


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
