"""Denoising by the model and by classical methods, under every noise of the kind of data."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dvae_tf import nests
from dvae_tf.denoised import Denoised
from dvae_tf.evaluation.batchwise import batchwise
from dvae_tf.evaluation.noise import every_noise
from dvae_tf.evaluation.settings import Settings
from dvae_tf.evaluation.summary import measured
from dvae_tf.kinds import Kind
from dvae_tf.kinds.kind import Example
from dvae_tf.kinds.measure import Measure
from dvae_tf.model import DVAE

NUM_SAMPLES = 16  # S, latent samples of the posterior average

# Methods for every kind of data: name in metrics.json -> label in tables.
_METHODS = {
    "noisy": "noisy input",
    "model_mean": "this model, mean",
    "model_average": "this model, posterior average",
}


def squared_error(clean: Example, other: Example) -> np.ndarray:
    """Return the mean squared error over the values of each example: [N]."""
    return np.square(nests.as_matrix(other) - nests.as_matrix(clean)).mean(axis=1)


def measures(kind: Kind) -> dict[str, Measure]:
    """Return the measures of a kind of data by name; there is at least one.

    The squared error stands in for a kind without measures. A plain function becomes a `Measure`
    with its name as label; larger values count as better.
    """
    named = kind.measures() or {
        "squared_error": Measure(squared_error, "squared error", digits=4, is_error=True)
    }
    return {
        name: function if isinstance(function, Measure) else Measure(function, name)
        for name, function in named.items()
    }


def methods(kind: Kind) -> dict[str, str]:
    """Return the methods to compare: name in metrics.json -> label in tables."""
    return _METHODS | {
        name: getattr(function, "label", name.replace("_", " "))
        for name, function in kind.baselines().items()
    }


def posterior_average(model: DVAE, noisy: Example, settings: Settings) -> Denoised:
    """Denoise by averaging over `NUM_SAMPLES` posterior draws; all batches use the same seed."""
    return batchwise(
        lambda x: model.denoise(x, num_samples=NUM_SAMPLES, seed=settings.seed),
        noisy,
        settings.batch_size,
    )


def measure(
    model: DVAE, clean: Example, levels: tuple[float, ...], settings: Settings
) -> list[dict[str, Any]]:
    """Return a row for each method, noise and level, as in metrics.json.

    Args:
        model: the trained model.
        clean: examples, [N, ...].
        levels: levels at which every noise is tried.
        settings: settings of the evaluation.
    """
    named = measures(model.kind)
    return [
        {"method": method, **noisy.place}
        | {name: measured(function(clean, estimate)) for name, function in named.items()}
        for noisy in every_noise(model.kind, levels, clean, settings.seed)
        for method, estimate in _estimates(model, clean, noisy.examples, settings).items()
    ]


def _estimates(
    model: DVAE, clean: Example, noisy: Example, settings: Settings
) -> Mapping[str, Example]:
    """Denoise examples by each method: name of the method -> estimates."""
    added = nests.as_matrix(noisy) - nests.as_matrix(clean)
    sigma = float(np.sqrt(np.mean(np.square(added, dtype=np.float64))))
    return {
        "noisy": noisy,
        "model_mean": batchwise(model, noisy, settings.batch_size),
        "model_average": posterior_average(model, noisy, settings).mean,
    } | {name: denoise(noisy, sigma=sigma) for name, denoise in model.kind.baselines().items()}
