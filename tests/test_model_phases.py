"""Layers that act only in training act in training steps, and nowhere else."""

import itertools

import keras
import numpy as np
import pytest

from dvae_tf import DVAE, layers
from dvae_tf.runs import checkpoints

SHAPE, LATENT_DIM, HEIGHT = (4, 3, 1), 2, 12
CELLS = [
    {"objective": objective, "posterior": posterior, "num_corruptions": 2, "num_samples": 3}
    for objective, posterior in itertools.product(("elbo", "iwae"), ("conditional", "mixture"))
]
DOUBLY = {"objective": "iwae", "num_samples": 3, "gradient": "doubly_reparameterized"}
LOCATION = np.array([0.5, -2.0])


def normalized(**kwargs) -> DVAE:
    """Batch normalisation of the image and of the latent; z is LOCATION, within about 1e-3."""
    image, latent = keras.Input(SHAPE), keras.Input((LATENT_DIM,))
    h = keras.layers.BatchNormalization(momentum=0.9, name="norm")(keras.layers.Flatten()(image))
    bias = keras.initializers.Constant([*LOCATION, -30.0, -30.0])
    h = keras.layers.Dense(2 * LATENT_DIM, kernel_initializer="zeros", bias_initializer=bias)(h)
    encoder = keras.Model(image, layers.IndependentNormal(LATENT_DIM)(h))
    h = keras.layers.BatchNormalization(momentum=0.8, name="norm")(latent)
    decoder = keras.Model(latent, layers.IndependentBernoulli(SHAPE)(keras.layers.Dense(HEIGHT)(h)))
    return DVAE(encoder, decoder, **kwargs)


def moving(part) -> list[np.ndarray]:
    norm = part.get_layer("norm")
    return [norm.moving_mean.numpy(), norm.moving_variance.numpy()]


@pytest.mark.parametrize(
    "kwargs", [*CELLS, DOUBLY, pytest.param({"jit_compile": True}, marks=pytest.mark.slow)], ids=str
)
def test_a_training_step_moves_the_averages_of_batch_normalisation(kwargs, rng):
    x = rng.random((8, *SHAPE)).astype(np.float32)
    compiled = {"jit_compile": True} if "jit_compile" in kwargs else {"run_eagerly": True}
    model = normalized(**{name: kwargs[name] for name in kwargs if name != "jit_compile"})
    model.compile("sgd", **compiled)
    model.train_on_batch(x)
    flat = x.reshape(8, -1).astype(float)  # M copies have the same mean and variance
    mean, variance = moving(model.encoder)
    np.testing.assert_allclose(mean, 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, 0.9 + 0.1 * flat.var(0), rtol=1e-5)
    mean, variance = moving(model.decoder)
    np.testing.assert_allclose(mean, 0.2 * LOCATION, atol=0.2 * 5e-3)
    np.testing.assert_allclose(variance, 0.8, atol=1e-4)


def test_nothing_but_a_training_step_does(rng):
    x = rng.random((8, *SHAPE)).astype(np.float32)
    model = normalized(objective="iwae", num_samples=2)
    model.compile("sgd", run_eagerly=True)
    norm = model.encoder.get_layer("norm")
    norm.moving_mean.assign(np.full(HEIGHT, 0.3))
    before = [*moving(model.encoder), *moving(model.decoder)]
    uses = [
        lambda: model.test_on_batch(x),
        lambda: model.evaluate(x, verbose=0),
        lambda: model.predict(x, verbose=0),
        lambda: model(x, training=True),
        lambda: model.denoise(x),
        lambda: model.elbo(x),
        lambda: model.sample(3),
        lambda: model.log_likelihood(x, num_samples=3),
    ]
    for use in uses:
        use()
        for old, new in zip(before, [*moving(model.encoder), *moving(model.decoder)], strict=True):
            np.testing.assert_array_equal(new, old)
    # The averages are what inference uses.
    hidden = keras.Model(model.encoder.input, norm.output)(x)
    expected = norm.gamma.numpy() * (x.reshape(8, -1) - 0.3) / np.sqrt(1 + norm.epsilon)
    np.testing.assert_allclose(hidden, expected, rtol=1e-4, atol=1e-5)


