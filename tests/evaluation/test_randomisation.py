import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.evaluation.randomisation import randomisation, randomise
from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing
from dave_jax.testing import count_compilations, tiny_model

pytestmark = pytest.mark.slow

MODEL = tiny_model(pooling="map", final_norm="pooled", num_registers=1)
HEAD = {"head", "pool", "final_norm"}


def by_path(params):
    return {tuple(part.key for part in path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def test_parts_are_random_from_the_head_down(key):
    own = by_path(MODEL.params)
    for parts in range(5):
        for path, leaf in by_path(randomise(MODEL, parts, key=key).params).items():
            if path[0] == "blocks":
                changed = [not np.array_equal(leaf[i], own[path][i]) for i in range(2)]
                assert changed == [parts >= 3, parts >= 2]
                assert all(np.isin(leaf[i], own[path][i]).all() for i in range(2))  # its own values, of its own block
            else:
                assert (not np.array_equal(leaf, own[path])) == (parts >= (1 if path[0] in HEAD else 4)), path
                assert np.isin(leaf, own[path]).all()


def test_cascades_are_nested_and_decided_by_the_key(key):
    few, more, other = (by_path(randomise(MODEL, parts, key=k).params) for parts, k in ((2, key), (4, key), (2, jax.random.key(1))))
    path = ("blocks", "mlp", "fc1", "kernel")
    assert np.array_equal(few[path][1], more[path][1]) and not np.array_equal(few[path][1], other[path][1])
    assert np.array_equal(few[("head", "kernel")], more[("head", "kernel")])
    places = [
        np.argsort(by_path(MODEL.params)[path][i], axis=None)[
            np.searchsorted(np.sort(by_path(MODEL.params)[path][i], axis=None), more[path][i])
        ]
        for i in range(2)
    ]
    assert not np.array_equal(*places)  # each block draws for itself
    assert MODEL.preprocessing == randomise(MODEL, 2, key=key).preprocessing


def test_likeness(key):
    """1 for a method that ignores the parameters; the gradient's map changes, and what follows the rank correlation's equation."""
    images = jax.random.normal(key, (2, 16, 16, 3))
    ignorant = randomisation(lambda model, images, targets: images.sum(-1), MODEL, images, [0, 1], key=key, stages=(1, 4))
    assert ignorant.stages == ("head", "everything")
    assert np.allclose(ignorant.signed, 1.0, atol=1e-6) and np.allclose(ignorant.absolute, 1.0, atol=1e-6)

    explainer = lambda model, images, targets: InputTimesGradient()(model, images, targets, raw=True)
    explainer(MODEL, images, [0, 1])
    with count_compilations() as compiled:
        found = randomisation(explainer, MODEL, images, [0, 1], key=key)
    assert "jit(_attribute)" not in compiled and "_attribute" not in compiled  # random parameters are only other numbers
    assert found.stages == ("head", "block 1", "block 0", "everything") and found.signed.shape == (4, 2)
    assert (found.signed[-1] < 0.5).all() and (jnp.abs(found.signed) < 0.999).all()
    own, last = explainer(MODEL, images, [0, 1])[0], explainer(randomise(MODEL, 4, key=key), images, [0, 1])[0]
    ranks = [np.argsort(np.argsort(np.asarray(one).ravel())) for one in (own, last, jnp.abs(own), jnp.abs(last))]  # no ties
    assert float(found.signed[3, 0]) == pytest.approx(np.corrcoef(ranks[0], ranks[1])[0, 1], abs=1e-5)
    assert float(found.absolute[3, 0]) == pytest.approx(np.corrcoef(ranks[2], ranks[3])[0, 1], abs=1e-5)


def test_a_sign_is_seen_by_the_signed_likeness_alone(key):
    """A map that flips with the model's first weight, whatever happens to it."""
    images = jax.random.normal(key, (1, 16, 16, 3))
    first = MODEL.params["head"]["bias"]
    explainer = lambda model, images, targets: jnp.where(jnp.array_equal(model.params["head"]["bias"], first), 1.0, -1.0) * images.sum(-1)
    found = randomisation(explainer, MODEL, images, [0], key=key, stages=[2])
    assert float(found.signed[0, 0]) == pytest.approx(-1.0, abs=1e-6) and float(found.absolute[0, 0]) == pytest.approx(1.0, abs=1e-6)


def test_bad_input(key):
    explainer, images = lambda model, images, targets: images.sum(-1), jnp.zeros((1, 16, 16, 3))
    plain = Model((), lambda params, image, decomposition: image[0, 0], preprocessing=Preprocessing(image_size=(16, 16)), name="mine")
    with pytest.raises(TypeError, match=r"vision transformer of dave_jax.*'mine' is a function"):
        randomise(plain, 1, key=key)
    with pytest.raises(TypeError, match="vision transformer"):
        randomisation(explainer, plain, images, [0], key=key)
    with pytest.raises(ValueError, match=r"0 to 4: the head, 2 blocks, and the embedding; got 5"):
        randomise(MODEL, 5, key=key)
    for stages in ([0, 1], [5], []):
        with pytest.raises(ValueError, match="stages must lie in 1 to 4"):
            randomisation(explainer, MODEL, images, [0], key=key, stages=stages)
