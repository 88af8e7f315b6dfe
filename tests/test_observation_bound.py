"""The observation bound and the conditional bound, and docs/bounds.md's words about them.

Oracles are closed forms of linear-Gaussian models. Monte Carlo estimates are compared within five of
their own measured standard errors.
"""

import re

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from conftest import ROOT
from tensorflow_probability import distributions as tfd

from dvae_tf import DVAE, latents, layers, observations, randomness
from experiments import scalar_example
from experiments.linear_gaussian import LinearGaussian
from experiments.scalar_example import ScalarExample

STANDARD_ERRORS = 5
EXAMPLES = [ScalarExample(s=1.3, sigma=sigma) for sigma in (0.4, 1.3, 4.0)]
PAGE, GUIDE = (
    " ".join((ROOT / "docs" / name).read_text(encoding="utf-8").split())
    for name in ("bounds.md", "denoise-your-images.md")
)


def assert_close(samples, expected):
    """The mean over axis 0 equals `expected` within the stated number of standard errors."""
    samples = np.asarray(samples, float)
    error = samples.std(axis=0) / np.sqrt(len(samples))
    deviation = samples.mean(axis=0) - expected
    assert np.all(np.abs(deviation) < STANDARD_ERRORS * error), deviation / error


def inverse_positive(scale):
    return np.log(np.expm1(scale - layers.SCALE_FLOOR))


# ---- a linear-Gaussian model ----

W = np.array([[1.2, 0.3], [-0.6, 0.8], [0.5, 0.5], [0.1, -0.9]])
B = np.array([0.3, -0.2, 0.5, 0.1])
SIGMA = 0.5
NOISY_COVARIANCE = W @ W.T + SIGMA**2 * np.eye(4)
WIENER = W @ W.T @ np.linalg.inv(NOISY_COVARIANCE)  # C (C + sigma^2 I)^-1


def observe(count, rng):
    """Return y = W z + b + sigma n: float32 [count, 4]."""
    signal = rng.normal(size=(count, 2)) @ W.T + B
    return (signal + SIGMA * rng.normal(size=signal.shape)).astype(np.float32)


def linear_model(sigma=SIGMA, **kwargs):
    """A linear encoder with a full covariance, and a linear signal seen with Gaussian noise."""
    inputs, latent = keras.Input((4,)), keras.Input((2,))
    q = layers.MultivariateNormalTriL(2)(keras.layers.Dense(5, name="q")(inputs))
    s = keras.layers.Dense(4, name="s")(latent)
    p = layers.ObservedSignal(observations.Gaussian(sigma))(s)
    return DVAE(keras.Model(inputs, q), keras.Model(latent, p), **kwargs)


def log_noisy(y):
    return scipy.stats.multivariate_normal(B, NOISY_COVARIANCE).logpdf(y)


def exact_model(**kwargs):
    """The model that made the examples, with the exact posterior; and the posterior's covariance."""
    model = linear_model(**kwargs)
    covariance = np.linalg.inv(np.eye(2) + W.T @ W / SIGMA**2)
    gain = covariance @ W.T / SIGMA**2
    tril = np.linalg.cholesky(covariance)
    raw = tril.copy()
    np.fill_diagonal(raw, inverse_positive(np.diag(tril)))
    bias = np.concatenate([-gain @ B, tfp.math.fill_triangular_inverse(raw)])
    kernel = np.hstack([gain.T, np.zeros((4, 3))])
    model.encoder.get_layer("q").set_weights([kernel, bias])
    model.decoder.get_layer("s").set_weights([W.T, B])
    return model, covariance


