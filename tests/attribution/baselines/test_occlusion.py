"""Occlusion against an explicit loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_model import small_model

from dave_jax.attribution.baselines.occlusion import Occlusion, window_positions


def slow(score, image, window, stride, fill):
    """Window by window, from the top left until the bottom right is covered; every pixel takes the mean of its windows."""
    total, count = np.zeros(image.shape[:2]), np.zeros(image.shape[:2])
    before, top = score(image), 0
    while True:
        left = 0
        while True:
            covered = image.copy()
            covered[top : top + window, left : left + window] = fill
            total[top : top + window, left : left + window] += before - score(covered)
            count[top : top + window, left : left + window] += 1
            if left + window >= image.shape[1]:
                break
            left += stride
        if top + window >= image.shape[0]:
            break
        top += stride
    return total / count


@pytest.mark.parametrize(
    ("window", "stride", "fill", "score"),
    [(4, 4, 0.0, "logit"), (5, 3, 0.5, "probability"), (16, 2, (0.1, -0.4, 0.2), "logit")],
)
def test_equals_a_loop(window, stride, fill, score):
    """Windows that divide the image, that do not and overlap, and one as high as the image."""
    model = small_model((16, 24))
    image = np.asarray(jax.random.normal(jax.random.key(3), (16, 24, 3)))
    cotangents = np.asarray(jax.random.normal(jax.random.key(5), (2, 5)))

    def value(cotangent):
        def of(image):
            logits = model.logits(image[None])[0]
            return float(np.dot(cotangent, jax.nn.softmax(logits) if score == "probability" else logits))

        return of

    found = Occlusion(window, stride, fill, score)(model, image[None], cotangents[None], raw=True)[0]
    for cotangent, ours in zip(cotangents, found, strict=True):
        expected = slow(value(cotangent), image, window, stride, fill)
        np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max() + 2e-6)  # a difference of scores of about 1
        assert np.abs(expected).max() > 0.01


@pytest.mark.parametrize(("size", "window", "stride"), [(224, 16, 8), (17, 5, 3), (16, 16, 16), (10, 3, 1)])
def test_every_pixel_is_covered(size, window, stride):
    places = window_positions(size, window, stride)
    assert bool(places.any(0).all()) and bool(places.any(1).all())
    assert [int(count) for count in places.sum(1)[:-1]] == [window] * (len(places) - 1)  # only the last is cut off


def test_a_fill_equal_to_the_image_drops_nothing():
    image = jnp.ones((1, 16, 16, 3))
    assert float(jnp.abs(Occlusion(4, 4, fill=image[0])(small_model(), image, [1], raw=True)).max()) < 1e-6
