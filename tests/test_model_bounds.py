"""The model's bounds against the linear-Gaussian oracle, in which they have closed forms.

Monte Carlo estimates are compared within five of their own measured standard errors.
"""

import itertools

import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from dvae_tf import DVAE, corruptions, layers, randomness
from experiments.linear_gaussian import LinearGaussian

ORACLE = LinearGaussian.make()
SIZE, LATENT_DIM = ORACLE.W.shape
X = np.random.default_rng(1).normal(size=(3, SIZE))
CELLS = list(itertools.product(("elbo", "iwae"), ("conditional", "mixture")))
STANDARD_ERRORS = 5


def inverse_positive(scale):
    return np.log(np.expm1(scale - layers.SCALE_FLOOR))


def make_model(oracle=ORACLE, **kwargs) -> DVAE:
    """The oracle as a DVAE on images [SIZE, 1, 1]."""
    image = keras.Input((SIZE, 1, 1))
    q = layers.IndependentNormal(LATENT_DIM)(
        keras.layers.Dense(2 * LATENT_DIM, name="q")(keras.layers.Flatten()(image))
    )
    latent = keras.Input((LATENT_DIM,))
    p = layers.IndependentNormal((SIZE, 1, 1))(keras.layers.Dense(2 * SIZE, name="p")(latent))
    corruption = corruptions.Gaussian(oracle.sigma) if oracle.sigma else None
    model = DVAE(
        keras.Model(image, q),
        keras.Model(latent, p),
        **({"corruption": corruption} | kwargs),
    )
    model.encoder.get_layer("q").set_weights(
        [
            np.hstack([oracle.A.T, np.zeros((SIZE, LATENT_DIM))]),
            np.concatenate([oracle.c, inverse_positive(oracle.d)]),
        ]
    )
    model.decoder.get_layer("p").set_weights(
        [
            np.hstack([oracle.W.T, np.zeros((LATENT_DIM, SIZE))]),
            np.concatenate([oracle.b, np.full(SIZE, inverse_positive(oracle.s))]),
        ]
    )
    return model


def draws(model, *, repeats=20_000, seed=0):
    """Evaluate the bound `repeats` times for each x: a BoundTerms of arrays [repeats, len(X)]."""
    x = np.repeat(X, repeats, axis=0).astype(np.float32).reshape(-1, SIZE, 1, 1)
    compiled = tf.function(model.bound_terms)
    terms = compiled(tf.constant(x), seed=randomness.as_seed(seed))
    return type(terms)(*(term.numpy().reshape(len(X), repeats).T.astype(float) for term in terms))


def assert_close(samples, expected):
    """The mean over axis 0 equals `expected` within the stated number of standard errors."""
    error = samples.std(axis=0) / np.sqrt(len(samples))
    assert np.all(np.abs(samples.mean(axis=0) - expected) < STANDARD_ERRORS * error + 1e-4), (
        samples.mean(axis=0) - expected
    ) / error


class TestOracle:
    """The oracle itself, against quadrature-free identities and finite differences."""

    def test_order(self):
        assert np.all(ORACLE.log_evidence(X) > ORACLE.l_cvae(X))
        assert np.all(ORACLE.l_cvae(X) > ORACLE.l_dvae(X) + 0.1)

    def test_bounds_by_monte_carlo(self, rng):
        n = 200_000
        mean = X @ ORACLE.A.T + ORACLE.c
        z = (
            mean
            + rng.multivariate_normal(np.zeros(LATENT_DIM), ORACLE.averaged_covariance, n)[:, None]
        )
        residual = X - z @ ORACLE.W.T - ORACLE.b
        normal = -0.5 * np.log(2 * np.pi)
        log_joint = np.sum(normal - np.log(ORACLE.s) - 0.5 * (residual / ORACLE.s) ** 2, -1)
        log_joint += np.sum(normal - 0.5 * z**2, -1)
        inverse = np.linalg.inv(ORACLE.averaged_covariance)
        log_q = LATENT_DIM * normal - 0.5 * np.linalg.slogdet(ORACLE.averaged_covariance)[1]
        log_q = log_q - 0.5 * np.einsum("nbi,ij,nbj->nb", z - mean, inverse, z - mean)
        assert_close(log_joint - log_q, ORACLE.l_cvae(X))
        weights = np.exp(log_joint - log_q - ORACLE.log_evidence(X))
        assert_close(weights, 1.0)

    def test_gradients_by_finite_differences(self):
        gradients = ORACLE.l_dvae_gradients(X)
        for name, gradient in gradients.items():
            value = getattr(ORACLE, name)

            def bound(flat, name=name, shape=value.shape):
                changed = LinearGaussian(**(vars(ORACLE) | {name: flat.reshape(shape)}))
                return changed.l_dvae(X).mean()

            numeric = scipy.optimize.approx_fprime(value.ravel(), bound, 1e-6)
            np.testing.assert_allclose(gradient.ravel(), numeric, atol=1e-4)


