import inspect

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from dvae_tf import corruptions
from dvae_tf.kinds.image import Image

LEVELLED = [c for name, c in corruptions.CORRUPTIONS.items() if name != "none"]
ALL = [corruptions.Identity(), *(c(0.3) for c in LEVELLED), *(c((0.1, 0.4)) for c in LEVELLED)]
ALL += [corruptions.Chain([corruptions.Gaussian(0.2), corruptions.Masking(0.3)], clip=True)]


def images(rng, shape=(6, 9, 7, 3)):
    return rng.random(shape, np.float32)


def test_every_public_class_is_tested():
    public = {
        value
        for name, value in vars(corruptions).items()
        if inspect.isclass(value)
        and issubclass(value, corruptions.Corruption)
        and not name.startswith("_")
        and value is not corruptions.Corruption
    }
    assert public == {type(corruption) for corruption in ALL}


@pytest.mark.parametrize("corruption", ALL, ids=repr)
def test_is_a_function_of_the_seed(corruption, rng):
    x = images(rng)
    first = corruption(x, seed=1).numpy()
    assert first.shape == x.shape and first.dtype == np.float32
    np.testing.assert_array_equal(first, corruption(x, seed=1))
    if not isinstance(corruption, corruptions.Identity):
        assert np.abs(first - corruption(x, seed=2).numpy()).max() > 0.01
        assert np.abs(first - x).max() > 0.01


@pytest.mark.parametrize("corruption", ALL, ids=repr)
def test_compiles_with_unknown_batch(corruption, rng):
    x = images(rng)
    spec = tf.TensorSpec([None, *x.shape[1:]])
    compiled = tf.function(
        lambda v: corruption(v, seed=1), input_signature=[spec], jit_compile=True
    )(x).numpy()
    assert compiled.shape == x.shape
    np.testing.assert_allclose(compiled, corruption(x, seed=1), rtol=0, atol=3e-5)


@pytest.mark.parametrize("corruption", ALL, ids=repr)
def test_round_trip(corruption, rng):
    restored = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(corruption)
    )
    assert restored == corruption
    x = images(rng)
    np.testing.assert_array_equal(restored(x, seed=3), corruption(x, seed=3))


@pytest.mark.parametrize("cls", LEVELLED)
def test_level_zero_is_the_identity(cls, rng):
    x = images(rng)
    np.testing.assert_array_equal(cls(0.0)(x, seed=1), x)
    np.testing.assert_array_equal(cls((0.0, 0.0), clip=True)(x, seed=1), x)


@pytest.mark.parametrize("cls", LEVELLED)
def test_clips_on_request_only(cls):
    x = np.stack([np.zeros((20, 20, 1)), np.ones((20, 20, 1))]).astype(np.float32)
    clipped = cls(0.8, clip=True)(x, seed=1).numpy()
    assert clipped.min() >= 0 and clipped.max() <= 1
    np.testing.assert_array_equal(clipped, np.clip(cls(0.8)(x, seed=1), 0, 1))


@pytest.mark.parametrize(
    ("cls", "value", "mean", "stddev"),
    [
        (corruptions.Gaussian, 0.4, 0.4, 0.2),
        (corruptions.Speckle, 0.4, 0.4, 0.4 * 0.2),
        (corruptions.Poisson, 0.4, 0.4, 0.2 * np.sqrt(0.4)),
        # Hit with probability 0.2: then 0 or 1 with equal odds.
        (corruptions.SaltPepper, 0.4, 0.8 * 0.4 + 0.1, None),
        # Hit with probability 0.2: then 1 with probability 0.2.
        (corruptions.AuthorsSaltPepper, 0.4, 0.8 * 0.4 + 0.04, None),
        (corruptions.Masking, 0.4, 0.8 * 0.4, None),
    ],
)
def test_moments(cls, value, mean, stddev):
    n = 200_000
    noisy = cls(0.2)(np.full((1, n), value, np.float32), seed=5).numpy().astype(float)
    standard_error = noisy.std() / np.sqrt(n)
    assert abs(noisy.mean() - mean) < 5 * standard_error
    if stddev is not None:
        fourth = np.mean((noisy - noisy.mean()) ** 4)
        error_of_variance = np.sqrt((fourth - noisy.var() ** 2) / n)
        assert abs(noisy.var() - stddev**2) < 5 * error_of_variance


@pytest.mark.parametrize(
    ("cls", "probabilities"),
    [
        (corruptions.SaltPepper, {0.0: 0.15, 1.0: 0.15, 0.5: 0.7}),
        (corruptions.AuthorsSaltPepper, {0.0: 0.3 * 0.7, 1.0: 0.3 * 0.3, 0.5: 0.7}),
        (corruptions.Masking, {0.0: 0.3, 0.5: 0.7}),
    ],
)
def test_impulse_probabilities(cls, probabilities):
    n = 100_000
    noisy = cls(0.3)(np.full((1, n), 0.5, np.float32), seed=5).numpy()
    counts = [np.sum(noisy == value) for value in probabilities]
    assert sum(counts) == n
    assert scipy.stats.chisquare(counts, n * np.array(list(probabilities.values()))).pvalue > 1e-4


def test_gaussian_noise_is_gaussian():
    noise = corruptions.Gaussian(0.25)(np.zeros((1, 20_000), np.float32), seed=1).numpy().ravel()
    assert scipy.stats.kstest(noise / 0.25, "norm").pvalue > 1e-3


