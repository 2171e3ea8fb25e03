"""Keras on its JAX backend: `keras.applications`, their constructors given small blocks."""

import os

import pytest
from zoo_checks import MARKS, SINGLE, Cases, check, library
from zoo_keras import model

os.environ["KERAS_BACKEND"] = "jax"  # before the import
keras = library("keras")
applications = library("keras.src.applications")
pytestmark = MARKS

OPTIONS = dict(weights=None, input_shape=(32, 32, 3), classes=5, classifier_activation=None)
FILTERS = [dict(filters_in=32, filters_out=16, repeats=1, expand_ratio=1), dict(filters_in=16, filters_out=24, repeats=2, expand_ratio=4)]
BLOCKS = [dict(kernel_size=3, id_skip=True, strides=1, se_ratio=0.25, **filters) for filters in FILTERS]


def efficientnet():
    return applications.efficientnet.EfficientNet(0.5, 1.0, 32, blocks_args=BLOCKS, name="efficientnet", weights_name="", **OPTIONS)


CASES: Cases = {
    "ConvNeXt": lambda: model(
        lambda: applications.convnext.ConvNeXt([1, 1, 1, 1], [8, 8, 16, 16], include_preprocessing=False, name="convnext", **OPTIONS), 32
    ),
    "EfficientNet": lambda: model(efficientnet, 32, lambda images: 255 * images),  # it divides by that itself
    "DenseNet": lambda: model(lambda: applications.densenet.DenseNet([1, 1, 1, 1], name="densenet", **OPTIONS), 32),
}


@pytest.mark.parametrize("name", CASES)
def test_keras(name):
    check("keras", name, CASES[name](), SINGLE)
