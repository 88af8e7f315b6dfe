"""Features: the posterior moments of each example, and the latent units that are active."""

from typing import Any

import numpy as np
import tensorflow as tf

from dvae_tf import latents
from dvae_tf.evaluation.batchwise import batchwise
from dvae_tf.evaluation.settings import Settings
from dvae_tf.kinds.kind import Example
from dvae_tf.model import DVAE

# A unit is active when its posterior mean varies over the data by more than this:
# Burda et al. (2016), arXiv:1509.00519, section 5.2.
ACTIVE_VARIANCE = 0.01


def posterior(model: DVAE, examples: Example, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of q(z|x) as vectors, [N, L] each."""

    def moments(x) -> tuple[tf.Tensor, tf.Tensor]:
        q = model.encoder(x, training=False)
        return latents.as_vectors(latents.mean(q)), latents.as_vectors(latents.stddev(q))

    return batchwise(moments, examples, batch_size)


def active_units(posterior_means: np.ndarray) -> np.ndarray:
    """Return which latent units are active, Var_x(E[z|x]) > 0.01: [N, L] -> bool [L]."""
    return posterior_means.var(axis=0) > ACTIVE_VARIANCE


def measure(
    model: DVAE, clean: Example, settings: Settings
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Measure the latent space.

    Args:
        model: the trained model.
        clean: examples, [N, ...].
        settings: settings of the evaluation.

    Returns:
        numbers as in metrics.json, and arrays: `latents`, the posterior means [N, L], and
        `kl_per_unit` [L] in nats. If the KL has no closed form, both lack it.
    """
    means, stddevs = posterior(model, clean, settings.batch_size)
    numbers: dict[str, Any] = {
        "latent_dim": means.shape[1],
        "active_units": int(active_units(means).sum()),
    }
    arrays = {"latents": means}
    per_unit = model.prior.kl_per_unit(means, stddevs)
    if per_unit is not None:
        numbers["kl_per_unit"] = [float(value) for value in per_unit]
        arrays["kl_per_unit"] = per_unit
    return numbers, arrays
