"""Robustness: bound, squared error and probe accuracy against the level of every noise."""

from typing import Any

import numpy as np

from dvae_tf.evaluation.batchwise import batchwise
from dvae_tf.evaluation.bound_terms import bound_terms
from dvae_tf.evaluation.denoising import squared_error
from dvae_tf.evaluation.features import posterior
from dvae_tf.evaluation.noise import every_noise
from dvae_tf.evaluation.settings import Settings
from dvae_tf.evaluation.summary import measured
from dvae_tf.kinds.kind import Example
from dvae_tf.model import DVAE


def measure(
    model: DVAE,
    clean: Example,
    levels: tuple[float, ...],
    settings: Settings,
    *,
    probe=None,
    labels: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Return a row for each noise and level, as in metrics.json.

    Args:
        model: the trained model.
        clean: examples, [N, ...].
        levels: levels at which every noise is tried.
        settings: settings of the evaluation.
        probe: a classifier of posterior means, or None.
        labels: labels of the examples, [N]; needed with a probe.
    """
    rows = []
    for noisy in every_noise(model.kind, levels, clean, settings.seed):
        bound = bound_terms(model, noisy.corruption, clean, settings).bound
        denoised = batchwise(model, noisy.examples, settings.batch_size)
        row: dict[str, Any] = {
            **noisy.place,
            "bound": measured(bound),
            "squared_error": measured(squared_error(clean, denoised)),
        }
        if probe is not None:
            means, _ = posterior(model, noisy.examples, settings.batch_size)
            row["probe_accuracy"] = measured(probe.predict(means) == labels)
        rows.append(row)
    return rows