def test_exact_posterior_makes_the_bound_exact(rng):
    """Every log weight is log p(y), and the denoised mean is the Wiener estimate."""
    model, covariance = exact_model(objective="iwae", num_samples=3)
    y = observe(500, rng)
    terms = model.bound_terms(tf.constant(y), seed=randomness.as_seed(0))
    np.testing.assert_allclose(terms.bound, log_noisy(y), atol=1e-4)
    estimate = B + (y - B) @ WIENER.T
    np.testing.assert_allclose(model.predict(y, verbose=0), estimate, atol=1e-5)
    found = model.denoise(y, num_samples=200)
    variance = np.diag(W @ covariance @ W.T)  # of the signal, and without the noise of p(y|s)
    assert_close(found.mean - estimate, 0.0)
    np.testing.assert_allclose(np.square(found.stddev).mean(axis=0), variance, rtol=0.02)


def test_mean_of_draws_has_the_error_that_the_guide_says(rng):
    """1 + 1/S times the squared error of the exact mean, as draws and the truth are alike."""
    model, _ = exact_model()
    z = rng.normal(size=(20_000, 2))
    signal = z @ W.T + B
    y = (signal + SIGMA * rng.normal(size=signal.shape)).astype(np.float32)
    exact = np.square(B + (y - B) @ WIENER.T - signal).sum(axis=1)
    for count in (1, 4, 16):
        mean = model.denoise(y, num_samples=count).mean
        assert_close(np.square(mean - signal).sum(axis=1) - (1 + 1 / count) * exact, 0.0)
    draw = model.draws(y, 1)[0]
    assert_close(np.square(draw - signal).sum(axis=1) - 2 * exact, 0.0)
    losses = [10 * np.log10(1 + 1 / count) for count in (1, 16, 64)]
    assert (
        f"one draw has twice the squared error of the exact mean, which is {losses[0]:.1f} dB"
        in GUIDE
    )
    assert f"16 draws lose {losses[1]:.2f} dB, and 64 draws {losses[2]:.2f} dB" in GUIDE


def test_other_numbers_of_the_guide():
    spread = [scipy.stats.chi(count - 1) for count in (16, 64)]
    few, many = (100 * chi.std() / chi.mean() for chi in spread)
    assert f"with 16 draws its error is about {few:.0f} %, with 64 about {many:.0f} %" in GUIDE
    assert f"25 of 255 grey levels are {25 / 255:.3f}" in GUIDE
    assert f"has the gain 2/4095 = {2 / 4095:.5f}" in GUIDE


@pytest.mark.slow
def test_training_on_noisy_examples_finds_the_wiener_estimate(rng):
    """From y alone: the bound becomes log p(y), and the posterior mean the best estimate there is."""
    model = linear_model()
    steps, batch = 1500, 2000
    rate = keras.optimizers.schedules.CosineDecay(1e-2, steps)
    model.compile(keras.optimizers.Adam(rate), steps_per_execution=100)
    model.fit(observe(steps * batch, rng), batch_size=batch, epochs=1, verbose=0)

    y = observe(20_000, rng)
    terms = model.bound_terms(tf.constant(y), seed=randomness.as_seed(1))
    assert_close(terms.bound - log_noisy(y), 0.0)
    # The difference from the Wiener estimate, as a line in y: intercept and slopes are 0.
    centred = y - B
    difference = model.denoise(y, num_samples=16).mean.numpy() - (B + centred @ WIENER.T)
    predictors = np.column_stack([np.ones(len(y)), centred])
    line, *_ = np.linalg.lstsq(predictors, difference)
    residual = difference - predictors @ line
    inverse = np.diag(np.linalg.inv(predictors.T @ predictors))
    error = np.sqrt(np.outer(inverse, residual.var(axis=0)))
    assert np.all(np.abs(line) < STANDARD_ERRORS * error), line / error
    assert error.max() < 2e-3  # of slopes around 1: the test can fail


# ---- the scalar example: closed forms against models ----


def scalar_model(end, **kwargs):
    """q(z|x~) = N(a x~, v) and a decoder of one value that ends in the layer `end`."""
    inputs, latent = keras.Input((1,)), keras.Input((1,))
    q = layers.IndependentNormal(1)(keras.layers.Dense(2, name="q")(inputs))
    count = 1 if isinstance(end, layers.ObservedSignal) else 2
    p = end(keras.layers.Dense(count, name="p")(latent))
    return DVAE(keras.Model(inputs, q), keras.Model(latent, p), **kwargs)


