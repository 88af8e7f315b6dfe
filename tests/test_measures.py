import numpy as np
import pytest
import skimage.metrics

from dvae_tf.kinds import KINDS
from dvae_tf.kinds.image import measures
from dvae_tf.kinds.measure import Measure


@pytest.mark.parametrize("shape", [(5, 8, 8, 1), (3, 28, 20, 3)])
def test_psnr_and_ssim_against_skimage(shape, rng):
    clean = rng.random(shape)
    other = clean + rng.normal(0, 0.3, shape)
    clipped = np.clip(other, 0, 1)
    psnr = [
        skimage.metrics.peak_signal_noise_ratio(a, b, data_range=1.0)
        for a, b in zip(clean, clipped, strict=True)
    ]
    np.testing.assert_allclose(measures.psnr(clean, other), psnr)
    ssim = measures.ssim(clean, other)
    for value, a, b in zip(ssim, clean, clipped, strict=True):
        expected = skimage.metrics.structural_similarity(a, b, data_range=1.0, channel_axis=-1)
        assert value == pytest.approx(expected)
        assert 0.05 < value < 0.99


def test_equal_images(rng):
    x = rng.random((2, 9, 9, 1))
    np.testing.assert_allclose(measures.psnr(x, x), 10 * np.log10(12 * 255**2))
    np.testing.assert_allclose(measures.ssim(x, x), 1)
    assert np.isnan(measures.ssim(x[:, :2], x[:, :2])).all()
    assert measures.ssim(x[:, :4], x[:, :4]) == pytest.approx(1)


def careamics_psnr(gt, pred):
    """The published definition: standardise the clean image, then scale the other one to it."""
    gt, pred = gt - gt.mean(), pred - pred.mean()
    data_range = np.ptp(gt) / gt.std()
    gt = gt / gt.std()
    fitted = pred * np.sum(gt * pred) / np.sum(pred * pred)
    return skimage.metrics.peak_signal_noise_ratio(gt, fitted, data_range=data_range)


def test_scale_invariant_psnr_against_its_definition(rng):
    clean = rng.random((4, 9, 12, 2))
    other = 3 * clean - 7 + rng.normal(0, 0.5, clean.shape)
    found = measures.scale_invariant_psnr(clean, other)
    expected = [careamics_psnr(a, b) for a, b in zip(clean, other, strict=True)]
    np.testing.assert_allclose(found, expected)
    for a, b, value in zip(clean, other, found, strict=True):
        gain, offset = np.polyfit(b.ravel(), a.ravel(), 1)
        error = np.mean((a - gain * b - offset) ** 2)
        assert value == pytest.approx(10 * np.log10(np.ptp(a) ** 2 / error))
    np.testing.assert_allclose(measures.scale_invariant_psnr(clean, 5 - 0.1 * other), found)
    np.testing.assert_allclose(measures.scale_invariant_psnr(9 * clean + 1, other), found)


def test_scale_invariant_psnr_at_its_ends(rng):
    clean = rng.random((1, 8, 8, 1))
    best = 10 * np.log10(12 * 255**2)
    np.testing.assert_allclose(measures.scale_invariant_psnr(clean, 2 * clean + 1), best)
    # Nothing can be fitted to a constant: the error is the variance of the clean image.
    constant = measures.scale_invariant_psnr(clean, np.full_like(clean, 3))
    np.testing.assert_allclose(constant, 10 * np.log10(np.ptp(clean) ** 2 / clean.var()))
    assert np.isnan(measures.scale_invariant_psnr(np.ones_like(clean), clean)).all()


def test_measures_of_images_say_how_they_are_written():
    named = KINDS["image"]().measures()
    assert list(named) == ["psnr", "ssim"]
    assert all(isinstance(measure, Measure) for measure in named.values())
    assert [measure.axis for measure in named.values()] == ["PSNR (dB)", "SSIM"]
    assert not any(measure.is_error for measure in named.values())
