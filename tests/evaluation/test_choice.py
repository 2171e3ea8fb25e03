"""The choice of photographs: what qualifies, in which order, and what it costs; `test_selection.py` has the mosaics themselves."""

import collections
import json

import jax
import numpy as np
import pytest
from labelled import make

from dave_jax.evaluation.choice import choose, in_turn, restore, store
from dave_jax.evaluation.data import Photograph, read

LEAST = 0.23


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A model and 40 photographs, labelled as it sees them but for the first ten."""
    folder = tmp_path_factory.mktemp("labelled")
    model = make(folder)
    entries = json.loads((folder / "labels.json").read_text())
    for entry in entries[:10]:
        entry["label"] = str((model.class_index(entry["label"]) + 1) % 5)
    (folder / "labels.json").write_text(json.dumps(entries))
    return model, read(folder, model)


def chances(model, photographs) -> np.ndarray:
    """Of the classes, all photographs at once."""
    return np.asarray(jax.nn.softmax(model.logits(model.preprocess([photograph.photo() for photograph in photographs]))))


def test_those_that_the_model_knows(labelled):
    model, photographs = labelled
    found = chances(model, photographs)
    known = [i for i, photograph in enumerate(photographs) if found[i].argmax() == photograph.target and found[i].max() >= LEAST]
    assert 6 < len(known) < 30
    choice = choose(photographs, model, seed=1, min_confidence=LEAST)
    assert {photograph.name for photograph in choice.photographs} == {photographs[i].name for i in known}
    order = {photograph.name: i for i, photograph in enumerate(photographs)}
    expected = [found[order[photograph.name]].max() for photograph in choice.photographs]
    np.testing.assert_allclose(choice.probabilities, expected, rtol=1e-5)  # in another batch
    few = choose(photographs, model, seed=1, count=3, min_confidence=LEAST)
    assert few.photographs == choice.photographs[:3] and few.seen < choice.seen == len(photographs)
    assert choose(photographs, model, seed=2, min_confidence=LEAST).photographs != choice.photographs


def test_mosaics_are_of_distinct_classes(labelled):
    model, photographs = labelled
    choice = choose(photographs, model, seed=1, count=0, num_mosaics=3, min_confidence=0.0)
    assert choice.photographs == () and len(choice.mosaics) == 3
    assert all(len({photograph.target for photograph in cells}) == 4 for cells in choice.mosaics)


def test_what_was_stored_comes_back(labelled):
    model, photographs = labelled
    choice = choose(photographs, model, seed=1, count=5, num_mosaics=2, min_confidence=0.0)
    again = restore(json.loads(json.dumps(store(choice, model))), photographs)
    assert (again.photographs, again.mosaics, again.seen) == (choice.photographs, choice.mosaics, choice.seen)
    np.testing.assert_allclose(again.probabilities, choice.probabilities, rtol=1e-6)  # seven digits are stored


def test_classes_come_by_turns_and_marked_ones_first():
    targets = np.random.default_rng(0).integers(0, 4, 50)
    photographs = [Photograph(str(i), int(target), b"", ((0.0, 0.0, 1.0, 1.0),) if i % 3 else ()) for i, target in enumerate(targets)]
    order = in_turn(photographs, 0, marked_first=True)
    assert sorted(photograph.name for photograph in order) == sorted(photograph.name for photograph in photographs)
    marked = [photograph.marked for photograph in order]
    assert marked == sorted(marked, reverse=True)
    for start, stop in ((0, sum(marked)), (sum(marked), len(order))):
        total = collections.Counter(photograph.target for photograph in order[start:stop])
        for end in range(start, stop):  # no class is ahead of another that still has photographs
            seen = collections.Counter(photograph.target for photograph in order[start:end])
            assert all(seen[a] <= seen[b] + 1 for a in total for b in total if seen[b] < total[b])


def test_none_or_too_few_classes(labelled):
    model, photographs = labelled
    with pytest.raises(
        ValueError, match=r"No photograph of 40 is classified rightly with a probability of at least 1 \(the highest is 0\.\d+\)"
    ):
        choose(photographs, model, seed=0, min_confidence=1.0)
    with pytest.raises(ValueError, match="Mosaics of 3 x 3 need images of 9 classes"):
        choose(photographs, model, seed=0, num_mosaics=1, rows=3, min_confidence=0.0)
