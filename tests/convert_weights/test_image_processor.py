"""transformers' `preprocessor_config.json`: how photographs become images, and what is wrong with it."""

import pytest

from convert_weights.image_processor import read_preprocessing


@pytest.mark.parametrize(
    ("document", "processor", "fields"),
    [
        (
            {},
            "ViT",
            {"image_size": (224, 224), "crop_fraction": 1.0, "crop_mode": "squash", "interpolation": "bilinear", "std": (0.5,) * 3},
        ),
        ({}, "DeiT", {"image_size": (224, 224), "crop_fraction": 0.875, "crop_mode": "squash", "interpolation": "bicubic"}),
        ({}, "Beit", {"image_size": (224, 224), "crop_mode": "squash", "interpolation": "bicubic", "std": (0.5,) * 3}),
        ({"do_center_crop": True, "size": 256}, "Beit", {"image_size": (224, 224), "crop_fraction": 0.875, "crop_mode": "squash"}),
        (
            {"image_processor_type": "DINOv3ViTImageProcessorFast"},
            "ViT",
            {"image_size": (224, 224), "interpolation": "bilinear", "mean": (0.485, 0.456, 0.406)},
        ),
        ({"size": 224}, "ConvNext", {"image_size": (224, 224), "crop_fraction": 0.875, "crop_mode": "center", "interpolation": "bicubic"}),
        ({}, "ConvNext", {"image_size": (384, 384), "crop_fraction": 1.0, "crop_mode": "squash"}),
        ({"size": 256}, "Bit", {"image_size": (224, 224), "crop_fraction": 0.875, "crop_mode": "center", "crop_start": "down"}),
        ({"size": 384, "feature_extractor_type": "ViTFeatureExtractor"}, "Bit", {"image_size": (384, 384), "crop_mode": "squash"}),
        ({"image_processor_type": "CLIPImageProcessorFast", "crop_size": 160}, "ViT", {"image_size": (160, 160), "crop_mode": "center"}),
        (
            {"size": {"height": 32, "width": 48}, "do_normalize": False},
            "ViT",
            {"image_size": (32, 48), "mean": (0.0,) * 3, "std": (1.0,) * 3},
        ),
        ({"size": {"shortest_edge": 256, "longest_edge": None}, "rescale_factor": 0.00392156862745098}, "CLIP", {"crop_fraction": 0.875}),
    ],
    ids=str,
)
def test_the_preprocessing(document, processor, fields):
    read = read_preprocessing(document, processor=processor)
    assert {name: getattr(read, name) for name in fields} == fields


def test_every_crop_comes_back():
    """The fraction between two whole numbers is rounded; the resized edge must not be."""
    for crop in (1, 3, 24, 96, 113, 160, 224, 378, 384, 518):
        for edge in range(crop, 600):
            document = {"size": {"shortest_edge": edge}, "crop_size": crop}
            assert read_preprocessing(document, processor="Bit").resized(edge, edge) == (edge, edge)


def test_another_image_size_keeps_the_share():
    read = read_preprocessing({"size": {"shortest_edge": 256}}, processor="Bit", image_size=(448, 448))
    assert (read.image_size, read.resized(512, 512)) == ((448, 448), (512, 512))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"image_processor_type": "SamImageProcessor"},
            r"processor 'Sam' is none of \['ViT', 'DeiT', 'Bit', .*, 'DINOv3ViT'\]",
        ),
        ({"do_resize": False}, "do_resize=false is not supported"),
        ({"do_rescale": False, "do_pad": True}, "do_pad=True is not supported; do_rescale=false"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor must be 1/255; got 0.00784"),
        ({"size": {"longest_edge": 224}}, "height and width, or shortest_edge"),
        ({"size": {"shortest_edge": 224}}, "images of different shapes"),
        ({"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": [224, 160]}, "needs a square crop"),
        ({"size": 224, "do_center_crop": True, "crop_size": 256}, "no larger than the resized image"),
        ({"size": [256, 256], "do_center_crop": True, "crop_size": [224, 160]}, "aspect of the resized image"),
        ({"resample": 9}, "9 is not a valid Resampling"),
        ({"image_mean": [0.5]}, "not enough values"),
        ({"image_std": [0, 0, 0]}, "std must be a tuple of three positive numbers"),
        ({"size": {"height": "tall", "width": 3}}, "tall"),
        ({"rescale_factor": "small"}, "not laid out so"),
    ],
    ids=str,
)
def test_what_preprocessor_config_json_may_not_say(document, message):
    with pytest.raises(ValueError, match=message) as error:
        read_preprocessing(document, processor="ViT")
    assert "preprocessor_config.json must say how photographs become images" in str(error.value)
