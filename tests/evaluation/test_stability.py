import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.evaluation.stability import PAPER_MOTIONS, Motion, equivariance, move, noise_stability, stays_inside

pytestmark = pytest.mark.slow

DRAWN = np.random.default_rng(0)
IMAGES = jnp.asarray(DRAWN.normal(size=(2, 16, 16, 3)), jnp.float32)
IDENTITY, SHIFT = Motion(0.0, 0.0, 0.0), Motion(0.0, 3 / 16, -2 / 16)
PLACES = jnp.asarray(DRAWN.normal(size=(16, 16)), jnp.float32)


def brightness(images, targets):
    """Moves with the image."""
    return jnp.abs(images).sum(-1)


def edges(images, targets):
    """Moves with the image, but for the column at the border."""
    grey = images.sum(-1)
    return grey.at[:, :, 1:].add(-grey[:, :, :-1])


def place(images, targets):
    """Knows nothing of the image."""
    return jnp.broadcast_to(PLACES, images.shape[:3])


def test_identity_and_whole_pixels():
    scores = equivariance(brightness, IMAGES, [0, 1], [IDENTITY, SHIFT])
    assert np.allclose(scores, 1.0, atol=1e-5)  # the matrix places pixels to rounding, and bilinear weights follow
    assert (equivariance(edges, IMAGES, [0, 1], [SHIFT]) > 0.9).all()  # the border column alone is wrong
    assert (jnp.abs(equivariance(place, IMAGES, [0, 1], [SHIFT])) < 0.3).all()  # 182 pixels: 0.07 is the deviation of chance
    assert np.allclose(equivariance(place, IMAGES, [0, 1], [IDENTITY]), 1.0, atol=1e-5)


def test_a_shift_written_out():
    """The correlation over the pixels that stay, by slices: 3 to the right, 2 up."""
    maps = np.asarray(edges(move(IMAGES, SHIFT.matrix(16, 16)), None))[:, :14, 3:]
    moved = np.asarray(edges(IMAGES, None))[:, 2:, :13]
    expected = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(maps, moved, strict=True)]
    assert np.allclose(equivariance(edges, IMAGES, [0, 1], [SHIFT])[:, 0], expected, atol=1e-5)


def test_motions_of_the_paper():
    """At 224 pixels the shifts are 20, 8 and 50, -30; the centre goes where the shift says, and its right neighbour turns."""
    for motion, degrees, shift in zip(PAPER_MOTIONS, (5, -40), ((20, 8), (50, -30)), strict=True):
        matrix, angle = np.asarray(motion.matrix(224, 224)), np.deg2rad(degrees)
        assert np.allclose(matrix @ [111.5, 111.5, 1], [111.5 + shift[0], 111.5 + shift[1], 1], atol=1e-4)
        assert np.allclose(matrix @ [1, 0, 0], [np.cos(angle), np.sin(angle), 0], atol=1e-6)  # y points down: clockwise
        assert np.allclose(
            motion.matrix(448, 448)[:2, 2] - motion.matrix(448, 448)[:2, :2] @ np.full(2, -223.5) - 223.5, 2 * np.array(shift), atol=1e-3
        )
    smooth = jnp.asarray(np.hypot(*np.mgrid[-8:8, -10:6])[None, ..., None].repeat(3, -1), jnp.float32)
    scores = equivariance(brightness, smooth, [0])
    assert scores.shape == (1, 2) and (scores > 0.99).all()


def test_what_comes_from_outside_does_not_count():
    inside = np.asarray(stays_inside(SHIFT.matrix(16, 16), 16, 16))
    assert inside[:14, 3:].all() and inside.sum() == 14 * 13
    with pytest.raises(ValueError, match="two pixels"):
        equivariance(brightness, IMAGES, [0, 1], [Motion(0.0, 1.0, 0.0)])


def test_noise_written_out():
    def attribute(images, targets):
        seen.append(np.asarray(images))
        return edges(images, targets)

    seen: list[np.ndarray] = []
    found = noise_stability(attribute, IMAGES, [0, 1], key=jax.random.key(3), radius=0.1, num_draws=3)
    assert len(seen) == 4 and np.array_equal(seen[0], IMAGES)
    noise = np.stack(seen[1:]) - seen[0]
    assert 0.099 < np.abs(noise).max() <= 0.1 + 1e-6 and abs(noise.mean()) < 0.01 and noise.std() == pytest.approx(0.1 / 3**0.5, rel=0.03)
    assert not np.array_equal(noise[0], noise[1])
    own, noisy = np.asarray(edges(IMAGES, None)), [np.asarray(edges(jnp.asarray(one), None)) for one in seen[1:]]
    for i in range(2):
        changes = [np.linalg.norm(one[i] - own[i]) / np.linalg.norm(own[i]) for one in noisy]
        correlations = [np.corrcoef(one[i].ravel(), own[i].ravel())[0, 1] for one in noisy]
        assert float(found.max_sensitivity[i]) == pytest.approx(max(changes), rel=1e-5)
        assert float(found.mean_sensitivity[i]) == pytest.approx(np.mean(changes), rel=1e-5)
        assert float(found.correlation[i]) == pytest.approx(np.mean(correlations), abs=1e-5)


def test_maps_that_do_not_change():
    found = noise_stability(place, IMAGES, [0, 1], key=jax.random.key(0), num_draws=2)
    assert found.max_sensitivity.tolist() == [0.0, 0.0] and np.allclose(found.correlation, 1.0, atol=1e-6)
    nothing = lambda images, targets: jnp.zeros(images.shape[:3])
    found = noise_stability(nothing, IMAGES, [0, 1], key=jax.random.key(0), num_draws=2)
    assert found.max_sensitivity.tolist() == [0.0, 0.0] and found.correlation.tolist() == [1.0, 1.0]
    assert equivariance(nothing, IMAGES, [0, 1], [SHIFT]).tolist() == [[1.0], [1.0]]


def test_sensitivity_does_not_depend_on_the_scale_of_a_map():
    large = lambda images, targets: 1000.0 * edges(images, targets)
    one, other = (noise_stability(attribute, IMAGES, [0, 1], key=jax.random.key(0), num_draws=2) for attribute in (edges, large))
    assert np.allclose(one.max_sensitivity, other.max_sensitivity, rtol=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match=r"\(b, h, w, channels\); got \(16, 16, 3\)"):
        equivariance(brightness, IMAGES[0], [0])
    with pytest.raises(ValueError, match="radius must be above 0"):
        noise_stability(brightness, IMAGES, [0, 1], key=jax.random.key(0), radius=0.0)
    with pytest.raises(ValueError, match="num_draws must be at least 1"):
        noise_stability(brightness, IMAGES, [0, 1], key=jax.random.key(0), num_draws=0)
    with pytest.raises(ValueError, match="Sum over channels"):
        equivariance(lambda images, targets: images, IMAGES, [0, 1])
