"""Adversarial noise: squared errors under random noise and under an attack of the same size."""

from typing import Any

import numpy as np
import tensorflow as tf

from dvae_tf import corruptions, nests
from dvae_tf.evaluation.attacks import projected_gradient
from dvae_tf.evaluation.batchwise import batchwise
from dvae_tf.evaluation.denoising import squared_error
from dvae_tf.evaluation.noise import corrupted
from dvae_tf.evaluation.settings import Settings
from dvae_tf.evaluation.summary import measured
from dvae_tf.kinds.kind import Example
from dvae_tf.model import DVAE

_NUM_ATTACKED, _NUM_SHOWN = 100, 10
# Sizes in units of the training noise; figures show size 1.
_FACTORS = (0.5, 1.0, 2.0)
# Added to the seed, so that the attack's draws differ from the noise.
_DIRECTIONS = 1


def measure(
    model: DVAE, clean: Example, settings: Settings
) -> tuple[list[dict[str, Any]], dict[str, Example]]:
    """Compare an attack with random noise, at half, once and twice the size of the training noise.

    Args:
        model: the trained model. If it was trained without noise, Gaussian noise of level 0.1 sets
            the size.
        clean: examples, [N, ...]; the first 100 are attacked.
        settings: settings of the evaluation.

    Returns:
        rows as in metrics.json, and the arrays `random_input`, `random_output`, `attack_input` and
        `attack_output`, ten examples each.
    """
    clean = nests.take(clean, slice(_NUM_ATTACKED))
    is_noiseless = model.corruption == corruptions.Identity()
    corruption = corruptions.Gaussian(0.1) if is_noiseless else model.corruption
    noise = nests.as_matrix(corrupted(corruption, clean, settings.seed)) - nests.as_matrix(clean)
    norms = np.sqrt(np.square(noise).sum(axis=1))
    rows, shown = [], {}
    for factor in _FACTORS:
        attacked, random = projected_gradient(
            model, clean, sizes=factor * norms, seed=settings.seed + _DIRECTIONS
        )
        row: dict[str, Any] = {"size": factor, "l2_norm": measured(factor * norms)}
        for name, tensors in (("random", random), ("attack", attacked)):
            noisy = tf.nest.map_structure(np.asarray, tensors)
            denoised = batchwise(model, noisy, settings.batch_size)
            row[name] = measured(squared_error(clean, denoised))
            if factor == 1.0:
                shown[f"{name}_input"] = nests.take(noisy, slice(_NUM_SHOWN))
                shown[f"{name}_output"] = nests.take(denoised, slice(_NUM_SHOWN))
        rows.append(row)
    return rows, shown
