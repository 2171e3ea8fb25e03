import numpy as np
import pytest
from PIL import Image

from dave_jax.evaluation.regions import boxes_to_region, mask_to_region
from dave_jax.models.preprocess import Preprocessing

PLAIN = Preprocessing(image_size=(24, 32), mean=(0.0,) * 3, std=(1.0,) * 3)


def seen(picture, preprocessing) -> np.ndarray:
    """A photograph that is white on the object and black elsewhere is its own region, in any frame."""
    return preprocessing(picture)[0, ..., 0] >= 0.5


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize(("size", "crop"), [((50, 80), 0.875), ((60, 41), 1.0), ((20, 20), 0.6)])
def test_regions_move_as_photographs_do(mode, size, crop):
    preprocessing = Preprocessing(image_size=(24, 32), mean=(0.0,) * 3, std=(1.0,) * 3, crop_mode=mode, crop_fraction=crop)
    picture = np.zeros(size, np.uint8)
    picture[5:15, 10:18] = picture[9:18, 3:14] = picture[-12:, :9] = 255
    expected = seen(picture, preprocessing)
    assert 0 < expected.mean() < 1
    assert np.array_equal(boxes_to_region([[10, 5, 18, 15], [3, 9, 14, 18], [0, size[0] - 12, 9, size[0]]], size, preprocessing), expected)
    assert np.array_equal(mask_to_region(picture, size, preprocessing), expected)


def test_a_box_holds_the_pixels_whose_centres_it_holds():
    whole = Preprocessing(image_size=(4, 4), crop_fraction=1.0)
    region = boxes_to_region([0.4, 1.6, 2.5, 4], (4, 4), whole)
    assert np.array_equal(region, np.outer([0, 0, 1, 1], [1, 1, 1, 0]).astype(bool))  # edges on a centre belong to the box
    assert boxes_to_region([0, 0, 4, 4], (4, 4), whole).all()


def test_the_crop_can_cut_an_object_away():
    assert not boxes_to_region([0, 0, 10, 10], (100, 400), Preprocessing(image_size=(16, 16))).any()


def test_masks_in_the_models_frame_stay(tmp_path):
    mask = np.zeros((224, 224), np.uint8)
    mask[30:90, 50:200] = 255
    model = Preprocessing()
    assert np.array_equal(mask_to_region(mask, (300, 400), model, frame=model), mask > 0)
    other = Preprocessing(mean=(0.4, 0.4, 0.4), interpolation="bilinear")  # the same frame, other pixels
    assert np.array_equal(mask_to_region(mask, (300, 400), other, frame=model), mask > 0)


@pytest.mark.parametrize("size", [(300, 400), (401, 257)])
def test_masks_of_another_frame_are_carried_over(size):
    """Through the photograph and back: what both frames show, but for a pixel at the edges."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    disc = (rows - height / 2) ** 2 + (columns - width / 2 - 20) ** 2 < 70**2
    theirs = Preprocessing(image_size=(128, 128), crop_fraction=1.0)
    direct = mask_to_region(disc, size, PLAIN)
    carried = mask_to_region(mask_to_region(disc, size, theirs), size, PLAIN, frame=theirs)
    assert (direct != carried).sum() <= 0.1 * direct.sum()
    shown = mask_to_region(np.ones((128, 128)), size, Preprocessing(image_size=(96, 96), crop_mode="border"), frame=theirs)
    assert not shown[48, [0, -1]].all() or not shown[[0, -1], 48].all()  # what their crop did not show is not the object


def test_frame_of_a_border_is_cut_where_the_photograph_is():
    """A frame larger than its photograph: the border around it is dropped."""
    border = Preprocessing(image_size=(40, 40), crop_fraction=1.0, crop_mode="border", mean=(0.0,) * 3, std=(1.0,) * 3)
    picture = np.zeros((20, 40), np.uint8)
    picture[4:12, 8:30] = 255
    there = mask_to_region(picture, (20, 40), border)
    whole = Preprocessing(image_size=(20, 40), crop_fraction=1.0, crop_mode="squash")
    assert np.array_equal(mask_to_region(there, (20, 40), whole, frame=border), picture > 0)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0, 0, 41, 10]], "inside its photograph, 0 to 40 across and 0 to 30 down"),
        ([[0, -1, 10, 10]], "inside its photograph"),
        ([[5, 5, 5, 10]], r"x0 < x1 .* \(x, y, w, h\)"),
        ([[0, 0, float("nan"), 10]], "x0 < x1"),
        ([], "one or several"),
        ([[1, 2, 3]], "one or several"),
    ],
)
def test_bad_boxes(boxes, message):
    with pytest.raises(ValueError, match=message):
        boxes_to_region(boxes, (30, 40), PLAIN)


def test_bad_masks():
    with pytest.raises(ValueError, match=r"photograph, \(30, 40\); got \(24, 32\)\. It has the model's size: pass frame="):
        mask_to_region(np.ones((24, 32)), (30, 40), PLAIN)
    with pytest.raises(ValueError, match=r"frame, \(24, 32\); got \(30, 40\)\. It has the photograph's size: pass frame=None"):
        mask_to_region(np.ones((30, 40)), (30, 40), PLAIN, frame=PLAIN)
    with pytest.raises(ValueError, match="Resize it to the photograph"):
        mask_to_region(np.asarray(Image.new("RGB", (40, 30))), (30, 40), PLAIN)
