import numpy as np
import pytest

from dave_jax.evaluation.statistics import bootstrap, bootstrap_difference


@pytest.fixture
def values():
    return np.random.default_rng(1).standard_normal(200) + 3.0


def test_intervals_are_those_of_a_mean(values):
    """For 200 normal values the percentile interval is the normal one, to a few per cent of its width (2000 resamples)."""
    found = bootstrap(values, 0)
    error = values.std() / np.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.standard_error == pytest.approx(error, rel=0.06)
    assert (found.low, found.high) == pytest.approx((found.mean - 1.96 * error, found.mean + 1.96 * error), abs=0.15 * error)
    assert (found.count, found.missing) == (200, 0)
    assert found == bootstrap(values, 0) and found != bootstrap(values, 1)
    half = bootstrap(values, 0, level=0.5)
    assert found.low < half.low < half.high < found.high


def test_the_interval_holds_the_truth_as_often_as_it_says():
    draw = np.random.default_rng(0)
    found = [bootstrap(draw.exponential(size=60), seed, resamples=200, level=0.8) for seed in range(200)]
    share = np.mean([estimate.low <= 1.0 <= estimate.high for estimate in found])
    assert 0.7 < share < 0.87  # three standard deviations of a count of 200 around 0.8, a little less for skewed values


def test_missing_values_are_counted_and_never_hidden(values):
    values[:50] = np.nan
    dropped, zero = bootstrap(values, 0), bootstrap(values, 0, missing="zero")
    assert dropped.missing == zero.missing == 50
    assert (dropped.count, zero.count) == (150, 200)
    assert dropped.mean == pytest.approx(np.nanmean(values))
    assert zero.mean == pytest.approx(0.75 * dropped.mean)
    assert dropped == bootstrap(values[50:], 0).__class__(**{**vars(bootstrap(values[50:], 0)), "missing": 50})
    nothing = bootstrap([np.nan, np.nan], 0)
    assert np.isnan([nothing.mean, nothing.low, nothing.standard_error]).all() and (nothing.count, nothing.missing) == (0, 2)
    single = bootstrap([0.25, np.nan], 0)
    assert single.mean == 0.25 and np.isnan([single.low, single.high, single.standard_error]).all()


def test_rows_are_drawn_as_a_whole(values):
    """Four equal cells for each mosaic tell no more than one."""
    rows = np.repeat(values[:, None], 4, axis=1)
    assert bootstrap(rows, 0).standard_error == pytest.approx(bootstrap(values, 0).standard_error, rel=1e-9)
    assert bootstrap(rows.ravel(), 0).standard_error < 0.6 * bootstrap(rows, 0).standard_error
    uneven = np.array([[1.0, np.nan], [2.0, 3.0], [np.nan, np.nan]])
    found = bootstrap(uneven, 0)
    assert (found.mean, found.count, found.missing) == (2.0, 2, 3)


def test_differences_are_paired(values):
    shift = 0.1 + 0.001 * np.random.default_rng(2).standard_normal(200)
    found = bootstrap_difference(values + shift, values, 0)
    assert found.mean == pytest.approx(0.1, abs=1e-3) and found.low > 0.099
    assert found.standard_error < 0.01 * bootstrap(values, 0).standard_error
    back = bootstrap_difference(values, values + shift, 0)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low), abs=1e-4)


def test_missing_pairs():
    first, second = [1.0, np.nan, 3.0, np.nan], [0.5, 1.0, np.nan, np.nan]
    dropped, zero = bootstrap_difference(first, second, 0), bootstrap_difference(first, second, 0, missing="zero")
    assert (dropped.mean, dropped.count, dropped.missing) == (0.5, 1, 3)
    assert (zero.mean, zero.count, zero.missing) == (pytest.approx(2.5 / 4), 4, 3)


def test_many_images_are_resampled_in_parts(monkeypatch, values):
    from dave_jax.evaluation import statistics

    whole = bootstrap(values, 0)
    monkeypatch.setattr(statistics, "MEMORY", 1000)
    assert bootstrap(values, 0) == whole


def test_bad_values():
    for values, message in (([], "of at least one"), (0.5, "shape"), ([np.inf, 1.0], r"images \[0\] are not")):
        with pytest.raises(ValueError, match=message):
            bootstrap(values, 0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        bootstrap([1.0, 2.0], 0, level=95.0)
    with pytest.raises(ValueError, match="same images"):
        bootstrap_difference([1.0, 2.0], [1.0], 0)
