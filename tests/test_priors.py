"""Priors against SciPy, and a model whose prior is not the standard normal one."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from dvae_tf import DVAE, layers, likelihood, networks, randomness
from dvae_tf.priors import PRIORS, Prior, StandardNormal

SEED = randomness.as_seed(3)


@keras.saving.register_keras_serializable(package="test_priors")
class Shifted(Prior):
    """N(1, I / 4): a prior without closed forms, narrower than an untrained posterior."""

    def log_prob(self, z):
        return tfd.Independent(tfd.Normal(tf.ones(self.event_shape), 0.5), 1).log_prob(z)

    def sample(self, num_samples, *, seed):
        return 1.0 + 0.5 * randomness.normal([num_samples, *self.event_shape], seed)


@keras.saving.register_keras_serializable(package="test_priors")
class Learned(Shifted):
    """N(loc, I / 4) with a loc that is trained."""

    def __init__(self, event_shape, **kwargs):
        super().__init__(event_shape, **kwargs)
        self.loc = self.add_weight(shape=self.event_shape, initializer="zeros", name="loc")

    def log_prob(self, z):
        return tfd.Independent(tfd.Normal(tf.convert_to_tensor(self.loc), 0.5), 1).log_prob(z)


def test_every_prior_is_tested():
    assert set(PRIORS) == {"standard_normal"}


def test_log_prob_is_scipys(rng):
    z = rng.normal(size=(4, 5, 3)).astype(np.float32)
    expected = scipy.stats.norm.logpdf(z).sum(-1)
    np.testing.assert_allclose(StandardNormal((3,)).log_prob(z), expected, rtol=1e-6)


def test_log_prob_of_two_parts_is_the_sum(rng):
    z = (rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(5, 2)).astype(np.float32))
    expected = scipy.stats.norm.logpdf(np.concatenate(z, 1)).sum(-1)
    np.testing.assert_allclose(StandardNormal(((3,), (2,))).log_prob(z), expected, rtol=1e-6)


def test_samples_have_moments_and_parts_are_independent():
    parts = StandardNormal(((2,), (3,), (2,))).sample(40_000, seed=SEED)
    z = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(z.mean(0), 0, atol=5 / np.sqrt(len(z)))
    np.testing.assert_allclose(np.cov(z.T), np.eye(7), atol=5 * np.sqrt(2 / len(z)))


@pytest.mark.parametrize(
    "layer", [layers.IndependentNormal(3), layers.MultivariateNormalTriL(3)], ids=type
)
def test_kl_is_the_closed_form_of_normals(layer, rng):
    q = layer(rng.normal(size=(4, layer.params_size(3))).astype(np.float32))
    mean = q.mean().numpy()
    is_independent = isinstance(layer, layers.IndependentNormal)
    variance = q.variance().numpy()
    covariance = np.stack([np.diag(v) for v in variance]) if is_independent else q.covariance()
    # KL(N(m, S) || N(0, I)) = (tr S + m'm - L - log det S) / 2
    trace = np.trace(covariance, axis1=1, axis2=2)
    expected = 0.5 * (trace + (mean**2).sum(1) - 3 - np.linalg.slogdet(covariance)[1])
    prior = StandardNormal((3,))
    np.testing.assert_allclose(prior.kl(q), expected, rtol=1e-5)
    if is_independent:
        per_unit = prior.kl_per_unit(mean, q.stddev().numpy())
        np.testing.assert_allclose(per_unit.sum(), expected.mean(), rtol=1e-5)


def test_there_is_no_closed_form_for_others():
    prior = StandardNormal((1,))
    assert prior.kl(tfd.Independent(tfd.StudentT(3.0, [0.0], 1.0), 1)) is None
    assert Shifted((2,)).kl_per_unit(np.zeros((1, 2)), np.ones((1, 2))) is None
    assert Shifted((2,)).quantile(np.array(0.5)) is None


def test_quantiles_are_those_of_the_density():
    z = StandardNormal((1,)).quantile(np.array([0.025, 0.5, 0.975]))
    np.testing.assert_allclose(z, [-1.959964, 0, 1.959964], atol=1e-6)


@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_bounds_use_the_prior_of_the_model(objective, rng):
    """For an encoder that ignores its input all terms are known."""
    encoder, decoder = networks.mlp((2, 2, 1), 3, "gaussian", hidden=(4,))
    x = tf.constant(rng.random((6, 2, 2, 1)), tf.float32)
    num_samples = 40_000
    models = {
        prior: DVAE(
            encoder, decoder, prior=prior, objective=objective, num_samples=num_samples, seed=1
        )
        for prior in (None, Shifted((3,)))
    }
    terms = {prior: model.bound_terms(x, seed=SEED) for prior, model in models.items()}
    (shifted,) = (prior for prior in models if prior is not None)
    q = encoder(x)
    mean, stddev = q.mean().numpy(), q.stddev().numpy()
    # KL(N(m, s^2) || N(1, 1/4)) = -log(2 s) + 2 (s^2 + (m - 1)^2) - 1/2
    expected = (-np.log(2 * stddev) + 2 * (stddev**2 + (mean - 1) ** 2) - 0.5).sum(1)
    z = q.sample(num_samples, seed=1)
    error = np.std(q.log_prob(z) - shifted.log_prob(z), axis=0) / np.sqrt(num_samples)
    assert np.all(np.abs(terms[shifted].kl - expected) < 5 * error)
    np.testing.assert_allclose(
        terms[shifted].elbo, terms[shifted].reconstruction - terms[shifted].kl, rtol=1e-5
    )
    np.testing.assert_array_equal(terms[None].reconstruction, terms[shifted].reconstruction)
    # elbo() falls back as bound_terms does.
    elbo = [models[shifted].elbo(x, num_samples=2_000, seed=seed).numpy() for seed in range(20)]
    log_p = decoder(tf.reshape(z, [-1, 3])).log_prob(tf.tile(x, [num_samples, 1, 1, 1]))
    log_p = tf.reshape(log_p, [num_samples, 6]).numpy()
    error = np.hypot(np.std(elbo, 0) / np.sqrt(20), log_p.std(0) / np.sqrt(num_samples))
    assert np.all(np.abs(np.mean(elbo, 0) - (log_p.mean(0) - expected)) < 5 * error)


def test_samples_and_evidence_use_the_prior_of_the_model(rng):
    encoder, decoder = networks.mlp((2, 2, 1), 2, "bernoulli", hidden=(4,))
    kernel, bias = encoder.weights[-2:]  # a proposal as wide as the posterior, wherever that lies
    kernel.assign(tf.zeros_like(kernel))
    bias.assign(tf.ones_like(bias))
    model = DVAE(encoder, decoder, prior=Shifted((2,)), seed=1)
    drawn = model.sample(20_000, seed=7).numpy()
    z = (1 + 0.5 * rng.normal(size=(20_000, 2))).astype(np.float32)
    other = decoder(z).mean().numpy()
    error = np.hypot(drawn.std(0), other.std(0)) / np.sqrt(20_000)
    assert np.all(np.abs(drawn.mean(0) - other.mean(0)) < 5 * error)
    assert np.any(np.abs(drawn.mean(0) - decoder(0 * z[:1]).mean()[0]) > 20 * error)
    # log p(x) = log E_p(z)[p(x|z)] by plain Monte Carlo, from draws of NumPy's
    x = rng.random((3, 2, 2, 1)).astype(np.float32)
    draws = (1 + 0.5 * rng.normal(size=(100_000, 2))).astype(np.float32)
    weights = np.exp([decoder(draws).log_prob(row[None]).numpy() for row in x])  # [3, S]
    expected, error = np.log(weights.mean(1)), weights.std(1) / weights.mean(1) / np.sqrt(100_000)
    estimate = likelihood.importance_sampling(encoder, decoder, x, prior=model.prior)
    total = np.hypot(error, estimate.monte_carlo_error)
    assert np.all(np.abs(estimate.log_likelihood - expected) < 5 * total)
    np.testing.assert_array_equal(model.log_likelihood(x), estimate.log_likelihood)


def test_a_learned_prior_is_trained_saved_and_loaded(tmp_path, rng):
    encoder, decoder = networks.mlp((2, 2, 1), 2, "gaussian", hidden=(4,))
    model = DVAE(encoder, decoder, prior=Learned((2,)), seed=1)
    model.compile(keras.optimizers.Adam(0.1))
    assert any(v is model.prior.loc for v in model.trainable_variables)
    x = rng.random((16, 2, 2, 1)).astype(np.float32)
    model.fit(x, batch_size=16, epochs=3, verbose=0)
    assert np.abs(model.prior.loc.numpy()).min() > 0
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.prior, Learned)
    np.testing.assert_array_equal(loaded.prior.loc, model.prior.loc)
    np.testing.assert_array_equal(loaded.sample(3, seed=1), model.sample(3, seed=1))


def test_refuses_what_is_no_prior():
    pair = networks.mlp((2, 2, 1), 2, hidden=(4,))
    with pytest.raises(TypeError, match="`prior` must be None or made from"):
        DVAE(*pair, prior=tfd.Normal(0.0, 1.0))
    with pytest.raises(TypeError, match="`kind` must be None or made from"):
        DVAE(*pair, kind="image")