def set_normal(model, layer, slope, scale):
    """Make a layer the parameters of N(slope input, scale^2)."""
    kernel, bias = np.array([[slope, 0.0]]), np.array([0.0, inverse_positive(scale)])
    model.get_layer(layer).set_weights([kernel, bias])


def pairs(example, rng, count=200_000):
    """Return x and x~, float32 [count, 1]."""
    x = example.s * rng.normal(size=(count, 1))
    noisy = x + example.sigma * rng.normal(size=x.shape)
    return tf.constant(x, tf.float32), tf.constant(noisy, tf.float32)


ENCODERS = [(0.0, 1.0), (0.2, 0.7), (0.5, 0.1), (-0.3, 1.5)]  # (a, v)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_l_dvae_is_that_of_models(example, rng):
    model = scalar_model(layers.IndependentNormal(1))
    x, noisy = pairs(example, rng)
    for a, v in ENCODERS:
        b, tau = 0.8, 0.9
        set_normal(model.encoder, "q", a, np.sqrt(v))
        set_normal(model.decoder, "p", b, tau)
        terms = model.bound_terms(x, noisy=noisy, seed=randomness.as_seed(0))
        assert_close(terms.bound, example.l_dvae(a, v, b, tau))


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_observation_bound_is_that_of_models(example, rng):
    model = scalar_model(layers.ObservedSignal(observations.Gaussian(example.sigma)))
    _, noisy = pairs(example, rng)
    for a, v in [*ENCODERS, example.best_observed[:2]]:
        set_normal(model.encoder, "q", a, np.sqrt(v))
        model.decoder.get_layer("p").set_weights([np.array([[example.s]]), np.zeros(1)])
        terms = model.bound_terms(noisy, seed=randomness.as_seed(0))
        expected = example.observation_bound(a, v, example.s)
        assert_close(terms.bound, expected)
    denoised = model.predict(noisy[:100], verbose=0)  # by the last encoder, the best one
    np.testing.assert_allclose(denoised, example.wiener_gain * noisy[:100], rtol=1e-4)


class Along:
    """N(mean, v) over z, whose draws carry the mean b z + c x~ of p(x|z, x~)."""

    def __init__(self, mean, v, shift, b):
        self.mean, self.v, self.shift, self.b = mean, v, shift, b

    def draw(self, *, seed, num_samples, origin=None):
        standard = randomness.normal([num_samples, *self.mean.shape], seed)
        z = self.mean + self.v**0.5 * standard
        log_density = scipy.stats.norm.logpdf(standard) - 0.5 * np.log(self.v)
        kl = 0.5 * (self.mean**2 + self.v - 1 - np.log(self.v)) + tf.zeros_like(z)
        density = tf.constant(log_density[..., 0], tf.float32)
        return latents.Drawn((z,), self.b * z + self.shift, density, kl, (z,))


class ConditionalEncoder(keras.Model):
    """p(z|x~) = N(0, 1), and q(z|x, x~) = N(g x + h x~, v)."""

    is_conditional = True
    input_shape = (None, 1)

    def __init__(self, g, h, v, b, c):
        super().__init__()
        self.weights_of = g, h, v, b, c

    def call(self, noisy, training=False):
        *_, b, c = self.weights_of
        return Along(tf.zeros_like(noisy), 1.0, c * noisy, b)

    def recognize(self, clean, noisy, training=False):
        g, h, v, b, c = self.weights_of
        return Along(g * clean + h * noisy, v, c * noisy, b)


class ConditionalDecoder(keras.Model):
    """p(x|z, x~) = N(b z + c x~, tau^2)."""

    latent_shape = ((1,),)

    def __init__(self, tau):
        super().__init__()
        self.tau = float(tau)

    def call(self, z, training=False):
        return tfd.Independent(tfd.Normal(z.parameters, self.tau), 1)


