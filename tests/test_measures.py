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


def test_measures_of_images_say_how_they_are_written():
    named = KINDS["image"]().measures()
    assert list(named) == ["psnr", "ssim"]
    assert all(isinstance(measure, Measure) for measure in named.values())
    assert [measure.axis for measure in named.values()] == ["PSNR (dB)", "SSIM"]
    assert not any(measure.is_error for measure in named.values())
