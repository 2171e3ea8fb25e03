"""Linear probes on frozen features."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import dave_jax as dave
from dave_jax.testing import tiny_model
from dave_jax.training import linear_probe as module
from dave_jax.training.linear_probe import features, linear_probe

NAMES = ["red", "green", "blue"]


def photographs(count=60):
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 3
    pixels = generator.integers(0, 100, (count, 16, 16, 3), np.uint8)
    for i, label in enumerate(labels):
        pixels[i, ..., label] += 100
    return list(pixels), labels


def test_tells_colours_apart_with_the_network_as_it_was(key):
    photos, labels = photographs()
    model = tiny_model()
    found = linear_probe(model, photos, labels, NAMES, key=key, epochs=30, learning_rates=[1e-2], weight_decays=[0.0, 0.1])
    assert found.accuracy == 1.0
    assert found.accuracies.shape == (1, 2)
    assert found.held_out == 6
    assert found.model.class_names == tuple(NAMES)
    logits = found.model.logits(found.model.preprocess(photos))
    assert np.mean(np.argmax(logits, axis=1) == labels) > 0.95
    for name in model.params.keys() - {"head"}:
        jax.tree.map(np.testing.assert_array_equal, found.model.params[name], model.params[name])


def test_reaches_the_minimum_that_a_second_order_method_finds(x64, monkeypatch, key):
    """No weight decay and overlapping classes: the loss has one minimum."""
    generator = np.random.default_rng(1)
    values = generator.normal(size=(200, 16))  # as many as the model has features
    labels = (values[:, 0] + generator.normal(size=200) > 0).astype(int)
    monkeypatch.setattr(module, "features", lambda *arguments, **options: values)
    options = {"learning_rates": [0.1], "weight_decays": [0.0], "epochs": 400}
    found = linear_probe(tiny_model(), [], labels, ["a", "b"], key=key, held_out=0.02, **options)
    used = ~module._held_out(labels, 0.02, np.random.default_rng(np.asarray(jax.random.key_data(jax.random.split(key)[0]))))

    def loss(parameters):
        margin = values[used] @ parameters[:-1] + parameters[-1]
        return np.mean(np.logaddexp(0, margin) - labels[used] * margin)

    best = minimize(loss, np.zeros(17), tol=1e-12).x
    head = found.model.params["head"]
    ours = np.append(head["kernel"][:, 1] - head["kernel"][:, 0], head["bias"][1] - head["bias"][0])
    np.testing.assert_allclose(ours, best, atol=1e-3)  # the schedule ends, the optimiser does not stop at the minimum


def test_every_head_of_the_sweep_is_the_one_trained_alone(key):
    photos, labels = photographs()
    model = tiny_model()
    options = {"key": key, "epochs": 5}
    together = linear_probe(model, photos, labels, NAMES, learning_rates=[1e-4, 1e-2], weight_decays=[0.0, 0.5], **options)
    for row, rate in enumerate(together.learning_rates):
        for column, decay in enumerate(together.weight_decays):
            alone = linear_probe(model, photos, labels, NAMES, learning_rates=[rate], weight_decays=[decay], **options)
            assert alone.accuracy == together.accuracies[row, column]


def test_features_do_not_depend_on_the_batch():
    photos, _ = photographs(7)
    np.testing.assert_allclose(features(tiny_model(), photos, batch_size=3), features(tiny_model(), photos, batch_size=7), atol=1e-6)
    assert features(tiny_model(), iter(photos), batch_size=7).shape == (7, 5)


def test_a_probe_is_saved_and_loaded(tmp_path, key):
    photos, labels = photographs(12)
    found = linear_probe(tiny_model(), photos, labels, NAMES, key=key, pooling="token_and_mean", pooled_blocks=2, epochs=2)
    assert found.model.params["head"]["kernel"].shape == (3 * 16, 3)
    dave.save(found.model, tmp_path)
    images = found.model.preprocess(photos[:2])
    np.testing.assert_array_equal(dave.load(tmp_path).logits(images), found.model.logits(images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 1, 2] * 3 + [3]}, "0 to 2"),
        ({"labels": [0, 1, -1] * 4}, "0 to 2"),
        ({"labels": [0, 1] * 6}, "too few for \\['blue'\\]"),
        ({"labels": np.arange(12.0)}, "class ids"),
        ({"labels": [0, 1, 2] * 3}, "9 labels for 12 photographs"),
        ({"class_names": ["red"]}, "at least two classes"),
        ({"held_out": 1.0}, "between 0 and 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rates": []}, "one of each"),
    ],
)
def test_bad_input_is_an_error(change, message, key):
    photos, labels = photographs(12)
    arguments = {"labels": labels, "class_names": NAMES} | change
    with pytest.raises(ValueError, match=message):
        linear_probe(tiny_model(), photos, key=key, **arguments)


def test_no_photograph_is_an_error():
    with pytest.raises(ValueError, match="no photograph"):
        features(tiny_model(), [])


def test_a_constant_feature_has_no_weight_that_is_not_finite(key):
    photos, labels = photographs(12)
    model = tiny_model()
    params = model.params | {"final_norm": jax.tree.map(jnp.zeros_like, model.params["final_norm"])}
    found = linear_probe(dataclasses.replace(model, params=params), photos, labels, NAMES, key=key, epochs=2)
    assert np.isfinite(found.model.params["head"]["kernel"]).all()
