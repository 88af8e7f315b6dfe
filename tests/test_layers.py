import inspect
import math

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from dvae_tf import layers, networks, observations


@keras.saving.register_keras_serializable(package="dvae_tf_tests")
def student_t(parameters):
    loc, raw_scale = tf.split(parameters, 2, axis=-1)
    return tfd.Independent(tfd.StudentT(4.0, loc, layers.positive(raw_scale)), 1)


def softplus(x):
    return np.log1p(np.exp(x))


def scale(raw):
    return 1e-3 + softplus(raw)


def scipy_normal(parameters, x):
    loc, raw = np.split(parameters, 2)
    return scipy.stats.norm(loc, scale(raw)).logpdf(x.ravel()).sum()


def scipy_tril(parameters, x):
    n = x.size
    entries = parameters[n:]
    tril = tfp.math.fill_triangular(entries).numpy()
    np.fill_diagonal(tril, scale(np.diag(tril)))
    assert np.all(np.triu(tril, 1) == 0)
    assert set(np.round(tril[np.tril_indices(n, -1)], 5)) <= set(np.round(entries, 5))
    return scipy.stats.multivariate_normal(parameters[:n], tril @ tril.T).logpdf(x)


def scipy_bernoulli(parameters, x):
    return scipy.stats.bernoulli(1 / (1 + np.exp(-parameters))).logpmf(x.ravel()).sum()


def scipy_continuous_bernoulli(parameters, x):
    p = 1 / (1 + np.exp(-parameters))
    normalizer = 2 * np.arctanh(1 - 2 * p) / (1 - 2 * p)
    x = x.ravel()
    return np.sum(x * np.log(p) + (1 - x) * np.log1p(-p) + np.log(normalizer))


def scipy_discretized_logistic(parameters, x):
    loc, raw = np.split(parameters, 2)
    x = x.ravel()
    logistic = scipy.stats.logistic(loc, scale(raw))
    upper = np.where(x == 1, 1, logistic.cdf(x + 0.5 / 255))
    lower = np.where(x == 0, 0, logistic.cdf(x - 0.5 / 255))
    return np.log(upper - lower).sum()


def observed_signal():
    return layers.ObservedSignal(observations.PoissonGaussian(0.1, -0.2, 0.3))


def scipy_observed_signal(parameters, x):
    variance = 0.1 * np.maximum(parameters + 0.2, 0) + 0.3**2
    return scipy.stats.norm(parameters, np.sqrt(variance)).logpdf(x).sum()


def scipy_student_t(parameters, x):
    loc, raw = np.split(parameters, 2)
    return scipy.stats.t(4.0, loc, scale(raw)).logpdf(x).sum()


def real(rng, shape):
    return rng.normal(size=shape)


def binary(rng, shape):
    return rng.integers(0, 2, shape)


def eight_bit(rng, shape):
    return rng.integers(0, 256, shape) / 255


CASES = {
    "normal": (lambda: layers.IndependentNormal((2, 3, 1)), 12, (2, 3, 1), scipy_normal, real),
    "tril": (lambda: layers.MultivariateNormalTriL(3), 9, (3,), scipy_tril, real),
    "bernoulli": (
        lambda: layers.IndependentBernoulli((2, 3)),
        6,
        (2, 3),
        scipy_bernoulli,
        binary,
    ),
    "continuous_bernoulli": (
        lambda: layers.IndependentContinuousBernoulli(5),
        5,
        (5,),
        scipy_continuous_bernoulli,
        lambda rng, shape: rng.random(shape),
    ),
    "discretized_logistic": (
        lambda: layers.IndependentDiscretizedLogistic((2, 2, 1)),
        8,
        (2, 2, 1),
        scipy_discretized_logistic,
        eight_bit,
    ),
    "observed_signal": (observed_signal, 4, (4,), scipy_observed_signal, real),
    "general": (lambda: layers.DistributionLayer(student_t), 8, (4,), scipy_student_t, real),
}


def moments_of_values(values, masses):
    mean = (masses * values).sum(0) / masses.sum(0)
    return mean, (masses * (values - mean) ** 2).sum(0) / masses.sum(0)


def moments_normal(parameters):
    loc, raw = np.split(parameters, 2)
    return loc, scale(raw) ** 2


def moments_tril(parameters):
    tril = tfp.math.fill_triangular(parameters[3:]).numpy()
    np.fill_diagonal(tril, scale(np.diag(tril)))
    return parameters[:3], (tril**2).sum(1)


def moments_bernoulli(parameters):
    p = 1 / (1 + np.exp(-parameters))
    return p, p * (1 - p)


