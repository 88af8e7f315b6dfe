import math

import numpy as np
import pytest
from test_model_bounds import ORACLE, SIZE, X, make_model

from dvae_tf import corruptions, likelihood

IMAGES = X.astype(np.float32).reshape(-1, SIZE, 1, 1)
EXACT = ORACLE.log_evidence(X)


def estimate(model=None, images=IMAGES, **kwargs):
    """Without XLA, unless said: compiling would take most of these tests' time."""
    model = model or make_model()
    kwargs.setdefault("jit_compile", False)
    return likelihood.importance_sampling(model.encoder, model.decoder, images, **kwargs)


@pytest.mark.parametrize("num_samples", [5000, 4999, 777])
@pytest.mark.parametrize("rows", [1, 300, 5000])
def test_against_the_closed_form(num_samples, rows):
    if rows == 1 and num_samples > 1000:
        pytest.skip("the same loop, only longer")
    result = estimate(num_samples=num_samples, rows=rows)
    assert result.log_likelihood.shape == (len(X),)
    assert np.all(result.monte_carlo_error > 0)
    # Its own error: five of them, and a fair part of the deviation is in sight of one.
    assert np.all(np.abs(result.log_likelihood - EXACT) < 5 * result.monte_carlo_error)


def test_error_estimate_of_two_samples():
    """Of the weights a and b it is |a - b| / (a + b): their standard error over their mean."""
    one, two = estimate(num_samples=1), estimate(num_samples=2)  # the first sample is the same
    a, mean = np.exp(one.log_likelihood), np.exp(two.log_likelihood)
    np.testing.assert_allclose(two.monte_carlo_error, np.abs(a - mean) / mean, rtol=1e-4)


@pytest.mark.slow
def test_error_estimate_is_that_of_repeats():
    results = [estimate(num_samples=500, seed=seed) for seed in range(60)]
    spread = np.std([r.log_likelihood for r in results], axis=0, ddof=1)
    claimed = np.mean([r.monte_carlo_error for r in results], axis=0)
    # 60 repeats measure a standard deviation to about 9 %.
    np.testing.assert_allclose(claimed, spread, rtol=5 * 0.095)


@pytest.mark.parametrize(("num_samples", "rows"), [(1, 5000), (7, 3), (7, 6), (10, 12)])
def test_takes_exactly_as_many_samples_as_asked(num_samples, rows):
    """E[p^] = p for every n: an uneven last chunk that was counted in full would show."""
    x = np.repeat(IMAGES, 4000, axis=0)
    result = estimate(images=x, num_samples=num_samples, rows=rows * 100)
    ratio = np.exp(result.log_likelihood - np.repeat(EXACT, 4000)).reshape(len(X), 4000)
    error = ratio.std(1) / math.sqrt(4000)
    assert np.all(np.abs(ratio.mean(1) - 1) < 5 * error)
    assert np.isnan(result.monte_carlo_error).all() == (num_samples == 1)


def test_rises_with_the_number_of_samples():
    x = np.repeat(IMAGES, 1000, axis=0)
    means = [estimate(images=x, num_samples=n).mean for n in (1, 5, 50)]
    assert means[0] < means[1] < means[2] < EXACT.mean() + 0.01


@pytest.mark.parametrize("m", [1, 2, 3])
def test_mixture_proposal(m):
    # Noise so strong that no posterior of the mixture can do for another.
    result = estimate(
        num_samples=5000, corruption=corruptions.Gaussian(1.0), num_corruptions=m, seed=3
    )
    assert np.all(np.abs(result.log_likelihood - EXACT) < 5 * result.monte_carlo_error)


def test_annealed_importance_sampling_agrees():
    """So many chains show whether transitions accept by the density of their own temperature.

    By that of the temperature before, the estimates are 0.06 to 0.07 too high.
    """
    model = make_model()
    result = likelihood.annealed_importance_sampling(
        model.decoder, IMAGES, latent_dim=2, num_chains=4000, num_temperatures=60
    )
    assert np.all(result.monte_carlo_error < 0.01)
    assert np.all(np.abs(result.log_likelihood - EXACT) < 5 * result.monte_carlo_error)


@pytest.mark.parametrize("count", [1, 3, 101])
def test_any_number_of_images_and_the_same_for_each(count):
    x = np.repeat(IMAGES, 40, axis=0)[:count]
    done = []
    result = estimate(
        images=x, num_samples=20, progress=lambda part, whole: done.append((part, whole))
    )
    assert len(result.log_likelihood) == count
    assert done[-1] == (count, count)
    again = estimate(images=x, num_samples=20)
    np.testing.assert_array_equal(result.log_likelihood, again.log_likelihood)


def test_every_block_draws_anew():
    """Of one image, 200 times in two blocks: with shared draws their errors would not cancel."""
    result = estimate(images=np.repeat(IMAGES[:1], 200, axis=0), num_samples=8)
    assert len(set(result.log_likelihood.tolist())) == 200


def test_model_method_and_xla():
    model, images = make_model(), np.clip(IMAGES, 0, 1)
    np.testing.assert_allclose(
        model.log_likelihood(images, num_samples=50, seed=2),
        estimate(model, images, num_samples=50, seed=2).log_likelihood,
        rtol=1e-5,
    )


def test_summaries():
    result = likelihood.LogLikelihood(np.array([-1.0, -3.0]), np.array([0.3, 0.4]), 10)
    assert result.mean == -2.0
    assert result.standard_error == pytest.approx(1.0)
    assert result.mean_monte_carlo_error == pytest.approx(0.25)
    assert likelihood.bits_per_dimension(-8 * math.log(2), (2, 2, 1)) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "kwargs", [{"num_samples": 0}, {"rows": 0}, {"num_corruptions": 0}, {"num_corruptions": 2}]
)
def test_refuses_numbers(kwargs):
    with pytest.raises(ValueError, match=f"`{next(iter(kwargs))}` must be"):
        estimate(**kwargs)
