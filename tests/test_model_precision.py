"""The model under Keras' mixed-precision policies, and the optimizer's clipping."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from dvae_tf import DVAE, corruptions, datasets, layers, networks
from dvae_tf.runs import building, defaults
from dvae_tf.runs.options import Options

SHAPE = (8, 6, 1)
UNIT_ROUNDOFF = {"mixed_bfloat16": 2.0**-8, "mixed_float16": 2.0**-11}
MIXED = list(UNIT_ROUNDOFF)


def make_model(policy="float32", *, likelihood="bernoulli", network=networks.mlp, **kwargs) -> DVAE:
    keras.utils.set_random_seed(3)
    with networks.dtype_policy(policy):
        sizes = {"hidden": (16,)} if network is networks.mlp else {"filters": (4,), "hidden": 8}
        encoder, decoder = network(SHAPE, 3, likelihood, **sizes)
    return DVAE(encoder, decoder, **({"corruption": corruptions.SaltPepper(0.2)} | kwargs))


@pytest.mark.parametrize("policy", MIXED)
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"posterior": "mixture", "num_corruptions": 3},
        {"objective": "iwae", "num_samples": 3},
        {"objective": "iwae", "posterior": "mixture", "num_corruptions": 2, "num_samples": 2},
        {"likelihood": "gaussian"},
        {"likelihood": "discretized_logistic"},
    ],
    ids=str,
)
def test_bounds_are_those_of_float32_within_rounding(policy, kwargs, images, rng):
    """To first order, roundings of relative size u move a bound by at most u sum |w dL/dw| each.

    To round an activation is to round the weights it goes into; to round a sum, those that go into
    it. A hidden layer rounds its input, its weights and bias, their product, their sum, and up to
    three values within softplus: eight roundings.
    """
    model, mixed = make_model(**kwargs), make_model(policy, **kwargs)
    for weight in model.trainable_variables:
        weight.assign(rng.normal(0, 0.1, weight.shape))
    mixed.set_weights(model.get_weights())
    seed, errors = tf.constant([5, 6]), []
    for x in (tf.constant(images[:1]), tf.constant(images[1:2])):
        with tf.GradientTape(persistent=True) as tape:
            expected = model.bound_terms(x, seed=seed)
        actual = mixed.bound_terms(x, seed=seed)
        for name in ("bound", "elbo", "reconstruction", "kl"):
            reference, value = getattr(expected, name), getattr(actual, name)
            assert value.dtype == tf.float32
            weights = [weight.value for weight in model.trainable_variables]
            gradients = tape.gradient(reference, weights, unconnected_gradients="zero")
            sensitivity = sum(np.abs(w * g).sum() for w, g in zip(weights, gradients, strict=True))
            tolerance = 8 * UNIT_ROUNDOFF[policy] * sensitivity
            errors.append(abs(value[0] - reference[0]))
            assert errors[-1] < tolerance
            assert tolerance < 0.5 * abs(reference[0])  # so that a wrong sign is seen
    assert max(errors) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "network"), [("mixed_bfloat16", networks.resnet), ("mixed_float16", networks.mlp)]
)
def test_learns_and_answers_in_float32(policy, network, images):
    model = make_model(policy, network=network)
    model.compile(keras.optimizers.Adam(1e-2))
    assert model.jit_compile
    history = model.fit(images, batch_size=16, epochs=8, validation_data=images, verbose=0).history
    assert history["val_bound"][-1] > history["val_bound"][0] + 1
    elbo = np.subtract(history["val_reconstruction"], history["val_kl"])
    np.testing.assert_allclose(history["val_elbo"], elbo, rtol=1e-5, atol=1e-4)
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    answers = [model(images), model.predict(images, verbose=0), model.elbo(images)]
    answers += [*model.denoise(images), model.sample(2)]
    answers += [model.log_likelihood(images[:2], num_samples=10).astype(np.float32)]
    for answer in answers:
        assert answer.dtype == np.float32
        assert np.isfinite(answer).all()


def test_penalties_on_hidden_activations(images):
    with networks.dtype_policy("mixed_bfloat16"):
        decoder = make_model("mixed_bfloat16").decoder
        image = keras.Input(SHAPE)
        hidden = keras.layers.Dense(8, "relu", activity_regularizer=keras.regularizers.L2(1.0))
        h = hidden(keras.layers.Flatten()(image))
        q = layers.IndependentNormal(3)(keras.layers.Dense(6)(h))
        model = DVAE(keras.Model(image, q), decoder)
    model.compile("adam", jit_compile=False)
    activations = np.maximum(images.reshape(64, -1) @ hidden.kernel.numpy(), 0)
    logs = model.train_on_batch(images, return_dict=True)
    penalty = np.sum(activations.astype(float) ** 2) / 64  # Keras takes means over the batch
    np.testing.assert_allclose(logs["loss"] + logs["bound"], penalty, rtol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("policy", MIXED)
def test_save_and_load_in_another_process(policy, images, tmp_path):
    model = make_model(policy)
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    model.fit(images, batch_size=16, verbose=0)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    code = (
        "import dvae_tf, keras, numpy as np\n"
        "model = keras.models.load_model('model.keras')\n"
        "images = np.load('images.npy')\n"
        "np.save('denoised.npy', model.predict(images, verbose=0))\n"
        "history = model.fit(images, batch_size=16, shuffle=False, verbose=0).history\n"
        "print(model.dtype_policy.name, type(model.optimizer).__name__, history['loss'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    denoised = np.load(tmp_path / "denoised.npy")
    np.testing.assert_array_equal(denoised, model.predict(images, verbose=0))
    history = model.fit(images, batch_size=16, shuffle=False, verbose=0).history
    optimizer = {"mixed_float16": "LossScaleOptimizer"}.get(policy, "Adam")
    assert result.stdout.strip() == f"{policy} {optimizer} {history['loss']}"


def test_an_overflowing_step_leaves_the_weights(images):
    """Loss scaling: the step is left out, the scale halved, and training goes on."""
    model, seeds = make_model("mixed_float16"), []
    bound_terms = model.bound_terms

    def spy(x, *, seed, **kwargs):
        seeds.append(tuple(seed.numpy()))
        return bound_terms(x, seed=seed, **kwargs)

    model.bound_terms = spy
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(), initial_scale=2.0**60)
    model.compile(optimizer, run_eagerly=True)
    before = model.get_weights()
    logs = model.train_on_batch(images, return_dict=True)
    assert np.isfinite(list(logs.values())).all()
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert int(optimizer.iterations) == 0
    assert float(optimizer.dynamic_scale) == 2.0**59
    optimizer.dynamic_scale.assign(2.0**8)
    for _ in range(3):
        model.train_on_batch(images)
    assert int(optimizer.iterations) == 3
    assert len(set(seeds)) == 4  # the skipped step, too, has numbers of its own
    assert any(np.any(w != old) for w, old in zip(model.get_weights(), before, strict=True))
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def gradient_of_a_step(images, policy, **kwargs) -> np.ndarray:
    """Return what one step of length 1 down the gradient takes off the weights, flat."""
    model = make_model(policy)
    optimizer = keras.optimizers.SGD(1.0, **kwargs)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**8)
    model.compile(optimizer, jit_compile=False)
    before = model.get_weights()
    model.train_on_batch(images)
    pairs = zip(before, model.get_weights(), strict=True)
    return np.concatenate([np.ravel(old - new) for old, new in pairs])


@pytest.mark.parametrize("policy", ["float32", *MIXED])
def test_clipping_bounds_the_global_norm(policy, images):
    gradient = gradient_of_a_step(images, policy)
    norm = np.linalg.norm(gradient)
    reference = gradient_of_a_step(images, "float32")
    # The same gradient whatever the policy: above all, no loss scale is left in it.
    assert np.linalg.norm(gradient - reference) < 0.05 * norm
    for limit in (0.1 * norm, 0.9 * norm, 2 * norm):
        clipped = gradient_of_a_step(images, policy, global_clipnorm=float(limit))
        np.testing.assert_allclose(
            clipped, gradient * min(1, limit / norm), rtol=1e-3, atol=1e-5 * norm
        )


def test_max_gradient_norm_reaches_the_optimizer(images):
    model = make_model()
    config = defaults.resolve(Options(epochs=1, max_gradient_norm=0.5))
    building.compile_model(model, config, 1)
    model.train_on_batch(images)
    # After one step Adam's first moment is 1 - beta_1 = 0.1 of the gradient it was given.
    moments = np.concatenate([np.ravel(v) for v in model.optimizer._momentums])
    assert np.linalg.norm(moments) == pytest.approx(0.1 * 0.5, rel=1e-4)


def test_precision_reaches_the_networks_and_stays_there():
    config = Options(precision="mixed_bfloat16", latent_dim=2)
    model = building.build_model(defaults.resolve(config), SHAPE)
    assert model.encoder.get_layer("hidden_1").compute_dtype == "bfloat16"
    assert keras.layers.Dense(1).compute_dtype == "float32"
    with networks.dtype_policy("mixed_bfloat16"):
        config = Options(latent_dim=2)
        model = building.build_model(defaults.resolve(config), SHAPE)
    assert model.encoder.get_layer("hidden_1").compute_dtype == "float32"


@pytest.mark.slow
def test_digits_reach_the_bound_of_float32():
    """Within five standard errors, for the bound differs by 0.3 nats from seed to seed."""
    digits = datasets.load("digits")
    train, validation = (
        datasets.as_float(part.images) for part in (digits.train, digits.validation)
    )
    means = []
    for policy in ("float32", "mixed_bfloat16"):
        values = []
        for seed in range(3):
            keras.utils.set_random_seed(seed)
            with networks.dtype_policy(policy):
                encoder, decoder = networks.mlp(
                    (8, 8, 1), 8, "discretized_logistic", hidden=(32,), activation="swish"
                )
            model = DVAE(encoder, decoder, corruption=corruptions.SaltPepper(0.2), seed=seed)
            model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
            model.fit(train, batch_size=64, epochs=10, verbose=0)
            values.append(model.evaluate(validation, verbose=0, return_dict=True)["bound"])
        means.append(np.mean(values))
    assert abs(means[1] - means[0]) < 5 * 0.3 * np.sqrt(2 / 3)