def moments_continuous_bernoulli(parameters):
    x = (np.arange(10_000)[:, None] + 0.5) / 10_000  # midpoints: an integral to 1e-9
    return moments_of_values(x, np.exp(parameters * x))


def moments_discretized_logistic(parameters):
    loc, raw = np.split(parameters, 2)
    edges = (np.arange(255)[:, None] + 0.5) / 255
    cdf = scipy.stats.logistic(loc, scale(raw)).cdf(edges)
    zeros = np.zeros_like(loc)[None]
    masses = np.diff(np.concatenate([zeros, cdf, zeros + 1]), axis=0)
    return moments_of_values(np.arange(256)[:, None] / 255, masses)


def moments_observed_signal(parameters):
    return parameters, 0.1 * np.maximum(parameters + 0.2, 0) + 0.3**2


def moments_student_t(parameters):
    loc, raw = np.split(parameters, 2)
    return loc, 2 * scale(raw) ** 2  # with four degrees of freedom


MOMENTS = {
    "normal": moments_normal,
    "tril": moments_tril,
    "bernoulli": moments_bernoulli,
    "continuous_bernoulli": moments_continuous_bernoulli,
    "discretized_logistic": moments_discretized_logistic,
    "observed_signal": moments_observed_signal,
    "general": moments_student_t,
}


@pytest.fixture(params=CASES)
def case(request):
    make, num_parameters, event_shape, log_density, draw = CASES[request.param]
    return make(), num_parameters, event_shape, log_density, draw


def parameters_of(p):
    """Yield the tensors that a distribution, and those it is made of, are given."""
    for value in p.parameters.values():
        if isinstance(value, tfd.Distribution):
            yield from parameters_of(value)
        elif tf.is_tensor(value):
            yield value


def network(layer, num_parameters):
    """A Functional model x -> distribution, whose weights are a function of the seed."""
    keras.utils.set_random_seed(1)
    x = keras.Input((3,))
    return keras.Model(x, layer(keras.layers.Dense(num_parameters)(x)))


def test_every_public_layer_is_tested():
    bases = {layers.ProbabilisticLayer, layers.EventLayer}
    public = {
        value
        for value in vars(layers).values()
        if inspect.isclass(value) and issubclass(value, layers.ProbabilisticLayer)
    }
    assert public - bases == {type(make()) for make, *_ in CASES.values()}


