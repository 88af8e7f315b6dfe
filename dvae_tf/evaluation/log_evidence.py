"""log p(x) of test examples: importance sampling, and annealing as a second opinion."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from dvae_tf import datasets, nests
from dvae_tf.evaluation.settings import Settings
from dvae_tf.evaluation.summary import as_json, measured, summarize
from dvae_tf.evidence import (
    LogLikelihood,
    annealed_importance_sampling,
    bits_per_dimension,
    importance_sampling,
)
from dvae_tf.kinds.kind import Example
from dvae_tf.likelihoods import LIKELIHOODS
from dvae_tf.model import DVAE


def measure(
    model: DVAE,
    clean: Example,
    settings: Settings,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Estimate log p(x) by importance sampling, and of some examples by annealing too.

    Args:
        model: the trained model.
        clean: examples, [N, ...].
        settings: settings of the evaluation.
        progress: called with (examples done, N).

    Returns:
        numbers as in metrics.json.
    """
    estimate = importance_sampling(
        model.encoder,
        model.decoder,
        clean,
        prior=model.prior,
        kind=model.kind,
        num_samples=settings.num_importance_samples,
        seed=settings.seed,
        progress=progress,
    )
    result = _importance_sampled(estimate)
    if _is_discrete(model):
        num_values = nests.as_matrix(nests.take(clean, slice(1))).shape[1]
        bits = bits_per_dimension(estimate.log_likelihood, num_values)
        result["bits_per_dimension"] = measured(bits)
    if settings.num_annealed > 0:
        result["annealed"] = _annealed(model, clean, estimate, settings)
    return result


def _importance_sampled(estimate: LogLikelihood) -> dict[str, Any]:
    summary = summarize(estimate.log_likelihood)
    error = estimate.mean_monte_carlo_error
    extra: dict[str, Any] = {
        "num_samples": estimate.num_samples,
        "monte_carlo_error": error if np.isfinite(error) else None,
    }
    negative = dataclasses.replace(summary, mean=-summary.mean)
    return {"log_likelihood": as_json(summary) | extra, "nll": as_json(negative) | extra}


def _is_discrete(model: DVAE) -> bool:
    """Return whether p(x|z) is a probability, judged by the decoder's last layer."""
    layers = [type(layer) for layer in model.decoder.layers[-1:]]
    return any(kind.is_discrete() for kind in LIKELIHOODS.values() if kind.layer in layers)


def _annealed(
    model: DVAE, clean: Example, estimate: LogLikelihood, settings: Settings
) -> dict[str, Any]:
    """Compare annealing with importance sampling on some of the examples."""
    # Evenly spaced, because neighbours may be alike, as the frames of a film are.
    places = datasets.evenly_spaced(nests.batch_size(clean), settings.num_annealed)
    annealed = annealed_importance_sampling(
        model.decoder,
        nests.take(clean, places),
        prior=model.prior,
        kind=model.kind,
        seed=settings.seed,
    )
    same = estimate.log_likelihood[places]
    return {
        "log_likelihood": measured(annealed.log_likelihood),
        # The key dates from the time when all data were images; readers rely on it.
        "importance_sampling_on_the_same_images": measured(same),
        "difference": measured(annealed.log_likelihood - same),
        "monte_carlo_error": annealed.mean_monte_carlo_error,
        "num_chains": annealed.num_samples,
    }
