"""Views of the latent space: repeated denoising, traversals, interpolation and prior samples."""

from typing import Any

import numpy as np
import tensorflow as tf

from dvae_tf import latents, nests
from dvae_tf.evaluation.noise import corrupted
from dvae_tf.evaluation.settings import Settings
from dvae_tf.kinds.kind import Example
from dvae_tf.model import DVAE

_NUM_SHOWN, _NUM_REPEATS, _NUM_SAMPLES = 6, 9, 60
_NUM_UNITS, _NUM_STEPS = 8, 9  # units traversed; steps of a traversal and of an interpolation


def measure(
    model: DVAE, clean: Example, importance: np.ndarray, settings: Settings
) -> dict[str, Any]:
    """Return the arrays that show the latent space; see `Kind.evaluation_figures`.

    Args:
        model: the trained model.
        clean: examples, [N, ...]; the first six are shown.
        importance: importance of each latent unit, [L]; the eight most important are traversed.
        settings: settings of the evaluation.

    Returns:
        `repeated`, [N, steps, ...], and its `repeated_path`, [N, steps, L]; `traversal`,
        [units, steps, ...], with `traversal_units` and `traversal_values`; `interpolation`,
        [pairs, steps, ...]; `samples`.
    """
    shown = nests.take(clean, slice(_NUM_SHOWN))
    means = _encode(model, shown)
    units = np.argsort(-importance)[:_NUM_UNITS]
    values = np.linspace(*model.prior.typical, _NUM_STEPS, dtype=np.float32)
    samples = model.sample(_NUM_SAMPLES, seed=settings.seed)
    return _repeated(model, corrupted(model.corruption, shown, settings.seed)) | {
        "traversal": _traversal(model, means[:1], units, values),
        "traversal_units": units,
        "traversal_values": values,
        "interpolation": _interpolation(model, means),
        "samples": tf.nest.map_structure(np.asarray, samples),
    }


def _encode(model: DVAE, examples: Example) -> np.ndarray:
    """Return posterior means as vectors, [N, L]."""
    return latents.as_vectors(latents.mean(model.encoder(examples, training=False))).numpy()


def _decode(model: DVAE, vectors: np.ndarray) -> Example:
    """Return the mean examples of latent vectors: [..., L] -> [..., *example]."""
    flat = tf.constant(vectors.reshape(-1, vectors.shape[-1]))
    means = model.decoder(
        latents.from_vectors(flat, model.prior.event_shape), training=False
    ).mean()
    return tf.nest.map_structure(
        lambda part: np.asarray(part).reshape(*vectors.shape[:-1], *part.shape[1:]), means
    )


def _repeated(model: DVAE, noisy: Example) -> dict[str, Any]:
    """Denoise examples repeatedly, each time the last result, and keep the path of the latents."""
    steps, path = [noisy], []
    for _ in range(_NUM_REPEATS):
        path.append(_encode(model, steps[-1]))
        steps.append(_decode(model, path[-1]))
    repeated = tf.nest.map_structure(lambda *parts: np.stack(parts, axis=1), *steps)
    return {"repeated": repeated, "repeated_path": np.stack(path, axis=1)}


def _traversal(model: DVAE, centre: np.ndarray, units: np.ndarray, values: np.ndarray) -> Example:
    """Decode the latent `centre`, [1, L], with one unit set to each value: [units, steps, ...]."""
    vectors = np.tile(centre, (len(units), len(values), 1))
    vectors[np.arange(len(units)), :, units] = values
    return _decode(model, vectors)


def _interpolation(model: DVAE, means: np.ndarray) -> Example:
    """Decode latents on the line between paired means: [N, L] -> [N // 2, steps, ...]."""
    pairs = len(means) // 2
    first, second = means[0 : 2 * pairs : 2], means[1 : 2 * pairs : 2]
    weights = np.linspace(0, 1, _NUM_STEPS, dtype=np.float32)[:, None]
    return _decode(model, (1 - weights) * first[:, None] + weights * second[:, None])
