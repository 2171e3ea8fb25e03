"""Small random CLIPs and SigLIPs of transformers, loaded by their folder: token ids, logits, gradients; image towers alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("open_clip")
pytest.importorskip("tokenizers")

import torch
import transformers
from clip_compare import close, compare, draw_images
from clip_twins import SENTENCES, save_openai_tokenizer, scatter, siglip_tokenizer, tiny_clip, tiny_siglip
from PIL import Image
from safetensors.torch import save_file

import dave_jax as dave
from dave_jax.models.tokenizer import CLEANING

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:A sentence has")]


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
    compare(model, ids, theirs, lambda pixels, ids: theirs(pixel_values=pixels, input_ids=ids, **options).logits_per_image)
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
    compare(dave.load(tmp_path), ids, theirs, lambda pixels, ids: theirs(pixel_values=pixels, input_ids=ids).logits_per_image)


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
