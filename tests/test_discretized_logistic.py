import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from dvae_tf.kinds.image.pixels import LEVELS
from dvae_tf.layers.discretized_logistic import (
    DiscretizedLogistic,
    IndependentDiscretizedLogistic,
)

PARAMETERS = [(0.5, 0.1), (0.0, 0.02), (1.0, 0.3), (-0.2, 0.05), (0.31, 0.001), (0.7, 2.0)]
PARAMETERS += [(1.0073, 0.001)]  # nearly always white: E[X^2] and E[X]^2 are equal to rounding
GRID = np.arange(LEVELS) / (LEVELS - 1)


def masses(loc, scale):
    """The distribution by SciPy in double precision, from its definition."""
    edges = (np.arange(LEVELS - 1) + 0.5) / (LEVELS - 1)
    cdf = np.concatenate([[0], scipy.stats.logistic(loc, scale).cdf(edges)])
    survival = np.concatenate([scipy.stats.logistic(loc, scale).sf(edges), [0]])
    low = np.diff(np.append(cdf, 1.0))
    high = -np.diff(np.insert(survival, 0, 1.0))
    return np.where(loc > GRID, low, high)  # each from the side without cancellation


@pytest.mark.parametrize(("loc", "scale"), PARAMETERS)
def test_log_prob_against_scipy(loc, scale):
    expected = masses(loc, scale)
    assert expected.sum() == pytest.approx(1, abs=1e-12)
    visible = expected > 1e-250
    log_prob = DiscretizedLogistic(loc, scale).log_prob(GRID.astype(np.float32)).numpy()
    assert np.isfinite(log_prob).all()
    np.testing.assert_allclose(log_prob[visible], np.log(expected[visible]), rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize(("loc", "scale"), PARAMETERS)
def test_moments_against_the_sum_over_levels(loc, scale):
    distribution, p = DiscretizedLogistic(loc, scale), masses(loc, scale)
    mean = np.sum(p * GRID)
    assert distribution.mean().numpy() == pytest.approx(mean, abs=1e-5)
    variance = np.sum(p * GRID**2) - mean**2
    assert distribution.variance().numpy() == pytest.approx(variance, abs=2e-6)
    compiled = tf.function(distribution.stddev, jit_compile=True)()
    assert compiled.numpy() == pytest.approx(np.sqrt(variance), abs=1e-3)


@pytest.mark.parametrize(("loc", "scale"), PARAMETERS)
def test_samples_follow_log_prob(loc, scale):
    n = 20_000
    samples = DiscretizedLogistic(loc, scale).sample(n, seed=[1, 2]).numpy()
    counts = np.bincount(np.round(samples * (LEVELS - 1)).astype(int), minlength=LEVELS)
    np.testing.assert_allclose(samples, np.round(samples * 255) / 255, atol=1e-7)
    order = np.argsort(-masses(loc, scale))[:10]
    expected = np.append(masses(loc, scale)[order] * n, 0)
    observed = np.append(counts[order], n - counts[order].sum())
    expected[-1] = n - expected.sum()
    kept = expected > 5
    # Bins too small for the test are pooled into its last one.
    observed = np.append(observed[kept], observed[~kept].sum())
    expected = np.append(expected[kept], expected[~kept].sum())
    if expected[-1] < 5:
        observed[0] += observed[-1]
        expected[0] += expected[-1]
        observed, expected = observed[:-1], expected[:-1]
    if len(expected) > 1:
        assert scipy.stats.chisquare(observed, expected).pvalue > 1e-4
    else:
        assert observed[0] == n


def test_values_off_the_support_have_no_mass():
    log_prob = DiscretizedLogistic(0.5, 0.1).log_prob([-0.1, 1.1]).numpy()
    assert np.all(log_prob == -np.inf)


def test_gradients_against_finite_differences():
    loc, scale = tf.constant([0.5, 0.02, 0.9]), tf.constant([0.1, 0.01, 0.3])
    x = np.array([100, 0, 255]) / 255
    with tf.GradientTape() as tape:
        tape.watch([loc, scale])
        value = DiscretizedLogistic(loc, scale).log_prob(x.astype(np.float32))
    gradients = tape.gradient(value, [loc, scale])
    index = np.round(x * 255).astype(int)

    def log_mass(loc, scale):
        return np.array(
            [np.log(masses(m, s)[i]) for m, s, i in zip(loc, scale, index, strict=True)]
        )

    m, s, h = loc.numpy().astype(float), scale.numpy().astype(float), 1e-6
    by_loc = (log_mass(m + h, s) - log_mass(m - h, s)) / (2 * h)
    by_scale = (log_mass(m, s + h) - log_mass(m, s - h)) / (2 * h)
    np.testing.assert_allclose(gradients[0], by_loc, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(gradients[1], by_scale, rtol=2e-3, atol=1e-3)


def test_a_saved_layer_keeps_its_number_of_levels():
    layer = IndependentDiscretizedLogistic(1, num_levels=16)
    p = IndependentDiscretizedLogistic.from_config(layer.get_config())(np.zeros((1, 2)))
    levels = (np.arange(16) / 15).astype(np.float32)[:, np.newaxis]
    assert np.exp(p.log_prob(levels)).sum() == pytest.approx(1, abs=1e-5)
