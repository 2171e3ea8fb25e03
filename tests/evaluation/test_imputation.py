import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.evaluation.imputation import TOLERANCE, linear_imputation, residual


def direct(image, gone):
    """The equations of arXiv 2202.00449 one by one, and a direct solver."""
    height, width, _ = image.shape
    places = list(zip(*np.nonzero(gone), strict=True))
    unknown = {place: i for i, place in enumerate(places)}
    matrix, right = np.zeros((len(places), len(places))), np.zeros((len(places), 3))
    for (row, column), i in unknown.items():
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                other = row + down, column + across
                if (down, across) == (0, 0) or not (0 <= other[0] < height and 0 <= other[1] < width):
                    continue
                weight = 1 / 6 if 0 in (down, across) else 1 / 12
                matrix[i, i] += weight
                if other in unknown:
                    matrix[i, unknown[other]] -= weight
                else:
                    right[i] += weight * image[other]
    filled = image.copy()
    filled[gone] = np.linalg.solve(matrix, right)
    return filled


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_equals_a_direct_solver(key, share):
    image = np.asarray(jax.random.normal(key, (12, 14, 3)), np.float64)
    gone = np.random.default_rng(0).random((12, 14)) < share
    gone[:5, :5] = True  # a hole at the border, too
    found = linear_imputation(jnp.asarray(image, jnp.float32), jnp.asarray(gone), tolerance=1e-6)
    np.testing.assert_allclose(found, direct(image, gone), atol=2e-5)  # the tolerance times what the system amplifies
    default = linear_imputation(jnp.asarray(image, jnp.float32), jnp.asarray(gone))
    assert residual(default, jnp.asarray(gone)) <= 1.05 * TOLERANCE  # conjugate gradients' own residual drifts in float32
    np.testing.assert_allclose(default, direct(image, gone), atol=5e-3)
    assert np.array_equal(np.asarray(default)[~gone], image.astype(np.float32)[~gone])


def test_planes_are_continued():
    """Away from the border a linear image solves the system."""
    rows, columns = np.mgrid[:10, :10]
    plane = jnp.asarray(2.0 * rows - 3.0 * columns + 1.0, jnp.float32)[..., None]
    gone = jnp.zeros((10, 10), bool).at[2:8, 2:8].set(True)
    hidden = jnp.where(gone[..., None], 99.0, plane)  # what is under the hole does not matter
    np.testing.assert_allclose(linear_imputation(hidden, gone, tolerance=1e-6), plane, atol=1e-4)


def test_nothing_or_everything_gone(key):
    image = jax.random.normal(key, (6, 6, 3))
    assert np.array_equal(linear_imputation(image, jnp.zeros((6, 6), bool)), image)
    assert not linear_imputation(image, jnp.ones((6, 6), bool)).any()
    assert residual(jnp.zeros_like(image), jnp.ones((6, 6), bool)) == 0
