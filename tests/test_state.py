"""What is kept: weights, the best model, a model's arguments; and the means over a validation."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit

from dvae_tf import DVAE, corruptions, kinds, networks, priors
from dvae_tf.kinds.kind import AnyKind
from dvae_tf.runs import callbacks, checkpoints
from dvae_tf.runs.directory import RunDirectory

SHAPE = (2, 2, 1)


def make_model(**arguments) -> DVAE:
    encoder, decoder = networks.mlp(SHAPE, 2, hidden=(4,))
    return DVAE(encoder, decoder, **arguments)


def compiled(model: DVAE) -> DVAE:
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    return model


def set_weights(model, value) -> None:
    for weight in model.trainable_weights:
        weight.assign(tf.fill(weight.shape, value))


def validate(callback, epoch, bound, value) -> None:
    """Give the model weights of this value, which reach this bound at the end of the epoch."""
    set_weights(callback.model, value)
    callback.on_epoch_begin(epoch)
    callback.on_epoch_end(epoch, {"val_bound": bound})


def test_a_resumed_run_keeps_its_best_model_until_a_better_one(tmp_path):
    directory = RunDirectory(tmp_path)
    resumed, kept, bounds = None, [], (-3.0, -4.0, -2.5)
    for epoch, bound in enumerate(bounds):  # each in a process of its own
        model = compiled(make_model())
        callback = callbacks.Checkpointing(directory, seconds=1e9, resumed=resumed)
        callback.set_model(model)
        callback.set_params({"steps": 1})
        callback.on_train_begin()
        validate(callback, epoch, bound, float(epoch))
        callback.on_train_end()
        resumed = directory.load_checkpoint()
        kept.append(set(np.concatenate([np.ravel(w) for w in best_weights(directory)])))
        assert resumed.state["best_bound"] == max(bounds[: epoch + 1])
    assert kept == [{0.0}, {0.0}, {2.0}]


def best_weights(directory) -> list[np.ndarray]:
    return [weight.numpy() for weight in directory.load_model().trainable_weights]


def test_every_variable_comes_back_from_a_checkpoint(rng):
    """Also those that are not trained: running means, the KL weight, the optimiser's."""

    def build():
        encoder, decoder = networks.mlp(SHAPE, 2, hidden=(4,))
        image = keras.Input(SHAPE)
        normalised = keras.layers.BatchNormalization()(image)
        model = compiled(DVAE(keras.Model(image, encoder(normalised)), decoder))
        model.optimizer.build(model.trainable_variables)
        return model

    first, second = build(), build()
    variables = [*first.weights, *first.optimizer.variables]
    assert len(first.non_trainable_weights) == 3  # running mean and variance, the KL weight
    for number, variable in enumerate(variables):
        variable.assign(tf.cast(tf.fill(variable.shape, number + 5), variable.dtype))
    checkpoints.restore(second, checkpoints.capture(first))
    for number, variable in enumerate([*second.weights, *second.optimizer.variables]):
        np.testing.assert_array_equal(variable, np.full(variable.shape, number + 5))


# Every argument of a model, with a value that is not its default; some go with others only.
ARGUMENTS = (
    {
        "corruption": corruptions.Gaussian((0.1, 0.2), clip=True),
        "test_corruption": corruptions.Masking(0.3),
        "objective": "iwae",
        "posterior": "mixture",
        "num_corruptions": 2,
        "num_samples": 3,
        "binarize": True,
        "prior": priors.StandardNormal((2,), name="a_prior"),
        "kind": AnyKind(),
        "seed": 2**40 + 1,
    },
    {"objective": "iwae", "gradient": "doubly_reparameterized", "latent_dim": 3},
    {"paired": True},
)


def test_every_argument_of_a_model_is_tried():
    names = {
        p.name for p in inspect.signature(DVAE).parameters.values() if p.kind is p.KEYWORD_ONLY
    }
    assert {name for arguments in ARGUMENTS for name in arguments} == names


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda arguments: list(arguments)[-1])
def test_every_argument_of_a_model_is_kept(arguments, tmp_path):
    model, plain = make_model(**arguments), make_model()
    model.save(tmp_path / "model.keras")
    for copy in (
        DVAE.from_config(model.get_config()),
        keras.models.load_model(tmp_path / "model.keras"),
    ):
        for name, value in arguments.items():
            assert plainly(getattr(copy, name)) == plainly(value), name
            assert plainly(getattr(plain, name)) != plainly(value), name


def plainly(value):
    """Return a value that can be compared; a layer or a kind has no equality of its own."""
    if isinstance(value, keras.layers.Layer | kinds.Kind):
        return type(value), value.get_config()
    return value


def test_validation_weighs_examples_equally_whatever_their_batch(rng):
    """Ten images in batches of 4, 4 and 2, with a bound that depends on no random number."""
    model = compiled(make_model(corruption=corruptions.Gaussian(0.1)))
    set_weights(model, 0.0)
    logits, raw = np.array([0.5, -1.0, 2.0, 0.1]), np.array([0.3, -0.2, -0.5, 1.0])
    model.decoder.get_layer("parameters").bias.assign(logits)
    model.encoder.get_layer("parameters").bias.assign(raw)
    x = rng.integers(0, 2, (10, 4)).astype(np.float32)
    x[8:] = 0, 1, 0, 0  # the least likely values, in the last batch
    found = model.evaluate(x.reshape(-1, *SHAPE), batch_size=4, return_dict=True, verbose=0)
    log_p = np.log(np.where(x == 1, expit(logits), expit(-logits))).sum(axis=1)  # [10]
    q = model.encoder(np.zeros((1, *SHAPE), np.float32))
    mean, stddev = q.mean().numpy()[0], q.stddev().numpy()[0]
    kl = (0.5 * (mean**2 + stddev**2 - 1) - np.log(stddev)).sum()
    expected = {"reconstruction": log_p.mean(), "kl": kl, "elbo": log_p.mean() - kl}
    expected |= {"bound": expected["elbo"], "loss": -expected["elbo"]}
    assert found == pytest.approx(expected, rel=1e-5)
    batches = np.array([part.mean() for part in np.split(log_p, [4, 8])])
    assert abs(batches.mean() - log_p.mean()) > 0.1
