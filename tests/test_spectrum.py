import numpy as np
import pytest
import scipy.ndimage

from dvae_tf.kinds.image import spectrum


@pytest.mark.parametrize("shape", [(32, 32, 1), (31, 48, 2), (40, 25, 3)])
def test_white_noise_has_its_variance_at_all_frequencies(shape, rng):
    images = 0.5 + 0.3 * rng.normal(size=(300, *shape))
    frequency, power = spectrum.radial_power(images)
    rings = min(shape[:2]) // 2
    assert frequency.shape == (rings,) and power.shape == (300, rings)
    error = power.std(axis=0) / np.sqrt(300)
    # The window spreads the mean over the lowest ring, and subtracting it takes off a quarter there.
    assert (np.abs(power.mean(axis=0) - 0.09)[1:] < 5 * error[1:]).all()
    assert power.mean(axis=0)[0] == pytest.approx(0.75 * 0.09, rel=0.1)


@pytest.mark.parametrize("cycles", [4, 7, 12])
def test_stripes_have_their_power_at_their_frequency(cycles):
    rows, columns = np.indices((32, 48))
    for angle in (rows / 32 * cycles, columns / 48 * cycles * 48 / 32):
        images = np.sin(2 * np.pi * angle)[np.newaxis, ..., np.newaxis]
        frequency, power = spectrum.radial_power(images)
        assert frequency[np.argmax(power)] == pytest.approx(cycles / 32, abs=0.02)
        near = np.abs(frequency - cycles / 32) < 2.5 / 32
        assert power[0, near].sum() > 0.99 * power.sum()


def test_frequencies_are_cycles_per_pixel():
    frequency, _ = spectrum.radial_power(np.zeros((1, 64, 64, 1)))
    np.testing.assert_allclose(frequency, np.arange(1, 33) / 64, atol=0.004)
    assert frequency[-1] == pytest.approx(0.5, abs=0.01)


def test_blur_takes_the_power_that_its_filter_says(rng):
    images = rng.normal(size=(200, 64, 64, 1))
    blurred = scipy.ndimage.gaussian_filter(images, (0, 1, 1, 0), mode="wrap", truncate=8)
    frequency, power = spectrum.radial_power(images)
    ratio = spectrum.radial_power(blurred)[1].mean(0) / power.mean(0)
    expected = np.exp(-((2 * np.pi * frequency) ** 2))  # |exp(-omega^2 / 2)|^2
    chosen = frequency < 0.3
    np.testing.assert_allclose(ratio[chosen], expected[chosen], rtol=0.1)


def test_a_constant_has_no_power_and_the_level_does_not_matter(rng):
    np.testing.assert_allclose(spectrum.radial_power(np.full((2, 9, 9, 1), 7.0))[1], 0, atol=1e-20)
    images = rng.random((2, 16, 16, 1))
    expected = spectrum.radial_power(images)[1]
    np.testing.assert_allclose(spectrum.radial_power(images + 50)[1], expected, rtol=1e-8)
    np.testing.assert_allclose(spectrum.radial_power(3 * images)[1], 9 * expected, rtol=1e-8)


def test_refuses_other_shapes(rng):
    for shape in ((8, 8, 1), (1, 3, 8, 1)):
        with pytest.raises(ValueError, match=r"`images` must have the shape \[N, H, W, C\]"):
            spectrum.radial_power(rng.random(shape))
