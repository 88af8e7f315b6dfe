"""Checks of what `DVAE.fit` and `DVAE.evaluate` are given, and the parts of a batch.

Keras passes on whatever it is given. It drops weights of examples without labels, takes a list for
a model with several inputs, and trains at a learning rate of 0. What the model cannot use is refused
here, before training if arguments or the types of a `tf.data` dataset show it, else in the first step.
"""

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from dvae_tf.model import DVAE

_NO_WEIGHTS = "Examples must have equal weights: the bound has no weights of examples or classes."


def check_fit(model: "DVAE", *args, **kwargs) -> None:
    """Check the arguments of `fit`.

    Raises:
        ValueError: if they do not suit the model; the message is one line.
    """
    given = _arguments(keras.Model.fit, model, *args, **kwargs)
    _check(model, given)
    validation = given.get("validation_data")
    if validation is not None:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(validation)
        _check(model, {"x": x, "y": y, "sample_weight": weight})
    if model.compiled and given.get("epochs", 1) > given.get("initial_epoch", 0):
        _check_training(model, given.get("callbacks"))


def check(method, model: "DVAE", *args, **kwargs) -> None:
    """Check the arguments of a method of `keras.Model` other than `fit`, with the same errors."""
    _check(model, _arguments(method, model, *args, **kwargs))


def check_predict(model: "DVAE", x) -> None:
    """Check the examples of `predict`; noisy ones may have any value."""
    refuse_list(x, model)
    if isinstance(x, np.ndarray | tf.Tensor):
        model.kind.check(x, model.encoder)


def _arguments(method, *args, **kwargs) -> dict[str, Any]:
    """Return the arguments of a call by name, however they were passed."""
    return inspect.signature(method).bind(*args, **kwargs).arguments


def _check(model: "DVAE", given: dict[str, Any]) -> None:
    for name in ("sample_weight", "class_weight"):
        if given.get(name) is not None:
            raise ValueError(f"{_NO_WEIGHTS} Received: `{name}`. Leave it out.")
    x = given.get("x")
    refuse_list(x, model)
    if isinstance(x, tf.data.Dataset):
        batch = x.element_spec
    elif all(hasattr(part, "shape") for part in tf.nest.flatten(x)):
        batch = (x, given.get("y"))
        if any(part.shape[0] == 0 for part in tf.nest.flatten(x)):
            raise ValueError(
                f"There must be at least one {model.kind.noun}. Received: x without any. Check how "
                "it was made."
            )
    else:
        return  # a generator or loader: only its batches say what it holds
    clean, _ = unpack(batch, model)
    # Values are checked here, because the graph of a step cannot.
    if isinstance(clean, np.ndarray | tf.Tensor):
        model.kind.check(clean, model._clean_model, clean=model.observation is None)


def unpack(data, model: "DVAE") -> tuple[Any, Any]:
    """Return the parts of a batch: (clean, noisy) for a model of paired data, else (clean, None).

    Args:
        data: a batch of arrays, tensors or their specs, as Keras passes it to a step.
        model: the model that takes it.

    Raises:
        ValueError: if the batch has not the parts that the model takes.
    """
    first, second, weight = keras.utils.unpack_x_y_sample_weight(data)
    if weight is not None:
        raise ValueError(
            f"{_NO_WEIGHTS} `fit` takes batches of x, (x, label) or (noisy, clean), without sample "
            "weights. Received: a third element in the batch. Drop it."
        )
    refuse_list(first, model)
    if model.paired and second is None:
        raise ValueError(
            "A model made with paired=True takes batches (noisy, clean). Received: one element."
        )
    if model.paired:
        refuse_list(second, model)
        return second, first
    sizes = _sizes(first)
    if sizes and sizes == _sizes(second):
        shape = tuple(tf.nest.flatten(second)[0].shape)
        raise ValueError(
            f"Labels must not have the shape of examples. Received: a second element of shape {shape}. "
            "Make the model with paired=True if batches are (noisy, clean), or drop the labels."
        )
    return first, None


def refuse_list(x, model: "DVAE") -> None:
    """Refuse a list of examples for an encoder with one input.

    Keras takes each array of a list for an input of its own, and the first axis of an image for the
    batch.
    """
    is_one_input = isinstance(getattr(model.encoder, "input_shape", None), tuple)
    if is_one_input and (x is None or isinstance(x, list | tuple)):
        received = "None" if x is None else f"a {type(x).__name__} of {len(x)}"
        raise ValueError(
            f"{model.kind.noun.capitalize()}s must be one array, batch first. Received: {received}. "
            "Stack them: numpy.stack(x)."
        )


def _sizes(nest) -> list[list[int | None]]:
    """Return the lengths of the axes of each part, without the batch and without lengths of 1.

    Empty if a part has no such axes, as labels have none, or no known number of axes.
    """
    sizes = []
    for part in tf.nest.flatten(nest):
        shape = tf.TensorShape(getattr(part, "shape", ()))
        known = shape.as_list() if shape.rank else []
        sizes.append([length for length in known[1:] if length != 1])
    return sizes if all(sizes) else []


def _check_training(model: "DVAE", callbacks) -> None:
    """Refuse a model that cannot learn, and warn if the learning rate says that it will not."""
    if model.optimizer is None:
        raise ValueError("`fit` needs an optimizer. Received: None. Call compile('adam').")
    if model.built and not model.trainable_variables:
        raise ValueError(
            "`fit` needs weights to train. Received: trainable=False everywhere. Set "
            "model.decoder.trainable = True, or that of another part."
        )
    _warn_of_rate_zero(model.optimizer, callbacks)


def _warn_of_rate_zero(optimizer, callbacks) -> None:
    """Warn if the learning rate is 0 at the first step and at the next, so that nothing would change.

    A schedule may warm up from 0, and a rate that a callback sets has no meaning before the first epoch.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = getattr(optimizer, "_learning_rate", None)
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        step = int(keras.ops.convert_to_numpy(optimizer._iterations))
        rates, why = [rate(step), rate(step + 1)], f"as its schedule says at step {step}"
    elif isinstance(rate, keras.Variable):
        if any(isinstance(c, keras.callbacks.LearningRateScheduler) for c in callbacks or ()):
            return
        rates, why = [rate], "which is constant"
    else:
        return
    if all(float(keras.ops.convert_to_numpy(value)) == 0 for value in rates):
        warnings.warn(
            f"Training starts at learning rate 0, {why}: the weights will not change. Compile with a "
            "new optimizer, for example model.compile(keras.optimizers.Adam(1e-3)).",
            stacklevel=5,
        )
