"""keras-hub on its JAX backend: backbones, whose averaged features stand for logits, and CLIP."""

import os

import numpy as np
import pytest
from zoo_checks import MARKS, SINGLE, Cases, check, library
from zoo_keras import model

os.environ["KERAS_BACKEND"] = "jax"  # before the import
models = library("keras_hub.models")
clip = library("keras_hub.src.models.clip.clip_vision_encoder"), library("keras_hub.src.models.clip.clip_text_encoder")
pytestmark = MARKS

IMAGE, SMALL = (32, 32, 3), (16, 16, 3)
TEXTS = np.arange(14).reshape(2, 7) % 11
BLOCKS = dict(num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=32)


def averaged(features):
    return features[0].reshape(-1, features.shape[-1]).mean(0)


def swin():
    return models.SwinTransformerBackbone(image_shape=IMAGE, embed_dim=8, depths=[2, 1], num_heads=[1, 2], window_size=4)


def segformer():
    stages = dict(hidden_dims=[8, 16], layerwise_depths=[1, 1], layerwise_num_heads=[1, 2], layerwise_sr_ratios=[2, 1])
    patches = dict(layerwise_patch_sizes=[7, 3], layerwise_strides=[4, 2])
    return models.MiTBackbone(image_shape=IMAGE, num_layers=2, max_drop_path_rate=0.0, **stages, **patches)


def image_text_pair():
    vision, text = clip
    image = vision.CLIPVisionEncoder(4, **BLOCKS, image_shape=SMALL)
    return models.CLIPBackbone(image, text.CLIPTextEncoder(11, 16, **BLOCKS, max_sequence_length=7), 8)


def dino():
    return models.DINOV2Backbone(patch_size=4, **BLOCKS, image_shape=SMALL, use_swiglu_ffn=True, num_register_tokens=2)


CASES: Cases = {
    "Swin": lambda: model(swin, 32, logits=averaged),
    "MiT (SegFormer)": lambda: model(segformer, 32, logits=averaged),
    "DINOv2 (SwiGLU, registers)": lambda: model(dino, 16, logits=averaged),
    "CLIP, similarity to texts": lambda: model(
        image_text_pair, 16, lambda images: {"images": images, "token_ids": TEXTS}, lambda y: y["vision_logits"][0]
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_keras_hub(name):
    check("keras-hub", name, CASES[name](), SINGLE)
