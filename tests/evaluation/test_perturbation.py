import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.evaluation.imputation import linear_imputation
from dave_jax.evaluation.perturbation import (
    PerturbationCurves,
    PerturbationProtocol,
    area_under_curve,
    dave_paper,
    perturbation_curves,
    symmetric_relevance_gain,
    unit_counts,
)
from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing
from dave_jax.sampling.blur import gaussian_blur
from dave_jax.testing import count_compilations


def corner(params, image, decomposition):
    """The first logit is the brightness of the upper left quarter; two more look at the whole image."""
    return jnp.stack([10.0 * jnp.mean(image[:8, :8]), jnp.mean(image), jnp.mean(image[3] ** 2)])


@pytest.fixture(scope="module")
def model():
    return Model(params=(), forward=corner, preprocessing=Preprocessing(image_size=(16, 16)))


@pytest.fixture
def images(key):
    return jax.random.normal(key, (3, 16, 16, 3)) + 0.5


@pytest.fixture
def maps(key):
    return jax.random.normal(jax.random.fold_in(key, 1), (3, 16, 16))


TARGETS = jnp.array([0, 2, 1])


def in_a_loop(model, images, targets, maps, protocol, filled):
    """The protocol image by image and point by point; `filled(i, gone)` is what stands in for removed pixels."""
    size, result = protocol.patch_size, {"probabilities": [], "logits": []}
    for i, image in enumerate(np.asarray(images)):
        units = np.asarray(maps[i]).reshape(16 // size, size, 16 // size, size).sum((1, 3))
        order = np.argsort(units.ravel() if protocol.first == "least" else -units.ravel(), kind="stable")
        for count in unit_counts(units.size, protocol):
            moved = np.zeros(units.size, bool)
            moved[order[:count]] = True
            gone = np.kron(moved.reshape(units.shape), np.ones((size, size), bool)) != protocol.insert
            logits = np.asarray(corner((), jnp.where(gone[..., None], filled(i, gone), image), ""), np.float64)
            result["logits"].append(logits[targets[i]])
            result["probabilities"].append((np.exp(logits) / np.exp(logits).sum())[targets[i]])
    return {name: np.array(values).reshape(len(images), -1) for name, values in result.items()}


@pytest.mark.parametrize(
    "protocol",
    [
        PerturbationProtocol(points=5),
        PerturbationProtocol(points=4, first="most", insert=True, fraction=1.0, patch_size=4, fill="mean"),
        PerturbationProtocol(points=3, first="most", patch_size=2, fraction=0.6, fill="noisy_linear", noise=0.0),
    ],
)
def test_equals_a_loop(model, images, maps, protocol):
    fills = {
        "blur": lambda i, gone: gaussian_blur(images[i], size=31, sigma=7.0),
        "mean": lambda i, gone: jnp.zeros((16, 16, 3)),
        "noisy_linear": lambda i, gone: linear_imputation(images[i], jnp.asarray(gone)),
    }
    found = perturbation_curves(model, images, TARGETS, maps, protocol=protocol)
    expected = in_a_loop(model, images, TARGETS, maps, protocol, fills[protocol.fill])
    np.testing.assert_allclose(found.probabilities, expected["probabilities"], atol=2e-6)
    np.testing.assert_allclose(found.logits, expected["logits"], atol=1e-5)


def test_ends_of_the_curves(model, images, maps):
    """Deletion goes from the image to its fill, insertion the other way."""
    chance = lambda images: np.asarray(jax.nn.softmax(model.logits(images)))[np.arange(3), TARGETS]
    blurred = jax.vmap(lambda image: gaussian_blur(image, size=31, sigma=7.0))(images)
    whole = PerturbationProtocol(points=2, fraction=1.0)
    deleted = perturbation_curves(model, images, TARGETS, maps, protocol=whole).probabilities
    inserted = perturbation_curves(model, images, TARGETS, maps, protocol=dataclasses.replace(whole, insert=True)).probabilities
    for curve, ends in ((deleted, (images, blurred)), (inserted, (blurred, images))):
        np.testing.assert_allclose(curve[:, [0, -1]].T, [chance(end) for end in ends], atol=2e-6)


def test_insertion_is_deletion_backwards(model, images, maps):
    insert = PerturbationProtocol(points=4, fraction=1.0, first="most", insert=True, fill="mean")
    forwards = perturbation_curves(model, images, TARGETS, maps, protocol=insert)
    backwards = perturbation_curves(model, images, TARGETS, maps, protocol=dataclasses.replace(insert, first="least", insert=False))
    np.testing.assert_allclose(forwards.logits, backwards.logits[:, ::-1], atol=1e-6)


@pytest.mark.parametrize("ties", ["position", "random"])
def test_the_reversed_map_is_the_other_direction(model, images, maps, ties):
    """Also where pixels are equally important."""
    protocol = PerturbationProtocol(points=4, ties=ties)
    coarse = jnp.round(maps)
    found = perturbation_curves(model, images, TARGETS, -coarse, protocol=protocol)
    expected = perturbation_curves(model, images, TARGETS, coarse, protocol=dataclasses.replace(protocol, first="most"))
    assert np.array_equal(found.logits, expected.logits)


def test_ties(model, images):
    """Pixels of a constant map come row by row, or in an order of chance that the seed sets."""
    flat = jnp.zeros((3, 16, 16))
    run = lambda maps, **options: (
        perturbation_curves(model, images, TARGETS, maps, protocol=PerturbationProtocol(points=4, fill="mean", **options)).logits
    )
    assert np.array_equal(run(flat), run(flat + jnp.arange(256.0).reshape(1, 16, 16)))
    assert np.array_equal(run(flat, ties="random"), run(flat + 1, ties="random"))
    assert not np.allclose(run(flat, ties="random"), run(flat, ties="random", seed=1))
    assert not np.allclose(run(flat, ties="random"), run(flat))


def test_what_does_not_matter_costs_nothing(model):
    images = jnp.zeros((1, 16, 16, 3)).at[:, :8, :8].set(1.0)
    good, targets = images[..., 0], jnp.array([0])
    run = lambda maps, first: perturbation_curves(model, images, targets, maps, protocol=PerturbationProtocol(first=first, fraction=0.75))
    stays, falls = run(good, "least"), run(good, "most")
    np.testing.assert_allclose(stays.logits, 10.0, atol=1e-5)  # three quarters do not matter
    area = {name: area_under_curve(curves.logits, curves.shares) for name, curves in (("least", stays), ("most", falls))}
    assert area["least"] == pytest.approx(10.0, abs=1e-5) and area["most"] < 8
    gain = symmetric_relevance_gain(stays, falls)
    assert gain == pytest.approx(area["least"] - area["most"])
    assert symmetric_relevance_gain(run(-good, "least"), run(-good, "most")) == pytest.approx(-gain, abs=1e-5)
    assert symmetric_relevance_gain(stays, falls, of="probabilities") > 0


def test_neither_batch_nor_chunk_matters(model, images, maps):
    protocol = PerturbationProtocol(points=5, fill="noisy_linear", noise=0.1)
    whole = perturbation_curves(model, images, TARGETS, maps, protocol=protocol, chunk_size=3)
    for i in range(2):
        alone = perturbation_curves(model, images[i : i + 1], TARGETS[i : i + 1], maps[i : i + 1], protocol=protocol, chunk_size=1)
        np.testing.assert_allclose(alone.logits[0], whole.logits[i], atol=1e-4)  # where the solver stops may differ by a rounding
    again = perturbation_curves(model, images, TARGETS, maps, protocol=dataclasses.replace(protocol, seed=1), chunk_size=3)
    assert np.abs(again.logits - whole.logits).max() > 1e-3


def test_changing_a_float_compiles_nothing(model, images, maps):
    protocol = PerturbationProtocol(points=4, patch_size=4)
    perturbation_curves(model, images, TARGETS, maps, protocol=protocol)
    with count_compilations() as compiled:
        other = dataclasses.replace(protocol, blur_sigma=2.0, fraction=0.95, noise=0.5, seed=3)
        perturbation_curves(model, images, TARGETS, maps, protocol=other)
    assert compiled == []


def test_points_are_the_authors():
    """Their loop over pixels, as a mask is kept every `stride` of them and at the end."""
    for height, width, fraction, points in ((224, 224, 0.9, 128), (16, 16, 0.9, 128), (14, 14, 1.0, 10), (5, 5, 0.5, 3), (2, 2, 0.1, 9)):
        total = max(1, int(fraction * height * width))
        stride = max(1, total // points)
        expected = [0] + [i + 1 for i in range(total) if (i + 1) % stride == 0]
        expected += [total] if expected[-1] != total else []
        found = unit_counts(height * width, dataclasses.replace(dave_paper, fraction=fraction, points=points))
        assert found.tolist() == expected
    assert (dave_paper.first, dave_paper.fill, dave_paper.blur_size, dave_paper.blur_sigma) == ("least", "blur", 31, 7.0)
    assert (dave_paper.fraction, dave_paper.points, dave_paper.patch_size, dave_paper.confidence) == (0.9, 128, 1, 0.9)


def test_area_by_hand():
    assert area_under_curve([1.0, 0.0, 0.0], [0.0, 0.1, 0.4]) == pytest.approx(0.125)
    assert area_under_curve(np.ones((2, 3)), [0.0, 0.3, 0.9]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="two points at least"):
        area_under_curve([1.0], [0.0])
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        area_under_curve([1.0, 2.0, 3.0], [0.0, 1.0])
    curves = [PerturbationCurves(np.array(shares), jnp.ones((1, 2)), jnp.ones((1, 2))) for shares in ([0.0, 1.0], [0.0, 0.9])]
    with pytest.raises(ValueError, match="same shares"):
        symmetric_relevance_gain(*curves)


def test_bad_maps_and_settings(model, images, maps):
    for given, message in (
        ({"maps": maps[:, :4]}, "maps must have shape"),
        ({"maps": maps.at[0, 0, 0].set(jnp.nan)}, "finite"),
        ({"targets": jnp.array([0, 1, 3])}, r"0 to 2.*got \[3\]"),
        ({"targets": TARGETS[:2]}, r"shape \(3,\); got \(2,\)"),
        ({"protocol": PerturbationProtocol(patch_size=5)}, "5 x 5 pixels must tile"),
    ):
        arguments = {"images": images, "targets": TARGETS, "maps": maps, "protocol": dave_paper} | given
        with pytest.raises(ValueError, match=message):
            perturbation_curves(model, **arguments)
    for options, message in (({"fraction": 1.5}, r"fraction must lie in \[0, 1\]"), ({"blur_size": 30}, "positive odd integer; got 30")):
        with pytest.raises(ValueError, match=message):
            PerturbationProtocol(**options)
