"""Finding the step, the term of the bound and the layer where numbers stopped being finite."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dvae_tf import latents, layers
from dvae_tf.model import DVAE
from dvae_tf.runs import checkpoints


def find(model: DVAE, batches: Iterable[tf.Tensor], first_step: int) -> dict[str, Any] | None:
    """Repeat training step by step until a value is not finite, and restore the model before that.

    A step is a function of the seed, so that a step that failed fails again.

    Args:
        model: a compiled model in the state after `first_step` steps, with finite weights.
        batches: the batches of the steps to repeat.
        first_step: number of the first of these steps, counted from 0.

    Returns:
        None if all values stay finite, else JSON values:
        `step`: the number of the step.
        `terms`: the terms of the bound that are not finite.
        `gradients`: the paths of variables whose gradient is not finite.
        `weights`: the paths of variables that are not finite after the step.
        `layers`: the layers whose output for the clean batch (of pairs, for the noisy one) is not
            finite, before the step.
        `largest_weight`: the largest absolute weight before the step, and its path.
        `input_finite`: whether the batch is finite.
    """
    variables = model.trainable_variables

    @tf.function(jit_compile=model.jit_compile)
    def step(x):
        loss, terms, gradient = model.training_gradient(x)
        values = {"loss": loss, **terms._asdict()}
        model.apply_gradient(gradient)
        return (
            {name: _is_finite(value) for name, value in values.items()},
            [_is_finite(value) for value in gradient],
            [_is_finite(variable.value) for variable in variables],
        )

    # A scaled gradient may overflow; such a step only changes the scale.
    is_scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    for number, x in enumerate(batches, start=first_step):
        before = checkpoints.capture(model)
        terms, gradients, weights = tf.nest.map_structure(bool, step(x))
        if all(terms.values()) and all(weights) and (is_scaled or all(gradients)):
            continue
        checkpoints.restore(model, before)
        paths = [variable.path for variable in variables]
        largest = [float(np.abs(keras.ops.convert_to_numpy(v)).max()) for v in variables]
        return {
            "step": number,
            "terms": [name for name, finite in terms.items() if not finite],
            "gradients": [p for p, finite in zip(paths, gradients, strict=True) if not finite],
            "weights": [p for p, finite in zip(paths, weights, strict=True) if not finite],
            "layers": _non_finite_layers(model, x[0] if model.paired else x),
            "largest_weight": max(zip(largest, paths, strict=True)),
            "input_finite": bool(_is_finite(x)),
        }
    return None


def _is_finite(nest) -> tf.Tensor:
    parts = [tf.reduce_all(tf.math.is_finite(x)) for x in tf.nest.flatten(nest)]
    return tf.reduce_all(tf.stack(parts))


def _non_finite_layers(model: DVAE, x: tf.Tensor) -> list[str]:
    """Return the layers of encoder and decoder whose output is not finite, in order."""
    found = []
    z = latents.mean(model.encoder(x, training=False))
    for part, value in ((model.encoder, x), (model.decoder, z)):
        if not hasattr(part, "operations"):  # not Functional: the outputs of its layers are unknown
            continue
        # Layers that return a distribution show no more than their parameters do.
        inner = [x for x in part.layers if not isinstance(x, layers.ProbabilisticLayer)]
        outputs = keras.Model(part.input, [layer.output for layer in inner])(value)
        found += [
            f"{part.name}/{layer.name}"
            for layer, output in zip(inner, outputs, strict=True)
            if not _is_finite(output)
        ]
    return found
