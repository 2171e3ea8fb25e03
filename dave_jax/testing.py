"""For tests, yours and ours: a tiny model, and a count of compilations."""

import contextlib
import json
import logging
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dave_jax.config import DaveConfig
from dave_jax.models import image_text
from dave_jax.models.image_text import ImageText, ImageTextConfig, Towers
from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.text_config import TextConfig
from dave_jax.models.tokenizer import Tokenizer
from dave_jax.models.vit import ViT
from dave_jax.models.vit_config import ViTConfig, init_params


def tiny_model(seed: int = 0, **options) -> Model:
    """A random vision transformer of 16 x 16 pixels, two blocks and five classes; `options` go to `ViTConfig`.

    All parameters are random, norms and biases too, so that nothing cancels by chance.

    Example:
        >>> tiny_model(pooling="avg").forward.config.pooling
        'avg'
    """
    config = ViTConfig(
        **(
            {"image_size": (16, 16), "patch_size": (4, 4), "width": 16, "depth": 2, "num_heads": 2, "mlp_width": 32, "num_classes": 5}
            | options
        )
    )
    params = init_params(jax.random.key(seed), config)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    leaves = [leaf + 0.1 * jax.random.normal(key, leaf.shape, leaf.dtype) for leaf, key in zip(leaves, keys, strict=True)]
    return Model(
        params=jax.tree.unflatten(structure, leaves),
        forward=ViT(config),
        config=DaveConfig(num_samples=4, noise_alpha=0.5),
        preprocessing=Preprocessing(image_size=config.image_size),
        name="tiny",
    )


def tiny_image_text(seed: int = 0, *, siglip: bool = False, **options) -> ImageText:
    """A random model of images of 16 x 16 pixels and sentences of ten tokens, a CLIP or a SigLIP; `options` go to the image's `ViTConfig`.

    It knows a few words, letters, and nothing of the world.

    Example:
        >>> tiny_image_text().tokenizer.encode("a Cat!").tokens
        ('<start>', 'a', 'Cat', '!', '<end>')
    """
    words = ["<start>", "<unknown>", *"a photo of the cat dog".split(), *map(chr, range(97, 123)), "!", "<end>"]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    end = vocabulary["<end>"]
    image = {"image_size": (16, 16), "patch_size": (4, 4), "width": 16, "depth": 2, "num_heads": 2, "mlp_width": 32}
    text = {"vocab_size": end + 1, "context_length": 10, "width": 12, "depth": 2, "num_heads": 2, "mlp_width": 24, "end_id": end}
    if siglip:
        image |= {"class_token": False, "pooling": "map", "activation": "gelu_tanh"}
        text |= {"causal": False, "pooling": "last", "projection": 16, "projection_bias": True, "activation": "gelu_tanh", "eps": 1e-6}
    else:
        image |= {"patch_bias": False, "pre_norm": True, "projection": 8, "activation": "quick_gelu", "eps": 1e-5}
        text |= {"projection": 8, "activation": "quick_gelu"}
    image |= {"num_classes": 0, "unit_features": True} | options
    config = ImageTextConfig(ViTConfig(**image), TextConfig(**text), logit_bias=siglip)  # pyright: ignore[reportArgumentType] by name
    shapes = jax.eval_shape(lambda: image_text.init_params(jax.random.key(0), config))
    draw = np.random.default_rng(seed)  # of JAX's numbers each shape would be compiled

    def parameter(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        return jnp.asarray(known.get(path[-1].key, 0.0) + 0.1 * draw.standard_normal(leaf.shape, np.float32))

    known = {"scale": 1.0, "logit_scale": 2.66, "logit_bias": -10.0}
    return ImageText(
        params=jax.tree_util.tree_map_with_path(parameter, shapes),
        forward=Towers(config),
        config=DaveConfig(num_samples=4, noise_alpha=0.5),
        preprocessing=Preprocessing(image_size=config.image.image_size),
        name="tiny",
        tokenizer=Tokenizer(_words_json(vocabulary, start=not siglip), text["context_length"], pad_id=end),  # pyright: ignore[reportArgumentType]
    )


def _words_json(vocabulary: dict[str, int], *, start: bool) -> str:
    """A `tokenizer.json` whose tokens are words, between a start, if there is one, and an end."""
    special = {name: {"id": name, "ids": [vocabulary[name]], "tokens": [name]} for name in ("<start>", "<end>")}
    names = ["<start>"] if start else []
    pieces = [*names, None, "<end>"]

    def piece(name: str | None, sequence: str) -> dict[str, Any]:
        return {"Sequence": {"id": sequence, "type_id": 0}} if name is None else {"SpecialToken": {"id": name, "type_id": 0}}

    template = {
        "type": "TemplateProcessing",
        "single": [piece(name, "A") for name in pieces],
        "pair": [piece(name, "A") for name in pieces] + [piece(None, "B")],
        "special_tokens": special,
    }
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": vocabulary[name], "content": name, "special": True}
                | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
                for name in ("<start>", "<unknown>", "<end>")
            ],
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": template,
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unknown>"},
        }
    )


@contextlib.contextmanager
def count_compilations() -> Iterator[list[str]]:
    """Collect the names of the functions that JAX compiles in the block.

    Example:
        >>> with count_compilations() as compiled:
        ...     _ = jax.jit(lambda x: 3 * x + 41)(1.0)
        >>> len(compiled) >= 1
        True
    """
    compiled: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if message.startswith("Compiling "):
                compiled.append(message.split()[1])

    logger, handler = logging.getLogger("jax"), Collect()
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with jax.log_compiles():
            yield compiled
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
