"""Models of images and text: the classifier of prompts, tokenizers, what is saved and what is wrong."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from timm_checkpoints import assert_same

import dave_jax as dave
from dave_jax.attribution.methods import methods
from dave_jax.models import hub, store
from dave_jax.models.image_text import ImageText, ImageTextConfig
from dave_jax.models.resize import at_image_size
from dave_jax.models.tokenizer import Tokenizer, check_texts
from dave_jax.testing import tiny_image_text

SENTENCES = ["a photo of a cat", "the dog", "dog cat dog cat a"]


@pytest.fixture(params=["clip", "siglip"], scope="module")
def model(request):
    return tiny_image_text(siglip=request.param == "siglip")


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(5), (2, 16, 16, 3))


def test_logits_are_scaled_cosine_similarities(model, images):
    embedded, sentences = model.embed_images(images), model.embed_texts(SENTENCES)
    for rows in (embedded, sentences):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-6)
    expected = np.exp(model.params["logit_scale"]) * (embedded @ sentences.T) + model.params.get("logit_bias", 0.0)
    prompted = model.prompts(SENTENCES)
    np.testing.assert_allclose(prompted.logits(images), expected, rtol=1e-5)  # of float32 products
    assert type(prompted) is dave.Model and prompted.class_names == tuple(SENTENCES)
    assert prompted.class_index("The dog") == 1


def test_templates_are_averaged(model):
    templates = ["a photo of a {}", "the {}"]
    parts = [model.embed_texts([template.replace("{}", "cat") for template in templates])]
    mean = np.mean(parts[0], axis=0)
    kernel = model.prompts(["cat", "dog"], templates=templates).params["head"]["kernel"]
    np.testing.assert_allclose(kernel[:, 0], np.exp(model.params["logit_scale"]) * mean / np.linalg.norm(mean), rtol=1e-5)


def test_causal_text_does_not_see_what_follows_its_end():
    clip, siglip = tiny_image_text(), tiny_image_text(siglip=True)
    for model, same in ((clip, True), (siglip, False)):
        ids = jnp.asarray(model.token_ids(["a cat"])[0])
        end = int(model.towers.text.place(ids)) if same else 2
        assert ids[end] == model.towers.config.text.end_id and (end < len(ids) - 1)
        other = ids.at[-1].set(3)
        first, second = (model.towers.text(model.params["text"], one) for one in (ids, other))
        assert bool(jnp.array_equal(first, second)) == same


def test_the_end_by_its_id_and_by_its_size():
    model = tiny_image_text()
    ids = jnp.asarray(model.token_ids(["a cat"])[0])
    by_id = dataclasses.replace(model.towers.config.text, pooling="end")
    assert int(dataclasses.replace(model.towers.text, config=by_id).place(ids)) == int(model.towers.text.place(ids)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("decomposition", ["effective", "libragrad"])
def test_completeness(model, images, decomposition, x64):
    model = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), model)
    prompted = model.prompts(SENTENCES)
    prompted = dataclasses.replace(prompted, params=jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), prompted.params))
    contrast = jnp.array([1.0, -1.0, 0.0])
    assert float(dave.completeness(prompted, images[0].astype(jnp.float64), contrast, decomposition)) < 1e-12
    assert float(dave.conservation(prompted, images[0].astype(jnp.float64), contrast, decomposition).relative) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", ["attn_lrp", "transformer_attribution", "gae", "rollout", "legrad", "grad_cam"])
def test_methods_take_prompts(name, images):
    assert methods[name](tiny_image_text().prompts(SENTENCES), images, [0, 1]).shape == (2, 16, 16)


def test_prompts_are_saved(model, images, tmp_path):
    prompted = model.prompts(SENTENCES)
    dave.save(prompted, tmp_path)
    read = dave.load(tmp_path)
    np.testing.assert_array_equal(read.logits(images), prompted.logits(images))
    assert read.class_names == prompted.class_names and read.forward == prompted.forward


def test_both_towers_are_saved(model, images, tmp_path):
    dave.save(model, tmp_path)
    read = dave.load(tmp_path)
    assert_same(read.params, model.params)
    assert isinstance(read, ImageText) and (read.tokenizer, read.forward) == (model.tokenizer, model.forward)
    larger = hub.load(tmp_path, image_size=32)
    assert larger.preprocessing.image_size == (32, 32) and larger.embed_images(jnp.ones((1, 32, 32, 3))).shape == (
        1,
        model.embed_images(images).shape[1],
    )
    (tmp_path / store.TOKENIZER).unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json.*beside its weights"):
        dave.load(tmp_path)


def test_without_prompts_there_are_no_logits(model, images):
    for call in (
        lambda: model.logits(images),
        lambda: dave.explain(model, images, [0, 1], key=jax.random.key(0)),
        lambda: dave.bias_contributions(model, images[0], 0),
    ):
        with pytest.raises(ValueError, match=r"logits only for sentences.*model\.prompts"):
            call()


def test_what_prompts_must_be():
    model = tiny_image_text()
    for wrong in (None, [1]):
        with pytest.raises(TypeError, match="must be a list of sentences"):
            inspect.unwrap(check_texts)(wrong)  # without the tests' own check of types
    for wrong, error, message in (
        ("a cat", TypeError, "must be a list of sentences"),
        ([], ValueError, "one sentence at least"),
        (["a cat", " "], ValueError, "none may be empty"),
    ):
        with pytest.raises(error, match=message):
            model.prompts(wrong)
    with pytest.raises(ValueError, match=r"must hold \{\} once"):
        model.prompts(["cat"], templates=["a photo"])
    with pytest.raises(TypeError, match="classes of its own"):
        model.prompts(["cat"]).prompts(["dog"])


def test_a_long_sentence_is_cut_with_a_warning():
    model = tiny_image_text(siglip=True)
    with pytest.warns(UserWarning, match=r"10 tokens at most.*the last \d+ of"):
        (ids,) = model.token_ids(["cat " * 12])
    end = model.towers.config.text.end_id
    assert ids[-1] == end and (ids[:-1] != end).all() and len(ids) == 10


def test_padding_on_either_side():
    tokenizer = tiny_image_text(siglip=True).tokenizer
    left = dataclasses.replace(tokenizer, padding_side="left")
    np.testing.assert_array_equal(left.encode("a cat").ids, np.roll(tokenizer.encode("a cat").ids, 7))
    assert (left.encode("a cat").start, left.encode("a cat").tokens) == (7, ("a", "cat", "<end>"))


def test_cleaning_in_its_order():
    tokenizer = tiny_image_text().tokenizer
    cleaned = dataclasses.replace(tokenizer, cleaning=("unescape", "underscores", "punctuation", "lower", "whitespace"))
    assert cleaned.clean("  A_Photo &amp;amp; a   CAT. ") == "a photo a cat"


def test_what_a_tokenizer_must_be():
    tokenizer = tiny_image_text().tokenizer
    for change, message in (
        ({"cleaning": ("shout",)}, "cleaning must be names of"),
        ({"pad_id": -1}, "must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(tokenizer, **change)
    with pytest.raises(ValueError, match=r"tokenizer\.json must be one that the library tokenizers wrote"):
        Tokenizer("{}", 10, 0).encode("a cat")
    model = tiny_image_text()
    small = dataclasses.replace(model.towers.config.text, vocab_size=20, end_id=19)
    forward = dataclasses.replace(model.forward, config=dataclasses.replace(model.towers.config, text=small))
    with pytest.raises(ValueError, match="must be the text tower's, which has 20 tokens"):
        dataclasses.replace(model, forward=forward).prompts(["a cat"])


def test_what_the_configurations_must_be():
    config = tiny_image_text().towers.config
    for change, message in (
        ({"width": 13}, "num_heads must divide width"),
        ({"vocab_size": 10**9}, "vocab_size must be at most"),
        ({"context_length": 10**6, "depth": 10**4}, "depth must be at most.*context_length must be at most"),
        ({"pooling": "first"}, "pooling is one of"),
        ({"pooling": "end", "end_id": 99}, "end_id must be a token"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(config.text, **change)
    with pytest.raises(ValueError, match="must have one width"):
        ImageTextConfig(config.image, dataclasses.replace(config.text, projection=5))
    with pytest.raises(ValueError, match="num_classes=0"):
        ImageTextConfig(dataclasses.replace(config.image, num_classes=3), config.text)
    with pytest.raises(ValueError, match="distillation_token needs projection=0"):
        dave.ViTConfig(distillation_token=True, projection=4)


def test_a_save_that_fails_leaves_both_files_alone(tmp_path, monkeypatch):
    first, second = tiny_image_text(), tiny_image_text(seed=1)
    second = dataclasses.replace(second, tokenizer=dataclasses.replace(second.tokenizer, source=second.tokenizer.source + " "))
    dave.save(first, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*arguments, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr("dave_jax.models.store.save_file", full)
    with pytest.raises(OSError, match="No space"):
        dave.save(second, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_another_image_size_is_for_classifiers():
    model = tiny_image_text()
    with pytest.raises(TypeError, match=r"model\.prompts"):
        at_image_size(model, (32, 32))
    assert at_image_size(model.prompts(["a cat"]), (32, 32)).logits(jnp.zeros((1, 32, 32, 3))).shape == (1, 1)
