import numpy as np
import pytest
import scipy.stats
import skimage.metrics

from dvae_tf.evaluation import metrics


def test_summary_against_scipy(rng):
    values = rng.normal(3, 2, 50)
    summary = metrics.summarize(values)
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.standard_error == pytest.approx(scipy.stats.sem(values))
    assert summary.count == 50
    assert metrics.summarize(np.array([2.0])) == metrics.Summary(2.0, None, 1)


@pytest.mark.parametrize("shape", [(5, 8, 8, 1), (3, 28, 20, 3)])
def test_psnr_and_ssim_against_skimage(shape, rng):
    clean = rng.random(shape)
    other = clean + rng.normal(0, 0.3, shape)
    clipped = np.clip(other, 0, 1)
    psnr = [
        skimage.metrics.peak_signal_noise_ratio(a, b, data_range=1.0)
        for a, b in zip(clean, clipped, strict=True)
    ]
    np.testing.assert_allclose(metrics.psnr(clean, other), psnr)
    ssim = metrics.ssim(clean, other)
    for value, a, b in zip(ssim, clean, clipped, strict=True):
        expected = skimage.metrics.structural_similarity(a, b, data_range=1.0, channel_axis=-1)
        assert value == pytest.approx(expected)
        assert 0.05 < value < 0.99


def test_equal_images(rng):
    x = rng.random((2, 9, 9, 1))
    np.testing.assert_allclose(metrics.psnr(x, x), 10 * np.log10(12 * 255**2))
    np.testing.assert_allclose(metrics.ssim(x, x), 1)
    assert np.isnan(metrics.ssim(x[:, :2], x[:, :2])).all()
    assert metrics.ssim(x[:, :4], x[:, :4]) == pytest.approx(1)


def test_active_units_and_kl(rng):
    means = rng.normal(0, [1.0, 0.2, 0.05], (500, 3))
    assert metrics.active_units(means).tolist() == [True, True, False]
    stddevs = rng.uniform(0.2, 1.5, (500, 3))
    expected = 0.5 * (means**2 + stddevs**2 - 1 - np.log(stddevs**2))
    np.testing.assert_allclose(metrics.kl_per_unit(means, stddevs), expected.mean(0))


def test_probes_find_what_is_there_and_nothing_else(rng):
    labels = rng.integers(0, 3, 600)
    features = rng.normal(size=(600, 4)) + 4 * np.eye(3, 4)[labels]
    for fit in (metrics.fit_linear_probe, metrics.fit_nearest_neighbours):
        assert fit(features[:400], labels[:400]).score(features[400:], labels[400:]) > 0.9
        noise = rng.normal(size=(600, 4))
        assert fit(noise[:400], labels[:400]).score(noise[400:], labels[400:]) < 0.5


def test_calibration_of_a_calibrated_and_of_a_proud_prediction(rng):
    stddev = rng.uniform(0.05, 0.5, (40, 20, 20, 1))
    error = stddev * rng.normal(size=stddev.shape)
    bins = metrics.calibration(error, stddev, num_bins=8)
    assert bins.count.tolist() == [2000] * 8
    assert np.all(np.diff(bins.predicted) > 0)
    # A root mean square of 2,000 normal draws is measured to 1 / sqrt(4000).
    np.testing.assert_allclose(bins.actual, bins.predicted, rtol=5 / np.sqrt(4000))
    proud = metrics.calibration(error, stddev / 2, num_bins=8)
    np.testing.assert_allclose(proud.actual, 2 * proud.predicted, rtol=5 / np.sqrt(4000))