def conditional_model(g, h, v, b, c, tau, **kwargs):
    return DVAE(ConditionalEncoder(g, h, v, b, c), ConditionalDecoder(tau), **kwargs)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_conditional_bound_is_that_of_models(example, rng):
    x, noisy = pairs(example, rng)
    for parts in [(0.5, -0.3, 0.4, 0.7, 0.6, 0.9), (0.0, 0.0, 1.0, 0.0, 0.5, 1.2)]:
        terms = conditional_model(*parts).bound_terms(x, noisy=noisy, seed=randomness.as_seed(0))
        assert_close(terms.bound, example.conditional_bound(*parts))


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_exact_posterior_makes_the_conditional_bound_exact(share, rng):
    """Every log weight is log p(x|x~) with the Wiener estimate as mean, and D as variance."""
    example = EXAMPLES[0]
    parts = best_conditional(example, share)
    x, noisy = pairs(example, rng, 500)
    model = conditional_model(*parts, objective="iwae", num_samples=3)
    terms = model.bound_terms(x, noisy=noisy, seed=randomness.as_seed(0))
    stddev = np.sqrt(example.signal_variance)
    expected = scipy.stats.norm.logpdf(x, example.wiener_gain * noisy, stddev)[:, 0]
    np.testing.assert_allclose(terms.bound, expected, atol=1e-4)


def best_conditional(example, share):
    """Return a maximum (g, h, v, b, c, tau) in which z carries a share of the variance D."""
    b = np.sqrt(share * example.signal_variance)
    g = b / example.signal_variance  # exact posterior of z: the regression on x - E[x|x~]
    tau = np.sqrt((1 - share) * example.signal_variance)
    return g, -g * example.wiener_gain, 1 - share, b, example.wiener_gain, tau


def test_bounds_agree_with_the_linear_gaussian_oracle():
    """L_dvae and L_cvae; both are quadratic in x, so that x = +-s has their expectation."""
    for example in EXAMPLES:
        for a, v in ENCODERS:
            oracle = LinearGaussian(
                W=np.array([[0.8]]), b=np.zeros(1), s=0.9, A=np.array([[a]]), c=np.zeros(1),
                d=np.array([np.sqrt(v)]), sigma=example.sigma,
            )  # fmt: skip
            x = np.array([[example.s], [-example.s]])
            assert example.l_dvae(a, v, 0.8, 0.9) == pytest.approx(oracle.l_dvae(x).mean())
            assert example.l_cvae(a, v, 0.8, 0.9) == pytest.approx(oracle.l_cvae(x).mean())
            gap = example.l_cvae(a, v, 0.8, 0.9) - example.l_dvae(a, v, 0.8, 0.9)
            assert gap == pytest.approx(oracle.mutual_information())


# ---- the scalar example: what docs/bounds.md says of it ----


