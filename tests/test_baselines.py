import numpy as np
import pytest
import scipy.ndimage
from skimage import restoration

from dvae_tf.kinds import KINDS
from dvae_tf.kinds.image import baselines


@pytest.mark.parametrize("name", baselines.BASELINES)
@pytest.mark.parametrize("shape", [(32, 24, 1), (16, 16, 3)])
def test_denoises_a_smooth_image(name, shape, rng):
    rows, columns = np.indices(shape[:2]) / shape[0]
    clean = np.repeat((0.5 + 0.3 * np.sin(3 * rows) * columns)[None, ..., None], shape[2], -1)
    noisy = clean + 0.1 * rng.normal(size=clean.shape)
    denoised = baselines.denoise(name, noisy, sigma=0.1)
    assert denoised.shape == noisy.shape
    assert np.mean((denoised - clean) ** 2) < 0.5 * np.mean((noisy - clean) ** 2)


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_any_size_and_no_noise(name, rng):
    for shape in ((2, 1, 1, 1), (2, 3, 5, 2)):
        images = rng.random(shape)
        assert baselines.denoise(name, images, sigma=0.1).shape == shape
        assert np.isfinite(baselines.denoise(name, images, sigma=0.0)).all()


@pytest.mark.parametrize("name", ["total_variation", "non_local_means", "wavelet"])
def test_uses_the_strength_of_the_noise(name, rng):
    noisy = rng.random((1, 16, 16, 1))
    weak, strong = (baselines.denoise(name, noisy, sigma=s) for s in (0.02, 0.5))
    assert strong.std() < weak.std()


def test_parameters_are_those_documented(rng):
    noisy = 0.5 + 0.1 * rng.normal(size=(24, 16))
    expected = {
        "median": scipy.ndimage.median_filter(noisy, 3, mode="nearest"),
        "total_variation": restoration.denoise_tv_chambolle(noisy, 0.1),
        "non_local_means": restoration.denoise_nl_means(noisy, 5, 6, h=0.08, sigma=0.1),
        "wavelet": restoration.denoise_wavelet(noisy, 0.1),
    }
    assert expected.keys() == baselines.BASELINES.keys()
    for name, denoised in expected.items():
        found = baselines.denoise(name, noisy[np.newaxis, ..., np.newaxis], sigma=0.1)
        np.testing.assert_allclose(found[0, ..., 0], denoised, rtol=1e-6, err_msg=name)


def test_of_the_kind_are_all_of_them_with_a_label(rng):
    noisy = rng.random((2, 8, 8, 1))
    named = KINDS["image"]().baselines()
    assert list(named) == list(baselines.BASELINES)
    assert named["non_local_means"].label == "non-local means"
    for name, denoise in named.items():
        expected = baselines.denoise(name, noisy, sigma=0.1)
        np.testing.assert_array_equal(denoise(noisy, sigma=0.1), expected)
