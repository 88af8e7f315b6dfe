"""Where numbers stopped being finite: the step, the term of the bound, the layer."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dvae_tf import latents, layers
from dvae_tf.model import DVAE
from dvae_tf.runs import checkpoints


def find(model: DVAE, batches: Iterable[tf.Tensor], first_step: int) -> dict[str, Any] | None:
    """Train on, step by step, until something is not finite; the model ends as before that step.

    Steps are functions of the seed: those that went wrong go wrong again.

    Args:
        model: compiled, in the state of a run after `first_step` steps, all finite.
        batches: those of the steps to try.
        first_step: the number of the first of them, counted from 0.

    Returns:
        None if all stays finite, else JSON values: `step`; `terms`, those of the bound that are not
        finite; `gradients` and `weights`, the paths of variables whose gradient, or which after the
        step, are not finite; `layers`, whose output is not finite for the clean batch before the
        step; `largest_weight` and its path before the step; `input_finite`.
    """
    variables = model.trainable_variables

    @tf.function(jit_compile=model.jit_compile)
    def step(x):
        loss, terms, gradient = model.training_gradient(x)
        values = {"loss": loss, **terms._asdict()}
        model.optimizer.apply_gradients(zip(gradient, variables, strict=True))
        return (
            {name: _is_finite(value) for name, value in values.items()},
            [_is_finite(value) for value in gradient],
            [_is_finite(variable.value) for variable in variables],
        )

    # A scaled gradient may overflow: that step changes nothing but the scale.
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
            "layers": _non_finite_layers(model, x),
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
    z = latents.mean(model.encoder(x))
    for part, value in ((model.encoder, x), (model.decoder, z)):
        if not hasattr(part, "operations"):  # not Functional: its layers cannot be told apart
            continue
        # Those that return a distribution show nothing that their parameters do not.
        inner = [x for x in part.layers if not isinstance(x, layers.ProbabilisticLayer)]
        outputs = keras.Model(part.input, [layer.output for layer in inner])(value)
        found += [
            f"{part.name}/{layer.name}"
            for layer, output in zip(inner, outputs, strict=True)
            if not _is_finite(output)
        ]
    return found
