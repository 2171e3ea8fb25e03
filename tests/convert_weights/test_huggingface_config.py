"""transformers' `config.json`: what network it means, and what is wrong with it."""

import pytest
from huggingface_files import SIXTEEN, TINY

from convert_weights.huggingface import describe
from dave_jax.models.rotary import Rotary

BEIT = {"model_type": "beit", "architectures": ["BeitModel"]}
DINOV3 = {"model_type": "dinov3_vit", "architectures": ["DINOv3ViTModel"], "num_attention_heads": 3}


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ({}, {"activation": "gelu", "pooling": "token", "qkv_bias": True, "position_resampling": "bicubic", "num_registers": 0}),
        ({"hidden_act": "gelu_pytorch_tanh", "qkv_bias": False}, {"activation": "gelu_tanh", "qkv_bias": False}),
        ({"model_type": "deit", "architectures": ["DeiTForImageClassification"]}, {"num_registers": 1, "distillation_token": False}),
        (
            {"model_type": "deit", "architectures": ["DeiTForImageClassificationWithTeacher"]},
            {"num_registers": 0, "distillation_token": True, "num_classes": 3},
        ),
        (
            {"model_type": "dinov2", "architectures": ["Dinov2ForImageClassification"], "mlp_ratio": 4, "use_swiglu_ffn": True},
            {"pooling": "token_and_mean", "eps": 1e-6, "layer_scale": True, "gated_mlp": True, "activation": "silu", "mlp_width": 32},
        ),
        ({"model_type": "dinov2", "architectures": ["Dinov2Model"]}, {"pooling": "token", "num_classes": 0, "mlp_width": 48}),
        (
            {"model_type": "dinov2_with_registers", "architectures": ["Dinov2WithRegistersModel"]},
            {"num_registers": 4, "position_resampling": "antialiased"},
        ),
        ({"model_type": "ijepa", "architectures": ["IJepaModel"]}, {"pooling": "avg", "class_token": False, "num_classes": 0}),
        (
            {"model_type": "beit", "architectures": ["BeitForImageClassification"], "use_relative_position_bias": True},
            {"pooling": "avg", "final_norm": "pooled", "relative_position": True, "position_embedding": False, "key_bias": False},
        ),
        (
            {"model_type": "beit", "architectures": ["BeitModel"], "use_mean_pooling": False, "layer_scale_init_value": 0},
            {"pooling": "token", "final_norm": "tokens", "relative_position": False, "layer_scale": False, "eps": 1e-12},
        ),
        (
            {"model_type": "dinov3_vit", "architectures": ["DINOv3ViTModel"], "num_attention_heads": 3, "num_register_tokens": 4}
            | {"use_gated_mlp": True, "hidden_act": "silu"},
            {"rotary": Rotary(temperature=100.0, coordinates="centred", pairs="halves"), "num_registers": 4, "gated_mlp": True}
            | {"qkv_bias": True, "key_bias": False, "layer_scale": True, "eps": 1e-5, "position_embedding": False},
        ),
        ({"id2label": None}, {"num_classes": 2}),
        ({"id2label": None, "num_labels": 7}, {"num_classes": 7}),
        ({"id2label": {}}, {"num_classes": 0}),
    ],
    ids=str,
)
def test_the_network(document, fields):
    config = describe(TINY | document, SIXTEEN).config
    assert {name: getattr(config, name) for name in fields} == fields
    assert (config.width, config.depth, config.image_size) == (12, 2, (16, 16))
    assert config.num_heads == document.get("num_attention_heads", 2)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"id2label": {"10": "k", **{str(i): chr(97 + i) for i in range(10)}}}, tuple("abcdefghijk")),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, None),
        ({"id2label": None}, None),
        ({"architectures": ["ViTModel"]}, None),
    ],
    ids=str,
)
def test_class_names(labels, names):
    assert describe(TINY | labels, SIXTEEN).class_names == names


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"model_type": "levit"}, r"\['vit', 'deit', .*'dinov2_with_registers', 'dinov3_vit', .*'clip', 'siglip'\].*'levit'"),
        ({"architectures": ["ViTForMaskedImageModeling"]}, r"\['ViTModel', 'ViTForImageClassification'\].*'ViTForMaskedImageModeling'"),
        ({"architectures": None}, "must name the class that wrote the checkpoint"),
        ({"architectures": ["DeiTModel"]}, "must name the class that wrote the checkpoint"),
        ({"model_type": "dinov3_vit", "architectures": ["DINOv3ViTForImageClassification"]}, r"one of \['DINOv3ViTModel'\]"),
        (DINOV3 | {"value_bias": False, "key_bias": True}, "query_bias and value_bias must be equal; got True and False"),
        (DINOV3 | {"mlp_bias": False}, "proj_bias and mlp_bias must be equal"),
        (DINOV3 | {"query_bias": False, "value_bias": False, "key_bias": True}, "key_bias needs query_bias"),
        (BEIT | dict.fromkeys(("use_relative_position_bias", "use_shared_relative_position_bias"), True), "together are not supported"),
        (BEIT | {"image_size": [16, 32]}, "image_size must be that of a square"),
        ({"hidden_act": "gelu_10"}, "hidden_act 'gelu_10' is none of"),
        ({"num_channels": 1, "head_dim": 8}, r"num_channels must be 3; got 1; head_dim \* num_attention_heads must be hidden_size"),
        ({"id2label": {"0": "cat", "2": "dog"}}, "numbers 0 to 1"),
        ({"hidden_size": "many"}, "hidden_size must be a whole number; got 'many'"),
        ({"id2label": {"cat": 0}}, "numbers 0 to 0"),
        ({"hidden_size": [12]}, "laid out as transformers writes it"),
        ({"num_attention_heads": 5}, "num_heads must divide width"),
        ({"patch_size": 0}, "laid out as transformers writes it"),
        ({"image_size": float("inf")}, "laid out as transformers writes it"),
        ({"image_size": float("nan")}, "laid out as transformers writes it"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be a whole number; got True"),
        ({"num_hidden_layers": 10**9}, "depth must be at most 1000; got 1000000000"),
        ({"id2label": None, "num_labels": 10**9}, "num_classes must be at most 1000000"),
        ({"layer_norm_eps": float("nan")}, "eps must be positive; got nan"),
        ({"layer_norm_eps": -1}, "eps must be positive; got -1"),
        ({"patch_size": 5}, r"multiple of the patch size \(5, 5\); got \(16, 16\)"),
    ],
    ids=str,
)
def test_what_config_json_may_not_say(document, message):
    with pytest.raises(ValueError, match=message):
        describe(TINY | document, SIXTEEN)
