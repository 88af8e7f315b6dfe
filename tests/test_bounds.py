import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from dvae_tf import bounds


@pytest.fixture
def log_densities(rng):
    """log p(x|z), log p(z) and log q(z): [K, M, B], far apart enough to overflow when careless."""
    return [rng.normal(loc, 30, size=(5, 3, 4)) for loc in (-700, -40, -20)]


@pytest.mark.parametrize("axis", [0, (0, 1), 2])
def test_log_mean_exp_against_scipy(log_densities, axis):
    values = log_densities[0]
    expected = scipy.special.logsumexp(
        values, axis=axis, b=1 / np.prod([values.shape[a] for a in np.atleast_1d(axis)])
    )
    np.testing.assert_allclose(bounds.log_mean_exp(tf.constant(values), axis), expected)


@pytest.mark.parametrize("kl_weight", [1.0, 0.3, 0.0])
def test_rows_of_the_table_against_numpy(log_densities, kl_weight):
    log_likelihood, log_prior, log_posterior = log_densities
    log_w = bounds.log_weights(*map(tf.constant, log_densities), kl_weight=kl_weight)
    expected = log_likelihood + kl_weight * (log_prior - log_posterior)
    np.testing.assert_allclose(log_w, expected)
    np.testing.assert_allclose(bounds.mean(log_w), expected.mean((0, 1)))
    count = np.log(15)
    log_mean = scipy.special.logsumexp(expected, axis=(0, 1)) - count
    np.testing.assert_allclose(bounds.log_mean(log_w), log_mean)


def test_mixture_density_against_numpy(rng):
    crossed = rng.normal(-50, 20, size=(3, 5, 3, 4))
    expected = np.log(np.exp(crossed).mean(axis=0))
    np.testing.assert_allclose(bounds.mixture_log_density(tf.constant(crossed)), expected)


def test_analytic_elbo_against_numpy(log_densities, rng):
    kl = rng.random((3, 4)) * 10
    result = bounds.analytic_elbo(tf.constant(log_densities[0]), tf.constant(kl), kl_weight=0.4)
    np.testing.assert_allclose(result, log_densities[0].mean((0, 1)) - 0.4 * kl.mean(0))


def test_path_log_density_keeps_the_value_and_drops_the_score():
    loc, z = tf.Variable(0.3), tf.Variable(1.1)
    with tf.GradientTape() as tape:
        value = bounds.path_log_density(lambda v: -0.5 * (v - loc) ** 2, z)
    assert value.numpy() == pytest.approx(-0.5 * 0.8**2)
    by_loc, by_z = tape.gradient(value, [loc, z])
    assert by_loc.numpy() == 0
    assert by_z.numpy() == pytest.approx(-0.8)


def test_doubly_reparameterized_weights_against_numpy(rng):
    """log w = -(z - theta)^2: the path's gradient carries w^2, the parameter's w."""
    z = tf.constant(rng.normal(size=(4, 2, 3, 1)))
    theta = tf.constant(0.7, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch([z, theta])
        estimator = bounds.DoublyReparameterized()
        log_w = -tf.reduce_sum((estimator.path(z) - theta) ** 2, axis=-1)
        bound = tf.reduce_sum(estimator.log_mean(log_w))
    by_z, by_theta = tape.gradient(bound, [z, theta])
    normalized = scipy.special.softmax(log_w.numpy().reshape(8, 3), axis=0).reshape(4, 2, 3)
    slope = -2 * (z.numpy()[..., 0] - 0.7)
    np.testing.assert_allclose(by_z[..., 0], normalized**2 * slope)
    np.testing.assert_allclose(by_theta, np.sum(normalized * -slope))
    np.testing.assert_allclose(bound, tf.reduce_sum(bounds.log_mean(log_w)))