def maximum(bound, *starts):
    """Return the arguments that maximise a function, and its value: the best of several searches."""
    found = [
        scipy.optimize.minimize(lambda p: -bound(*p), start, options={"gtol": 1e-7})
        for start in starts
    ]
    best = min(found, key=lambda each: each.fun)
    return best.x, -best.fun


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
class TestOptima:
    def test_l_dvae_ignores_its_input(self, example):
        (a, log_v, b, log_tau), value = maximum(
            lambda a, log_v, b, log_tau: example.l_dvae(a, np.exp(log_v), b, np.exp(log_tau)),
            (0.5, -1.0, 0.5, 0.0),
            (0.1, 0.1, 1.0, -1.0),
        )
        assert np.exp(log_v) == pytest.approx(1, abs=1e-4)
        assert (a, a * b) == pytest.approx((0, 0), abs=1e-3)  # it denoises to 0
        assert np.exp(log_tau) == pytest.approx(example.s, rel=1e-4)
        assert value == pytest.approx(example.log_clean, abs=1e-7)

    def test_l_dvae_of_a_variance_has_the_form_of_the_page(self, example):
        """Among encoders with v / E z^2 = w, the best has E z^2 = 1."""
        d, values = example.signal_variance, []
        g = example.s**4 / (example.s**2 + example.sigma**2)

        def bound(w, moment, b, log_tau):
            a = np.sqrt((1 - w) * moment / example.noisy_variance)
            return example.l_dvae(a, w * moment, b, np.exp(log_tau))

        for w in (0.01, 0.1, 0.5, 0.9, 1.0):
            (log_moment, b, log_tau), value = maximum(
                lambda log_moment, b, log_tau, w=w: bound(w, np.exp(log_moment), b, log_tau),
                (0.5, 0.5, 0.0),
                (-1.0, 1.0, -1.0),
            )
            expected = -0.5 * np.log(2 * np.pi * np.e * (d + w * g)) + 0.5 * np.log(w)
            assert value == pytest.approx(expected, abs=1e-6)
            a, v, *decoder = example.best_of_variance(w)
            assert (v, example.l_dvae(a, v, *decoder)) == pytest.approx((w, expected))
            assert log_moment == pytest.approx(0, abs=1e-4)
            assert (b, np.exp(log_tau)) == pytest.approx(tuple(decoder), abs=1e-3)
            values.append(value)
        assert np.all(np.diff(values) > 0)  # up to v = 1

    def test_l_cvae_is_flat(self, example):
        """Every variance attains log p(x), and nothing exceeds it."""
        for v in np.linspace(0.001, 1, 20):
            assert example.l_cvae(*example.best_of_variance(v)) == pytest.approx(example.log_clean)
        for start in (0.5, -1.0, 0.5, 0.0), (0.1, 0.1, 1.0, -1.0):
            _, value = maximum(
                lambda a, log_v, b, log_tau: example.l_cvae(a, np.exp(log_v), b, np.exp(log_tau)),
                start,
            )
            assert value == pytest.approx(example.log_clean, abs=1e-6)

    def test_only_a_vanishing_variance_of_l_cvae_denoises_best(self, example):
        gains = []
        for v in (1.0, 0.5, 0.1, 1e-8):
            a, _, b, _ = example.best_of_variance(v)
            assert a * b == pytest.approx((1 - v) * example.wiener_gain)
            gains.append(a * b)
        assert gains[-1] == pytest.approx(example.wiener_gain, rel=1e-6)

    def test_observation_bound_has_the_exact_posterior(self, example):
        (a, log_v, b), value = maximum(
            lambda a, log_v, b: example.observation_bound(a, np.exp(log_v), b),
            (0.5, -1.0, 0.5),
            (0.1, 0.1, 2.0),
        )
        v = example.sigma**2 / (example.s**2 + example.sigma**2)
        assert np.exp(log_v) == pytest.approx(v, rel=1e-4)
        assert abs(b) == pytest.approx(example.s, rel=1e-4)
        assert a * b == pytest.approx(example.wiener_gain, rel=1e-4)
        assert b**2 * np.exp(log_v) == pytest.approx(example.signal_variance, rel=1e-3)
        assert value == pytest.approx(example.log_noisy, abs=1e-7)
        assert example.observation_bound(*example.best_observed) == pytest.approx(value)

    def test_conditional_bound_has_the_exact_density(self, example):
        (*_, b, c, log_tau), value = maximum(
            lambda g, h, log_v, b, c, log_tau: example.conditional_bound(
                g, h, np.exp(log_v), b, c, np.exp(log_tau)
            ),
            (0.5, -0.1, -1.0, 0.5, 0.3, 0.0),
            (0.1, 0.1, 0.1, 0.2, 0.1, -1.0),
        )
        tau = np.exp(log_tau)
        assert c == pytest.approx(example.wiener_gain, abs=1e-3)
        assert b**2 + tau**2 == pytest.approx(example.signal_variance, rel=1e-3)
        assert value == pytest.approx(example.log_conditional, abs=1e-6)
        for share in (0.1, 0.5, 0.99):  # of D that z carries: not determined
            best = best_conditional(example, share)
            assert example.conditional_bound(*best) == pytest.approx(example.log_conditional)

    def test_conditional_density_is_above_the_marginal_by_their_information(self, example):
        gain = 0.5 * np.log(1 + example.s**2 / example.sigma**2)
        assert example.log_conditional - example.log_clean == pytest.approx(gain)