def test_poisson_counts_photons():
    level = 0.5  # a pixel of value 0.75 counts 0.75 / 0.25 = 3 photons on average
    noisy = corruptions.Poisson(level)(np.full((1, 20_000), 0.75, np.float32), seed=1).numpy()
    counts = np.round(noisy.ravel() / level**2)
    np.testing.assert_allclose(noisy.ravel(), counts * level**2, atol=1e-6)
    observed = np.bincount(counts.astype(int), minlength=12)[:12]
    expected = scipy.stats.poisson(3).pmf(np.arange(12)) * counts.size
    assert scipy.stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(40, 20), (13, 13), (1, 1)])
def test_block_is_one_rectangle_of_the_right_area(shape):
    height, width = shape
    noisy = corruptions.BlockOcclusion(0.25)(np.ones((200, height, width, 2)), seed=1).numpy()
    np.testing.assert_array_equal(noisy[..., 0], noisy[..., 1])
    sides = round(height / 2), round(width / 2)
    starts = set()
    for image in noisy[..., 0]:
        rows, columns = np.nonzero(image == 0)
        assert len(rows) == sides[0] * sides[1]
        if len(rows):
            assert np.ptp(rows) + 1 == sides[0] and np.ptp(columns) + 1 == sides[1]
            starts.add((rows.min(), columns.min()))
    if height == 40:  # every corner of the range is reached
        assert {row for row, _ in starts} == set(range(21))
        assert {column for _, column in starts} == set(range(11))


def test_range_draws_one_level_for_each_example():
    x = np.zeros((4000, 400), np.float32)
    stddevs = corruptions.Gaussian((0.1, 0.3))(x, seed=1).numpy().std(axis=1)
    # Each row's standard deviation is measured to 1 / sqrt(800) of itself: about 0.01.
    assert scipy.stats.kstest(stddevs, "uniform", args=(0.1, 0.2)).statistic < 0.05
    assert stddevs.min() < 0.11 and stddevs.max() > 0.29


def test_chain_applies_its_links_in_order(rng):
    x = images(rng)
    gaussian_then_mask = corruptions.Chain([corruptions.Gaussian(0.1), corruptions.Masking(0.5)])
    masked = gaussian_then_mask(x, seed=1).numpy() == 0
    assert 0.4 < masked.mean() < 0.6
    mask_then_gaussian = corruptions.Chain([corruptions.Masking(0.5), corruptions.Gaussian(0.1)])
    assert not np.any(mask_then_gaussian(x, seed=1).numpy() == 0)


def test_links_of_a_chain_draw_independently():
    n = 100_000
    twice = corruptions.Chain([corruptions.Masking(0.5), corruptions.Masking(0.5)])
    kept = twice(np.ones((1, n), np.float32), seed=3).numpy().mean()
    assert abs(kept - 0.25) < 5 * np.sqrt(0.25 * 0.75 / n)


def test_levels_are_independent_of_the_noise():
    """A value is hit where a uniform draw is below its level, another uniform draw: half of all."""
    n = 100_000
    kept = corruptions.Masking((0.0, 1.0))(np.ones((n, 1), np.float32), seed=3).numpy().mean()
    assert abs(kept - 0.5) < 5 * 0.5 / np.sqrt(n)


def test_highest_level():
    assert corruptions.highest(0.3) == 0.3
    assert corruptions.highest((0.1, 0.4)) == corruptions.highest([0.1, 0.4]) == 0.4


@pytest.mark.parametrize("cls", LEVELLED)
@pytest.mark.parametrize("level", [-0.1, 1.5, float("nan"), (0.1, 2.0), (0.3, 0.1), (0.1,), ()])
def test_refuses_levels_out_of_range(cls, level):
    with pytest.raises(ValueError, match=r"`level` must be .*Received: level="):
        cls(level)


@pytest.mark.parametrize("level", ["0.1", None, True, ("a", "b")])
def test_refuses_levels_that_are_no_numbers(level):
    with pytest.raises(TypeError, match="`level` must be a number"):
        corruptions.Gaussian(level)


def test_hints_at_the_pixel_scale():
    with pytest.raises(ValueError, match=r"\[0, 1\] pixel scale: for 25 .* give 0.098"):
        corruptions.Gaussian(25)


def test_hints_at_percent():
    with pytest.raises(ValueError, match=r"Received: level=20\. For 20 % give 0\.2\."):
        corruptions.SaltPepper(20)
    with pytest.raises(ValueError, match=r"level=128\. Give a level from 0"):
        corruptions.SaltPepper(128)


def test_describes_sigma_on_both_scales():
    assert corruptions.Gaussian(25 / 255).describe() == "gaussian, sigma=0.098"
    described = Image().describe_noise(corruptions.Gaussian(25 / 255))
    assert described == "gaussian, sigma=0.098 (25/255)"
    assert corruptions.Masking((0.1, 0.3)).describe() == "masking, level=0.1 to 0.3"


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"gaussian, masking, none.* Received: 'snow'"):
        corruptions.from_name("snow")


def test_refuses_an_empty_chain():
    with pytest.raises(TypeError, match="non-empty list"):
        corruptions.Chain([])


def test_parts_of_an_example_draw_independently():
    x = np.full((1, 10_000), 0.5, np.float32)
    noisy = corruptions.Gaussian(0.1)({"a": x, "b": (x, x)}, seed=1)
    noise = [part.numpy().ravel() - 0.5 for part in tf.nest.flatten(noisy)]
    correlations = np.corrcoef(noise)[np.triu_indices(3, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(10_000)
    assert np.std(noise, axis=1) == pytest.approx(0.1, rel=5 / np.sqrt(20_000))
