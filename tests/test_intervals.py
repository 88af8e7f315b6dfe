import numpy as np
import pytest

from dvae_tf.kinds.image import intervals


def posterior(rng, num_draws, num_images=400, pixels=(5, 5, 1), claimed=1.0):
    """Clean images from N(mu, sigma^2), pixel by pixel, and draws that claim a multiple of sigma."""
    shape = (num_images, *pixels)
    mean, stddev = rng.normal(size=shape), rng.uniform(0.2, 2, shape)
    clean = mean + stddev * rng.normal(size=shape)
    draws = mean + claimed * stddev * rng.normal(size=(num_draws, *shape))
    return clean, draws


@pytest.mark.parametrize("num_draws", [1, 2, 7, 19, 100])
def test_exact_draws_are_covered_at_the_level(num_draws, rng):
    clean, draws = posterior(rng, num_draws)
    found = intervals.coverage(clean, draws)
    assert list(found) == [0.5, 0.9, 0.95]
    for level, shares in found.items():
        assert shares.shape == (400,)
        error = shares.std() / np.sqrt(len(shares))
        assert abs(shares.mean() - level) < 5 * error + 1e-12


def test_coverage_with_integer_ranks_counts_pixels_between_two_draws(rng):
    """With 19 draws the 90 % interval goes from the lowest draw to the highest."""
    clean, draws = posterior(rng, 19, num_images=3)
    inside = (clean > draws.min(0)) & (clean < draws.max(0))
    found = intervals.coverage(clean, draws, levels=[0.9])[0.9]
    np.testing.assert_allclose(found, inside.mean((1, 2, 3)), rtol=0, atol=1e-12)


def test_coverage_of_many_draws_is_that_of_their_quantiles(rng):
    clean, draws = posterior(rng, 2000, num_images=5, claimed=0.5)
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    expected = np.mean((clean > low) & (clean < high), axis=(1, 2, 3))
    found = intervals.coverage(clean, draws, levels=[0.9])[0.9]
    np.testing.assert_allclose(found, expected, atol=0.03)
    # P(|z| < 1.645 / 2)
    clean, draws = posterior(rng, 2000, num_images=40, claimed=0.5)
    shares = intervals.coverage(clean, draws, levels=[0.9])[0.9]
    assert abs(shares.mean() - 0.589) < 5 * shares.std() / np.sqrt(40)


def test_ties_are_neither_inside_nor_outside(rng):
    """Draws and clean images of a few levels: still exchangeable, so still exact."""
    clean, draws = rng.integers(0, 3, (500, 4, 4, 1)), rng.integers(0, 3, (9, 500, 4, 4, 1))
    for level, shares in intervals.coverage(clean, draws).items():
        assert abs(shares.mean() - level) < 5 * shares.std() / np.sqrt(500)
    same = np.zeros((2, 3, 3, 1))
    for level, shares in intervals.coverage(same, np.zeros((4, 2, 3, 3, 1))).items():
        np.testing.assert_allclose(shares, level)


@pytest.mark.parametrize("num_draws", [2, 5, 50])
@pytest.mark.parametrize("claimed", [0.5, 1.0, 2.0])
def test_ratio_of_error_to_standard_deviation(num_draws, claimed, rng):
    clean, draws = posterior(rng, num_draws, num_images=20, pixels=(40, 40, 1), claimed=claimed)
    ratios = intervals.stddev_ratio(clean, draws)
    assert ratios.shape == (20,)
    # E (x - m)^2 = v (1 + c^2 / S), and the draws claim c^2 v.
    expected = np.sqrt((1 + claimed**2 / num_draws) / (1 + 1 / num_draws)) / claimed
    assert abs(ratios.mean() - expected) < 5 * ratios.std() / np.sqrt(20)


@pytest.mark.parametrize("num_draws", [6, 40])
def test_calibration_table_of_exact_draws(num_draws, rng):
    clean, draws = posterior(rng, num_draws, num_images=50, pixels=(30, 30, 1))
    table = intervals.calibration_table(clean, draws, num_bins=8)
    assert table.count.sum() == clean.size and np.ptp(table.count) <= 1
    assert table.stddev[0] < 0.8 * table.stddev[-1]
    # The relative standard error of an RMS is 1 / sqrt(2 n); of mixed variances somewhat more.
    np.testing.assert_allclose(table.error, table.stddev, rtol=5 / np.sqrt(table.count.min()))


def test_calibration_table_shows_where_draws_are_too_sure(rng):
    mean, stddev = np.zeros((10, 20, 20, 1)), np.full((10, 20, 20, 1), 0.5)
    stddev[:, :10] = 2.0
    claimed = np.where(stddev == 2, 1.0, 0.5)
    clean = mean + stddev * rng.normal(size=mean.shape)
    draws = mean + claimed * rng.normal(size=(200, *mean.shape))
    table = intervals.calibration_table(clean, draws, num_bins=2)
    np.testing.assert_allclose(table.stddev, [0.5, 1.0], rtol=0.03)
    np.testing.assert_allclose(table.error, [0.5, 2.0], rtol=0.08)


def test_shapes_that_do_not_fit(rng):
    clean, draws = rng.random((2, 4, 4, 1)), rng.random((3, 2, 4, 4, 1))
    with pytest.raises(ValueError, match=r"`draws` must have the shape \[S, \*clean.shape\]"):
        intervals.coverage(clean, draws[:, :1])
    with pytest.raises(ValueError, match="S of at least 2"):
        intervals.stddev_ratio(clean, draws[:1])
    with pytest.raises(ValueError, match="S of at least 4"):
        intervals.calibration_table(clean, draws)