@pytest.mark.parametrize(("count", "ratio"), [(2, 0.1), (2, 0.5), (2, 4.0), (16, 0.001), (16, 1.0)])
def test_pixels_with_a_common_value_keep_their_latent(count, ratio):
    """L_dvae of all pixels, maximised numerically: z is used from a ratio of 1 / (D (D - 1)) on."""
    example = ScalarExample(np.sqrt(ratio), 1 / np.sqrt(count))  # of the mean of the noisy pixels

    def bound(a, log_v, b, log_tau):
        v, variance = np.exp(log_v), np.exp(2 * log_tau)
        error = example.s**2 * (1 - 2 * a * b) + b**2 * (a**2 * example.noisy_variance + v)
        kl = 0.5 * (a**2 * example.noisy_variance + v - 1 - log_v)
        return -0.5 * count * (np.log(2 * np.pi * variance) + error / variance) - kl

    (_, log_v, *_), _ = maximum(bound, (0.5, -1.0, 0.5, 0.0), (0.1, -0.1, 0.3, -1.0))
    assert np.exp(log_v) == pytest.approx(scalar_example.shared_variance(count, ratio), rel=2e-3)
    assert (np.exp(log_v) < 0.99) == (ratio > 1 / (count * (count - 1)))


def test_figure_has_the_variances_of_the_examples():
    figure = scalar_example.draw()
    (axes,) = figure.axes
    l_dvae, observed = axes.get_lines()
    ratio = observed.get_xdata()
    np.testing.assert_array_equal(l_dvae.get_ydata(), np.ones_like(ratio))
    np.testing.assert_allclose(observed.get_ydata(), 1 / (1 + ratio))
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0, 1)
    plt.close(figure)


def test_command_draws_the_figure_of_the_page(tmp_path, capsys):
    assert scalar_example.main(["--docs", str(tmp_path)]) == 0
    assert (tmp_path / "images" / "posterior_variance.png").stat().st_size > 10_000
    assert "images/posterior_variance.png" in PAGE
    (tmp_path / "taken").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        scalar_example.main(["--docs", str(tmp_path / "taken")])
    assert stopped.value.code == 2
    assert "--docs" in capsys.readouterr().err


def test_table_of_the_page_has_the_closed_forms():
    rows = re.findall(r"\| ([\d.]+) \| 1 \| any \| ([\d.]+) \| ([\d.]+) \|", PAGE)
    assert [float(ratio) for ratio, *_ in rows] == [0.1, 1, 10, 100]
    for ratio, observed, gain in rows:
        example = ScalarExample(np.sqrt(float(ratio)), 1.0)
        assert observed == f"{example.best_observed[1]:.3f}"
        assert observed == f"{example.signal_variance / example.s**2:.3f}"
        assert gain == f"{example.log_conditional - example.log_clean:.3f}"


def test_numbers_in_the_words_of_the_page():
    best, exact = scalar_example.shared_variance(16, 1.0), (1 / 16) / (1 + 1 / 16)
    assert (
        f"For 16 pixels and s² = σ² it is {best:.4f}, where the exact posterior of the common value "
        f"has {exact:.3f}. For one pixel it is {scalar_example.shared_variance(1, 1.0):g}." in PAGE
    )


def test_single_values_do_not_tell_signal_from_noise():
    """Equal s^2 + sigma^2: the same p(y), and other Wiener estimates."""
    one, other = ScalarExample(1.2, 0.5), ScalarExample(0.5, 1.2)
    assert one.log_noisy == pytest.approx(other.log_noisy)
    assert one.wiener_gain > 5 * other.wiener_gain
