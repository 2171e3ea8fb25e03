"""Models of images and text on the command line."""

import json

import jax
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.cli import main


@pytest.fixture(scope="module")
def model():
    return dave.testing.tiny_image_text()


def test_every_prompt_is_explained(tiny, folder, capsys):
    assert (
        main(["explain", "cat.png", "--method", "random", "--prompt", "dog", "--prompt", "cat", "--template", "a photo of a {}", "--json"])
        == 0
    )
    (result,) = json.loads(capsys.readouterr().out)["photos"]
    assert [target["name"] for target in result["targets"]] == ["dog", "cat"]
    prompted = tiny.prompts(["dog", "cat"], templates=["a photo of a {}"])
    probabilities = jax.nn.softmax(prompted.logits(prompted.preprocess("cat.png")))[0]
    np.testing.assert_allclose(np.load("cat.npz")["probability"], probabilities, rtol=1e-5)
    assert np.load("cat.npz")["target_name"].tolist() == ["dog", "cat"]


@pytest.mark.parametrize("command", [["explain", "cat.png"], ["calibrate", "cat.png"], ["evaluate", "other", "-o", "scores"]])
def test_without_prompts(command, tiny, folder, capsys):
    assert main(command) == 2
    assert "'tiny' is a model of images and text, which needs sentences. Add some: --prompt" in capsys.readouterr().err


def test_prompts_for_a_model_of_classes(folder, capsys):
    assert main(["explain", "cat.png", "--prompt", "a cat"]) == 2
    assert "--prompt and --template are for models of images and text" in capsys.readouterr().err
    assert main(["explain", "cat.png", "--template", "a {}"]) == 2
