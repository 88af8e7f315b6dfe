"""The outcome of a run: numbers and figures of its best model on validation examples."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import keras
import numpy as np
import tensorflow as tf

from dvae_tf import datasets, figures, nests, randomness
from dvae_tf.datasets import Dataset
from dvae_tf.model import DVAE
from dvae_tf.runs.configuration import Configuration
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.history import Columns

_NUM_SHOWN = 10
_NUM_SAMPLES = 100
# Most values of validation examples for the PSNR in figures. Their noise is drawn at once, which
# takes about 70 bytes a value.
_MAX_MEASURED = 2**23
# Folded into the run's seed, to separate the noise in figures from the model's own draws.
_FIGURE_NOISE = 100


class Outcome(NamedTuple):
    """The results of a run on the validation examples.

    Attributes:
        best_bound: best validation bound, in nats per example.
        noisy_psnr: PSNR of corrupted examples, in dB; None if the kind of data has no PSNR.
        denoised_psnr: PSNR of denoised examples, in dB; None if the kind of data has no PSNR.
    """

    best_bound: float
    noisy_psnr: float | None = None
    denoised_psnr: float | None = None


def shown_examples(config: Configuration, dataset: Dataset, model: DVAE) -> tuple[Any, Any]:
    """Return the validation examples in figures, clean and corrupted, always with the same noise.

    The clean ones are None for a model of noisy examples.
    """
    clean, noisy = _corrupted(config, dataset, model.corruption, _NUM_SHOWN)
    return (clean if model.observation is None else None), noisy


def conclude(
    directory: RunDirectory, config: Configuration, model: DVAE, dataset: Dataset, history: Columns
) -> Outcome:
    """Measure the best model, and write the figures.

    Args:
        directory: run directory, into which figures/ is written.
        config: configuration of the run.
        model: the best model.
        dataset: data set of the run.
        history: columns of history.csv.
    """
    best_bound = float(np.nanmax(history["val_bound"]))
    outcome, title = Outcome(best_bound), model.kind.describe_noise(model.corruption)
    # A model of noisy examples has no clean ones to compare with.
    psnr = dataset.kind.measures().get("psnr") if model.observation is None else None
    if psnr is not None:
        size = sum(int(np.prod(x.shape[1:])) for x in tf.nest.flatten(dataset.train.examples))
        kept = max(_MAX_MEASURED // size, _NUM_SHOWN)
        clean, noisy = _corrupted(config, dataset, model.corruption, kept)
        batch_size = config.batch_size if config.patch else 500
        denoised = model.predict(noisy, batch_size=batch_size, verbose=0)
        outcome = Outcome(
            best_bound, float(psnr(clean, noisy).mean()), float(psnr(clean, denoised).mean())
        )
        title += (
            f"\nPSNR over {nests.batch_size(clean)} validation {dataset.kind.noun}s: "
            f"corrupted {outcome.noisy_psnr:.1f} dB, denoised {outcome.denoised_psnr:.1f} dB"
        )
    arrays = _shown_arrays(config, model, dataset)
    drawn = {"curves": figures.learning_curves(history, noun=dataset.kind.noun)}
    directory.write_figures(drawn | dataset.kind.run_figures(arrays, title=title))
    return outcome


def _shown_arrays(config: Configuration, model: DVAE, dataset: Dataset) -> dict[str, Any]:
    """Return the arrays that `Kind.run_figures` takes."""
    clean, noisy = shown_examples(config, dataset, model)
    arrays = {"noisy": noisy, "denoised": model.predict(noisy, verbose=0)}
    if clean is not None:
        arrays["clean"] = clean
    if not model.is_conditional:
        arrays["samples"] = _as_arrays(model.sample(_NUM_SAMPLES, seed=config.seed))
    first = next((layer for layer in model.encoder.layers if layer.weights), None)
    if isinstance(first, keras.layers.Dense):
        arrays["first_layer"] = first.kernel.numpy()
    if model.latent_dim == 2 and model.prior.quantile(np.array(0.5)) is not None:
        quantile = cast(Callable[[np.ndarray], np.ndarray], model.prior.quantile)
        arrays["manifold_latents"] = figures.latent_grid(quantile)
        arrays["manifold"] = _as_arrays(
            model.decoder(arrays["manifold_latents"], training=False).mean()
        )
    return arrays


def _corrupted(
    config: Configuration, dataset: Dataset, corruption, num_examples: int
) -> tuple[Any, Any]:
    """Return evenly spaced validation examples, clean and corrupted, as float arrays."""
    places = datasets.evenly_spaced(len(dataset.validation), num_examples)
    some = dataset.validation.take(places)
    clean = some.as_float()
    if some.is_paired:
        return clean, some.noisy_as_float()
    seed = randomness.fold_in(randomness.as_seed(config.seed), _FIGURE_NOISE)
    return clean, _as_arrays(corruption(clean, seed=seed))


def _as_arrays(nest):
    return tf.nest.map_structure(np.asarray, nest)