@pytest.mark.parametrize(("m", "k"), [(1, 1), (3, 1), (1, 4), (3, 2)])
def test_conditional_mean_is_l_dvae_for_every_m_and_k(m, k):
    terms = draws(make_model(num_corruptions=m, num_samples=k))
    assert_close(terms.bound, ORACLE.l_dvae(X))
    np.testing.assert_array_equal(terms.bound, terms.elbo)
    np.testing.assert_array_equal(terms.bound, terms.objective)


def test_kl_term_against_its_closed_form():
    # E KL(q(z|x~) || p(z)), q's mean being N(A x + c, sigma^2 A A^T).
    mean = X @ ORACLE.A.T + ORACLE.c
    spread = np.trace(ORACLE.sigma**2 * ORACLE.A @ ORACLE.A.T)
    variance = ORACLE.d**2
    expected = 0.5 * (np.sum(mean**2, -1) + spread + np.sum(variance - np.log(variance) - 1))
    terms = draws(make_model())
    assert_close(terms.kl, expected)
    assert_close(terms.reconstruction, ORACLE.l_dvae(X) + expected)


@pytest.mark.parametrize(("objective", "posterior"), CELLS)
@pytest.mark.parametrize(("m", "k"), [(1, 3), (4, 1), (3, 2)])
def test_every_cell_lies_between_l_dvae_and_log_p(objective, posterior, m, k):
    kwargs = {
        "objective": objective,
        "posterior": posterior,
        "num_corruptions": m,
        "num_samples": k,
    }
    terms = draws(make_model(**kwargs))
    error = STANDARD_ERRORS * terms.bound.std(0) / np.sqrt(len(terms.bound))
    upper = ORACLE.log_evidence(X) if objective == "iwae" else ORACLE.l_cvae(X)
    assert np.all(terms.bound.mean(0) <= upper + error)
    assert np.all(terms.bound.mean(0) >= ORACLE.l_dvae(X) - error)
    # Whatever the objective, the elbo is that of the conditional cell.
    assert_close(terms.elbo, ORACLE.l_dvae(X))
    np.testing.assert_allclose(terms.elbo, terms.reconstruction - terms.kl, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("posterior", ["conditional", "mixture"])
@pytest.mark.parametrize(("m", "k"), [(1, 1), (1, 3), (4, 1), (3, 2)])
def test_mean_weight_is_an_unbiased_estimate_of_p(posterior, m, k):
    """E[(1/MK) sum w] = p(x) for both denominators: one wrong sign or log M breaks it."""
    model = make_model(objective="iwae", posterior=posterior, num_corruptions=m, num_samples=k)
    assert_close(np.exp(draws(model).bound - ORACLE.log_evidence(X)), 1.0)


def test_mixture_climbs_from_l_dvae_to_l_cvae_with_m():
    means, errors = [], []
    for m in (1, 2, 5, 15, 50):
        model = make_model(posterior="mixture", num_corruptions=m)
        bound = draws(model, repeats=16_000 if m < 50 else 4000).bound
        means.append(bound.mean(0))
        errors.append(bound.std(0) / np.sqrt(len(bound)))
    assert np.all(np.abs(means[0] - ORACLE.l_dvae(X)) < STANDARD_ERRORS * errors[0])
    steps, noise = np.diff(means, axis=0), np.hypot(errors[1:], errors[:-1])
    assert np.all(steps[:3] > 2 * noise[:3]) and np.all(steps > -STANDARD_ERRORS * noise)
    gap = ORACLE.l_cvae(X) - means
    assert np.all(gap > -STANDARD_ERRORS * np.array(errors))
    # The gap closes as 1/M: from 5 to 50 corruptions about tenfold.
    assert np.all(gap[-1] < 0.2 * gap[2])


def test_log_mean_exp_climbs_to_log_p_with_k():
    means = []
    for k in (1, 3, 10, 100):
        model = make_model(objective="iwae", num_samples=k)
        means.append(draws(model, repeats=4000).bound.mean(0))
    assert np.all(np.diff(means, axis=0) > 0)
    assert np.all(np.abs(means[-1] - ORACLE.log_evidence(X)) < 0.05)


@pytest.mark.parametrize(("objective", "posterior"), CELLS)
def test_one_sample_makes_all_cells_equal(objective, posterior):
    """M = K = 1: the four estimators are one, draw by draw, but for the analytic KL."""
    terms = draws(make_model(objective=objective, posterior=posterior), repeats=50)
    reference = draws(make_model(objective="iwae"), repeats=50)
    if (objective, posterior) == ("elbo", "conditional"):
        assert_close(terms.bound - reference.bound, 0.0)
    else:
        np.testing.assert_allclose(terms.bound, reference.bound, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("objective", "posterior"), CELLS)
def test_without_noise_the_mixture_is_the_conditional(objective, posterior):
    """No corruption: the VAE and the IWAE, and averaging equal posteriors changes nothing."""
    oracle = LinearGaussian(**(vars(ORACLE) | {"sigma": 0.0}))
    kwargs = {"num_corruptions": 2, "num_samples": 2, "objective": objective}
    terms = draws(make_model(oracle, posterior=posterior, **kwargs), repeats=3000)
    conditional = draws(make_model(oracle, **kwargs), repeats=3000)
    if objective == "elbo":
        np.testing.assert_allclose(oracle.l_cvae(X), oracle.l_dvae(X))
        assert_close(terms.bound, oracle.l_dvae(X))
    else:
        np.testing.assert_allclose(terms.bound, conditional.bound, rtol=1e-5, atol=1e-4)


def test_tril_posterior_has_the_analytic_kl(rng):
    n = LATENT_DIM
    image = keras.Input((SIZE, 1, 1))
    parameters = keras.layers.Dense(layers.MultivariateNormalTriL.params_size(n))
    q = layers.MultivariateNormalTriL(n)(parameters(keras.layers.Flatten()(image)))
    model = DVAE(keras.Model(image, q), make_model().decoder, num_samples=2)
    x = X[:1].astype(np.float32).reshape(1, SIZE, 1, 1)
    posterior = model.encoder(x)
    mean, covariance = posterior.mean().numpy()[0], posterior.covariance().numpy()[0]
    expected = 0.5 * (np.trace(covariance) + mean @ mean - n - np.linalg.slogdet(covariance)[1])
    terms = model.bound_terms(tf.constant(x), seed=randomness.as_seed(1))
    np.testing.assert_allclose(terms.kl, [expected], rtol=1e-5)


def step_gradients(oracle=ORACLE, *, groups=60, per_group=1000, **kwargs):
    """Gradients as one training step takes them, measured by SGD with rate 1: {name: [groups, ...]}."""
    model = make_model(oracle, **kwargs)
    model.compile(keras.optimizers.SGD(1.0))
    start = [v.numpy() for v in model.trainable_variables]
    x = tf.constant(np.tile(X, (per_group, 1)).astype(np.float32).reshape(-1, SIZE, 1, 1))
    step = tf.function(model.train_step)
    collected = []
    for _ in range(groups):
        for variable, value in zip(model.trainable_variables, start, strict=True):
            variable.assign(value)
        step(x)
        after = [v.numpy() for v in model.trainable_variables]
        collected.append([b - a for a, b in zip(start, after, strict=True)])
    q_kernel, q_bias, p_kernel, p_bias = map(np.array, zip(*collected, strict=True))
    # d scale / d raw of softplus, by which the step's gradients are those of the raw scale.
    slope = -np.expm1(-(oracle.d - layers.SCALE_FLOOR))
    return {
        "W": p_kernel[:, :, :SIZE].swapaxes(1, 2),
        "b": p_bias[:, :SIZE],
        "A": q_kernel[:, :, :LATENT_DIM].swapaxes(1, 2),
        "c": q_bias[:, :LATENT_DIM],
        "d": q_bias[:, LATENT_DIM:] / slope,
    }


@pytest.mark.parametrize("kwargs", [{}, {"num_corruptions": 2, "num_samples": 2}], ids=str)
def test_gradient_of_the_training_step_against_the_closed_form(kwargs):
    expected = ORACLE.l_dvae_gradients(X)
    for name, gradient in step_gradients(**kwargs).items():
        assert_close(gradient, expected[name])


def test_doubly_reparameterized_gradient_is_unbiased_and_quieter():
    # Little noise, so that the posterior is nearly right: there the score term is all noise.
    oracle = LinearGaussian.make(sigma=0.1)
    kwargs = {"objective": "iwae", "num_corruptions": 2, "num_samples": 25, "groups": 100}
    plain = step_gradients(oracle, **kwargs, per_group=100)
    doubly = step_gradients(oracle, **kwargs, per_group=100, gradient="doubly_reparameterized")
    for name in plain:
        difference = plain[name].mean(0) - doubly[name].mean(0)
        error = np.hypot(plain[name].std(0), doubly[name].std(0)) / np.sqrt(100)
        assert np.all(np.abs(difference) < STANDARD_ERRORS * error)
    for name in ("A", "c", "d"):
        assert doubly[name].std(0).mean() < 0.7 * plain[name].std(0).mean()
    # The decoder's gradient is the same estimator.
    assert doubly["W"].std(0).mean() / plain["W"].std(0).mean() == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(("objective", "posterior"), CELLS)
def test_kl_weight_scales_the_kl_term_of_the_loss_only(objective, posterior):
    model = make_model(objective=objective, posterior=posterior)
    full = draws(model, repeats=10)
    model.kl_weight.assign(0.25)
    weighted = draws(model, repeats=10)
    np.testing.assert_array_equal(weighted.bound, full.bound)
    # With one sample, bound = reconstruction + (log p(z) - log q(z)).
    expected = full.reconstruction + 0.25 * (full.bound - full.reconstruction)
    np.testing.assert_allclose(weighted.objective, expected, rtol=1e-5, atol=1e-5)