def test_log_prob_against_scipy(case, rng):
    layer, num_parameters, event_shape, log_density, draw = case
    parameters = rng.normal(size=(5, num_parameters))
    x = draw(rng, (5, *event_shape))
    p = layer(parameters.astype(np.float32))
    assert p.batch_shape == (5,) and p.event_shape == event_shape
    expected = [log_density(row, value) for row, value in zip(parameters, x, strict=True)]
    np.testing.assert_allclose(p.log_prob(x.astype(np.float32)), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", CASES)
def test_moments_against_scipy(name, rng):
    make, num_parameters, event_shape, *_ = CASES[name]
    parameters = rng.normal(size=(5, num_parameters))
    p = make()(parameters.astype(np.float32))
    mean, variance = (
        np.reshape(rows, (5, *event_shape))
        for rows in zip(*map(MOMENTS[name], parameters), strict=True)
    )
    np.testing.assert_allclose(p.mean(), mean, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(p.variance(), variance, rtol=2e-4, atol=2e-5)
    # A discretised logistic takes E[X]^2 from E[X^2], in float32.
    np.testing.assert_allclose(p.stddev(), np.sqrt(variance), rtol=2e-4, atol=5e-4)


def test_params_size(case):
    layer, num_parameters, event_shape, *_ = case
    if isinstance(layer, layers.EventLayer):
        assert layer.params_size(event_shape) == num_parameters
        size = math.prod(event_shape)
        assert event_shape != (size,) or layer.params_size(size) == num_parameters


def test_wrong_number_of_parameters_is_refused(case):
    layer, num_parameters, *_ = case
    if isinstance(layer, layers.EventLayer):
        with pytest.raises(ValueError, match=f"params_size.* = {num_parameters} parameters"):
            layer(np.zeros((2, num_parameters + 2), np.float32))


def test_functional_sequential_and_subclassed(case, rng):
    layer, num_parameters, event_shape, *_ = case
    model = network(layer, num_parameters)
    assert model.output_shape == (None, *event_shape)
    x = rng.normal(size=(4, 3)).astype(np.float32)
    expected = model(x).mean().numpy()
    assert expected.shape == (4, *event_shape)

    sequential = keras.Sequential([model.layers[1], layer])
    np.testing.assert_array_equal(sequential(x).mean(), expected)

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.distribution = model.layers[1], layer

        def call(self, inputs):
            return self.distribution(self.dense(inputs))

    np.testing.assert_array_equal(Subclassed()(x).mean(), expected)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_under_tf_function_with_unknown_batch(case, rng, jit_compile):
    layer, num_parameters, event_shape, *_ = case
    model = network(layer, num_parameters)

    @tf.function(input_signature=[tf.TensorSpec([None, 3])], jit_compile=jit_compile)
    def mean_and_log_prob(x):
        p = model(x)
        return p.mean(), p.log_prob(tf.zeros([tf.shape(x)[0], *event_shape]) + 1.0)

    for batch in (1, 6):
        x = rng.normal(size=(batch, 3)).astype(np.float32)
        mean, log_prob = mean_and_log_prob(x)
        np.testing.assert_allclose(mean, model(x).mean(), rtol=1e-4, atol=1e-5)
        ones = np.ones((batch, *event_shape), np.float32)
        np.testing.assert_allclose(log_prob, model(x).log_prob(ones), rtol=1e-4, atol=1e-4)


def without_dtype(config):
    return {name: value for name, value in config.items() if name != "dtype"}


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_leaves_the_distribution_in_float32(case, policy):
    layer, num_parameters, event_shape, *_ = case
    with networks.dtype_policy(policy):
        x = keras.Input((3,))
        dense = keras.layers.Dense(num_parameters)
        made = type(layer).from_config(without_dtype(layer.get_config()))
        model = keras.Model(x, made(dense(x)))
        p = model(np.ones((2, 3), np.float32))
    assert dense.compute_dtype in ("bfloat16", "float16")
    assert made.compute_dtype == "float32"  # else Keras rounds what goes into it
    assert {tensor.dtype for tensor in parameters_of(p)} == {tf.float32}
    assert p.dtype == tf.float32 and p.mean().dtype == tf.float32
    assert p.log_prob(np.ones((2, *event_shape), np.float32)).dtype == tf.float32


def test_save_and_load(case, rng, tmp_path):
    layer, num_parameters, *_ = case
    model = network(layer, num_parameters)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    x = rng.normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_array_equal(restored(x).mean(), model(x).mean())
    assert restored.layers[-1].get_config() == model.layers[-1].get_config()


def test_bernoulli_gradient_everywhere():
    logits = tf.constant([[-200.0, -20.0, -1.0, 0.0, 1.0, 20.0, 200.0]])
    for event in (0.0, 1.0):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            log_prob = layers.IndependentBernoulli(7)(logits).log_prob(tf.fill([1, 7], event))
        expected = event - scipy.special.expit(logits.numpy().astype(float))
        np.testing.assert_allclose(tape.gradient(log_prob, logits), expected, atol=1e-6)


def test_bernoulli_gradient_of_several_events_for_one_image(rng):
    logits = tf.constant(rng.normal(size=(3, 4)), tf.float32)
    events = tf.constant(rng.integers(0, 2, (5, 1, 4)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([logits, events])
        log_prob = layers.IndependentBernoulli(4)(logits).log_prob(events)
    by_logits, by_events = tape.gradient(log_prob, [logits, events])
    expected = (events.numpy() - scipy.special.expit(logits.numpy())).sum(0)
    np.testing.assert_allclose(by_logits, expected, atol=1e-5)
    np.testing.assert_allclose(by_events[:, 0], np.tile(logits.numpy().sum(0), (5, 1)), rtol=1e-5)


@pytest.mark.parametrize("size", [1, 7, 16, 37, 48, 784])
def test_bernoulli_density_for_any_number_of_pixels(size, rng):
    """The logarithms are taken of products, whose length depends on the size."""
    logits = (8 * rng.normal(size=(20, size))).astype(np.float32)
    logits[0], logits[1], logits[2] = 90.0, -90.0, 0.0  # 0 has the largest factors
    event = (rng.random((20, size)) < 0.5).astype(np.float32)
    log_prob = layers.IndependentBernoulli(size)(logits).log_prob(event)
    pixels = event * logits - np.logaddexp(0, logits.astype(float))
    # Each pixel is exact to a rounding of 1, each sum to a few of itself.
    atol = 1.2e-7 * size + 4e-7 * np.abs(pixels).sum(-1)
    assert np.all(np.abs(log_prob - pixels.sum(-1)) < atol)


def test_scales_never_fall_below_the_floor():
    for layer, n in ((layers.IndependentNormal(1), 2), (layers.MultivariateNormalTriL(1), 2)):
        parameters = np.full((1, n), -200.0, np.float32)
        assert layer(parameters).stddev().numpy() == pytest.approx(layers.SCALE_FLOOR)


@pytest.mark.parametrize("event_shape", [0, -1, (), (2, 0), (2.5,), "3"])
def test_refuses_event_shapes(event_shape):
    with pytest.raises(ValueError, match="`event_shape` must be a positive integer"):
        layers.IndependentNormal(event_shape)


def test_general_layer_refuses_what_it_cannot_save():
    with pytest.raises(TypeError, match="`distribution_fn` must be a function"):
        layers.DistributionLayer("normal")
    layer = layers.DistributionLayer(
        lambda parameters: tfd.Independent(tfd.Normal(parameters, 1.0), 1)
    )
    assert layer(np.zeros((2, 3), np.float32)).event_shape == (3,)
    with pytest.raises(ValueError, match="must be a registered function"):
        layer.get_config()


def test_general_layer_refuses_an_unknown_function():
    with pytest.raises(ValueError, match="must be registered before"):
        layers.DistributionLayer.from_config({"distribution_fn": "nobody>knows"})


@pytest.mark.parametrize("posterior", [layers.IndependentNormal, layers.MultivariateNormalTriL])
def test_reparameterized_sample_has_the_moments_of_the_distribution(posterior, rng):
    n = 50_000
    parameters = rng.normal(size=(1, posterior.params_size(3))).astype(np.float32)
    q = posterior(3)(parameters)
    z = layers.reparameterized_sample(q, seed=tf.constant([1, 2]), num_samples=n).numpy()[:, 0]
    mean, covariance = q.mean().numpy()[0], np.atleast_2d(np.cov(z.T))
    assert np.all(np.abs(z.mean(0) - mean) < 5 * z.std(0) / np.sqrt(n))
    if posterior is layers.MultivariateNormalTriL:
        expected = q.covariance().numpy()[0]
    else:
        expected = np.diag(q.variance().numpy()[0])
    products = (z - mean)[:, :, None] * (z - mean)[:, None, :]
    assert np.all(np.abs(covariance - expected) < 5 * products.std(0) / np.sqrt(n))


@pytest.mark.parametrize("num_samples", [None, 4])
def test_reparameterized_sample_of_any_distribution(num_samples):
    q = tfd.Independent(tfd.Laplace(tf.zeros([2, 3]), 1.0), 1)
    z = layers.reparameterized_sample(q, seed=tf.constant([1, 2]), num_samples=num_samples)
    assert z.shape == ((2, 3) if num_samples is None else (4, 2, 3))
    again = layers.reparameterized_sample(q, seed=tf.constant([1, 2]), num_samples=num_samples)
    np.testing.assert_array_equal(z, again)


def test_refuses_to_sample_without_reparameterization():
    q = layers.IndependentBernoulli(2)(np.zeros((1, 2), np.float32))
    with pytest.raises(TypeError, match=r"end it in a layer of .* Received: EagerTensor"):
        layers.reparameterized_sample(tf.zeros([2, 3]), seed=tf.constant([0, 1]))
    with pytest.raises(ValueError, match="must be reparameterised"):
        layers.reparameterized_sample(q, seed=tf.constant([1, 2]))


class TestSample:
    def model(self, **kwargs):
        keras.utils.set_random_seed(1)
        x = keras.Input((3,))
        q = layers.IndependentNormal(2)(keras.layers.Dense(4)(x))
        z = layers.Sample(**kwargs)(distribution=q)
        return keras.Model(x, keras.layers.Dense(1)(z))

    def test_wires_encoder_and_decoder_into_one_model(self, tmp_path):
        model = self.model(seed=3)
        assert model.layers[3].output.shape == (None, 2)
        x = np.ones((5, 3), np.float32)
        assert model.predict(x, verbose=0).shape == (5, 1)
        model.compile("sgd", "mse")
        before = model.layers[1].kernel.numpy()
        model.fit(x, np.zeros((5, 1)), verbose=0)
        assert np.abs(model.layers[1].kernel.numpy() - before).max() > 0  # through the draw
        model.save(tmp_path / "model.keras")
        # Keras keeps weights, not the state of generators: a loaded one starts from its seed.
        fresh = self.model(seed=3)
        fresh.set_weights(model.get_weights())
        restored = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(restored(x), fresh(x))

    def test_generator_advances_and_a_given_seed_leaves_it_alone(self):
        q = layers.IndependentNormal(2)(np.zeros((1, 4), np.float32))
        sample = layers.Sample(seed=1)
        first, second = sample(distribution=q), sample(distribution=q)
        assert np.abs(first - second).max() > 0
        again = layers.Sample(seed=1)
        fixed = again(distribution=q, seed=tf.constant([5, 6]))
        np.testing.assert_array_equal(fixed, sample(distribution=q, seed=tf.constant([5, 6])))
        np.testing.assert_array_equal(again(distribution=q), first)
        assert np.abs(layers.Sample(seed=2)(distribution=q) - first).max() > 0
