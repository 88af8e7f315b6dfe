"""The bound and its terms for clean and corrupted examples."""

from typing import Any

import tensorflow as tf

from dvae_tf import corruptions, nests, randomness
from dvae_tf.evaluation.batchwise import joined
from dvae_tf.evaluation.settings import Settings
from dvae_tf.evaluation.summary import measured
from dvae_tf.kinds.kind import Example
from dvae_tf.model import DVAE, BoundTerms


def bound_terms(
    model: DVAE, corruption: corruptions.Corruption, examples: Example, settings: Settings
) -> BoundTerms:
    """Return the terms of the model's bound under a corruption: arrays [N], in nats.

    Each batch draws with its own seed.
    """
    parts = []
    for start in range(0, nests.batch_size(examples), settings.batch_size):
        batch = nests.take(examples, slice(start, start + settings.batch_size))
        parts.append(
            model.bound_terms(
                tf.nest.map_structure(tf.constant, batch),
                seed=randomness.fold_in(randomness.as_seed(settings.seed), start),
                corruption=corruption,
            )
        )
    return joined(parts)


def measure(model: DVAE, clean: Example, settings: Settings) -> dict[str, Any]:
    """Measure the bounds and their terms on clean and corrupted examples, as in metrics.json."""
    of_clean = bound_terms(model, corruptions.Identity(), clean, settings)._asdict()
    of_corrupted = bound_terms(model, model.corruption, clean, settings)._asdict()
    names = ("bound", "elbo", "reconstruction", "kl")
    result = {name: measured(of_clean[name]) for name in names[1:]}
    return result | {f"corrupted_{name}": measured(of_corrupted[name]) for name in names}
