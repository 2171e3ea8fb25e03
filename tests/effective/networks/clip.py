"""An image-text pair as in CLIP (Radford et al. 2021, arXiv 2103.00020): `exp(t) cos(image, text)` for each prompt.

The image tower is a transformer with a class token; the text tower a causal one that reads out its last token.
"""

import jax.numpy as jnp
import numpy as np
from networks.parts import Draws, block, dense, layer_norm, patches

WIDTH, EMBEDDING = 8, 6
PROMPTS = np.array([[1, 4, 2, 5], [3, 0, 2, 5], [1, 1, 4, 5]], np.int32)


def draw_params():
    draw = Draws(3)
    image = {
        "patch": draw(48, WIDTH),
        "class": draw(1, WIDTH),
        "position": 0.3 * draw(17, WIDTH),
        "norm_pre": draw.norm(WIDTH),
        "blocks": [draw.block(WIDTH, 16) for _ in range(2)],
        "norm": draw.norm(WIDTH),
        "projection": draw(WIDTH, EMBEDDING),
    }
    text = {
        "vocabulary": draw(6, WIDTH),
        "position": 0.3 * draw(4, WIDTH),
        "block": draw.block(WIDTH, 16),
        "norm": draw.norm(WIDTH),
        "projection": draw.dense(WIDTH, EMBEDDING),
    }
    return {"image": image, "text": text, "log_scale": draw.positive()}


def image_tower(params, image):
    x = jnp.concatenate([params["class"], patches(image, 4) @ params["patch"]]) + params["position"]
    x = layer_norm(params["norm_pre"], x)
    for one in params["blocks"]:
        x = block(one, x)
    return layer_norm(params["norm"], x[:1])[0] @ params["projection"]


def text_tower(params, embedded):
    """From the prompt's embedded words."""
    x = block(params["block"], embedded + params["position"], mask=jnp.tril(jnp.ones((4, 4), bool))[None])
    return dense(params["projection"], layer_norm(params["norm"], x)[-1])


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def embed_prompts(params):
    """One row for each prompt; nothing of the image in it."""
    return jnp.stack([text_tower(params["text"], params["text"]["vocabulary"][prompt]) for prompt in PROMPTS])


def forward(params, image):
    """Both towers in the function."""
    return jnp.exp(params["log_scale"]) * unit(embed_prompts(params)) @ unit(image_tower(params["image"], image))


def forward_fixed(params, image):
    """The prompts embedded beforehand."""
    return jnp.exp(params["log_scale"]) * unit(image_tower(params["image"], image)) @ params["classifier"]


def draw_fixed_params():
    params = draw_params()
    return {"image": params["image"], "log_scale": params["log_scale"], "classifier": unit(embed_prompts(params)).T}


def pair(params, inputs):
    """The similarity of an image and the embedded words of a prompt, both live."""
    image = unit(image_tower(params["image"], inputs["image"]))
    return jnp.exp(params["log_scale"]) * jnp.sum(image * unit(text_tower(params["text"], inputs["words"])))
