import numpy as np
import pytest

from dave_jax.evaluation.selection import choose_mosaics, qualifying


def certain(targets, classes=6, probability=0.95) -> np.ndarray:
    rest = (1 - probability) / (classes - 1)
    return np.where(np.arange(classes) == np.asarray(targets)[:, None], probability, rest)


def test_only_the_right_and_confident_qualify():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.1, 0.9]])
    assert qualifying([0, 1, 0, 1], probabilities, 0.0).tolist() == [0, 1, 3]
    assert qualifying([0, 1, 0, 1], probabilities, 0.9).tolist() == [0, 3]
    assert qualifying(np.zeros(0, int), np.zeros((0, 2)), 0.5).tolist() == []


@pytest.mark.parametrize(("n", "count"), [(1, 7), (2, 4)])
def test_mosaics_are_of_distinct_classes_and_images_are_used_once(n, count):
    targets = np.repeat(np.arange(6), [7, 2, 2, 3, 3, 3])
    probabilities = certain(targets)
    probabilities[0] = certain([1])[0]  # is taken for something else
    found = choose_mosaics(targets, probabilities, n, count, 0.9, 3)
    assert found.shape == (count, n * n)
    assert all(len(set(targets[group])) == n * n for group in found)
    assert len(set(found.ravel().tolist())) == found.size and 0 not in found  # 19 images qualify
    assert np.array_equal(found, choose_mosaics(targets, probabilities, n, count, 0.9, 3))
    assert not np.array_equal(found, choose_mosaics(targets, probabilities, n, count, 0.9, 4))


def test_the_most_mosaics_are_made_before_an_image_comes_again():
    """Sizes 5, 1, 1, 1, 1, 1 give one mosaic of four classes, and two more only from images that come again."""
    targets = np.array([0] * 5 + [1, 2, 3, 4, 5])
    found = choose_mosaics(targets, certain(targets), 2, 3, 0.9, 0)
    assert len(found) == 3
    balanced = np.repeat(np.arange(4), 5)
    found = choose_mosaics(balanced, certain(balanced), 2, 5, 0.9, 0)
    assert sorted(found.ravel().tolist()) == list(range(20))
    again = choose_mosaics(balanced, certain(balanced), 2, 9, 0.9, 0)
    assert np.array_equal(again[:5], found) and len(set(map(frozenset, again.tolist()))) == 9


def test_no_set_of_images_comes_twice():
    """Four images of four classes make one mosaic; with a fifth image there are two."""
    assert choose_mosaics(np.arange(4), certain(np.arange(4)), 2, 500, 0.9, 0).shape == (1, 4)
    targets = np.array([0, 1, 2, 3, 3])
    assert choose_mosaics(targets, certain(targets), 2, 500, 0.9, 0).shape == (2, 4)


def test_classes_are_in_every_cell():
    targets = np.repeat(np.arange(4), [40, 30, 30, 30])
    found = targets[choose_mosaics(targets, certain(targets), 2, 30, 0.9, 1)]
    assert all(len(set(found[:, cell])) == 4 for cell in range(4))


def test_none_qualifies():
    targets = np.arange(6).repeat(3)
    with pytest.raises(ValueError, match=r"4 classes .* >= 0.99; 0 of 18 images do, of 0 classes\. Lower"):
        choose_mosaics(targets, certain(targets), 2, 5, 0.99, 0)
    with pytest.raises(ValueError, match=r"9 classes .* 18 of 18 images do, of 6 classes"):
        choose_mosaics(targets, certain(targets), 3, 5, 0.9, 0)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"probabilities have shape \(b, classes\)"):
        qualifying([0, 1], np.ones((3, 2)), 0.5)
    with pytest.raises(ValueError, match="0 to 1; got 0 to 2"):
        qualifying([0, 2], np.ones((2, 2)), 0.5)
    with pytest.raises(ValueError, match=r"in \[0, 1\]; got 90"):
        qualifying([0, 1], np.ones((2, 2)), 90.0)
    with pytest.raises(ValueError, match="at least 1"):
        choose_mosaics([0], certain([0]), 0, 1, 0.5, 0)