def dropped(rate=0.9, logit=0.4) -> DVAE:
    """A decoder whose logits are all `logit` before dropout; the posterior is the prior."""
    image, latent = keras.Input(SHAPE), keras.Input((LATENT_DIM,))
    bias = keras.initializers.Constant([0.0, 0.0, *[np.log(np.expm1(1 - layers.SCALE_FLOOR))] * 2])
    h = keras.layers.Dense(4, kernel_initializer="zeros", bias_initializer=bias)(
        keras.layers.Flatten()(image)
    )
    encoder = keras.Model(image, layers.IndependentNormal(LATENT_DIM)(h))
    bias = keras.initializers.Constant(logit)
    h = keras.layers.Dense(HEIGHT, kernel_initializer="zeros", bias_initializer=bias)(latent)
    h = keras.layers.Dropout(rate)(h)
    return DVAE(encoder, keras.Model(latent, layers.IndependentBernoulli(SHAPE)(h)))


@pytest.mark.parametrize("jit_compile", [pytest.param(True, marks=pytest.mark.slow), False])
def test_dropout_acts_in_training_alone(jit_compile):
    x = np.ones((500, *SHAPE), np.float32)
    model = dropped()
    model.compile(keras.optimizers.SGD(1e-30), jit_compile=jit_compile)
    logs = model.train_on_batch(x, return_dict=True)
    # A logit is 0 with probability 0.9, else 0.4 / 0.1; the loss of a white pixel is log(1 + e^-logit).
    values, probabilities = np.logaddexp(0, [0.0, -4.0]), np.array([0.9, 0.1])
    mean = probabilities @ values
    error = np.sqrt((probabilities @ values**2 - mean**2) * HEIGHT / len(x))
    assert abs(logs["loss"] - HEIGHT * mean) < 5 * error
    inference = HEIGHT * np.logaddexp(0, -0.4)
    assert abs(logs["loss"] - inference) > 20 * error
    values = [
        model.test_on_batch(x, return_dict=True)["loss"],
        -model.elbo(x[:2]),
        -model.log_likelihood(x[:2]),
    ]
    for value in values:
        np.testing.assert_allclose(value, inference, rtol=1e-5)
    np.testing.assert_allclose(model.predict(x[:2], verbose=0), 1 / (1 + np.exp(-0.4)), rtol=1e-5)


class Training(keras.layers.Layer):
    """A layer that acts unless told otherwise: every value is 1 in training, 0 in inference."""

    def call(self, x, training=True):
        return 0 * x + float(training)


def test_inference_is_said_aloud_to_layers_that_train_by_default():
    image, latent = keras.Input(SHAPE), keras.Input((LATENT_DIM,))
    h = keras.layers.Dense(2 * LATENT_DIM)(Training()(keras.layers.Flatten()(image)))
    encoder = keras.Model(image, layers.IndependentNormal(LATENT_DIM)(h))
    raw_scale = keras.layers.Dense(HEIGHT)(latent)
    h = keras.layers.Concatenate()([Training()(raw_scale), raw_scale])
    model = DVAE(encoder, keras.Model(latent, layers.IndependentNormal(SHAPE)(h)))
    x = np.zeros((2, *SHAPE), np.float32)
    answers = [model(x), model.predict(x, verbose=0), model.denoise(x).mean, model.sample(2)]
    for answer in answers:
        np.testing.assert_array_equal(answer, 0)


def test_generators_of_layers_continue_after_a_stop(rng, tmp_path):
    """Keras saves them in no file of its own."""
    x = rng.random((8, *SHAPE)).astype(np.float32)

    def make():
        model = dropped(rate=0.5)
        model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
        return model

    def losses(model):
        return [model.train_on_batch(x) for _ in range(3)]

    model = make()
    losses(model)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    captured = checkpoints.capture(model)
    expected = losses(model)
    assert len({loss for loss, *_ in expected}) == 3
    restored, weights = make(), make()
    checkpoints.restore(restored, captured)
    weights.optimizer.build(weights.trainable_variables)
    weights.load_weights(tmp_path / "model.weights.h5")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for other in (restored, weights, loaded):
        assert losses(other) == expected
    assert losses(make()) != expected  # a generator of its own: the seed of Dropout was drawn
