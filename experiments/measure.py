"""What is measured of a run: the numbers that tables and figures are made of."""

import hashlib
from typing import Any

import numpy as np

from dvae_tf import corruptions, datasets, likelihood, randomness
from dvae_tf.evaluation import measuring as evaluation
from dvae_tf.evaluation import metrics
from dvae_tf.model import DVAE
from dvae_tf.runs.configuration import Configuration
from dvae_tf.runs.training import Run
from experiments.runs import Cell, Measure

_SEED = 0  # of every draw: all runs see the same noisy images
_NUM_PROBED = 10_000
_NUM_CHAINS, _NUM_TEMPERATURES = 4, 400  # of annealing


def measure(cell: Cell, run: Run) -> dict[str, Any]:
    """Return the numbers of a trained run, those of its best and of its last weights.

    Args:
        cell: what is to be measured.
        run: trained; its model has the weights after the last epoch.
    """
    history = run.directory.read_history()
    result: dict[str, Any] = {
        "num_training_images": len(run.dataset.train.images),
        "epochs": len(history["epoch"]),
        "best_epoch": int(np.nanargmax(history["val_bound"])) + 1,
        "final_training_bound": history["bound"][-1],
        "final_validation_bound": history["val_bound"][-1],
    }
    if cell.with_kl:
        best = run.directory.load_model()
        result["best"] = _numbers(best, run.config, run.dataset, cell.measure)
    if cell.measure.last:
        is_best = cell.with_kl and result["best_epoch"] == result["epochs"]  # the same weights
        result["last"] = (
            result["best"]
            if is_best
            else _numbers(run.model, run.config, run.dataset, cell.measure)
        )
    return result


def _numbers(
    model: DVAE, config: Configuration, dataset: datasets.Dataset, how: Measure
) -> dict[str, Any]:
    test = dataset.test.take(slice(how.limit))
    images = datasets.as_float(test.images)
    settings = evaluation.Settings(
        num_importance_samples=how.num_importance_samples, num_annealed=0, seed=_SEED
    )
    result: dict[str, Any] = {"num_test_images": len(images)}
    result |= evaluation.measure_bounds(model, images, _SEED)
    result |= evaluation.measure_log_likelihood(model, config, images, settings)
    if how.num_annealed:
        some = images[datasets.evenly_spaced(len(images), how.num_annealed)]
        annealed = likelihood.annealed_importance_sampling(
            model.decoder,
            some,
            latent_dim=model.latent_dim,
            num_chains=_NUM_CHAINS,
            num_temperatures=_NUM_TEMPERATURES,
            seed=_SEED,
        )
        result["annealed"] = evaluation.as_json(metrics.summarize(annealed.log_likelihood)) | {
            "monte_carlo_error": annealed.mean_monte_carlo_error,
            "num_chains": _NUM_CHAINS,
            "num_temperatures": _NUM_TEMPERATURES,
            "each": [round(float(value), 3) for value in annealed.log_likelihood],
            # Which image it is, in whatever split.
            "digests": [hashlib.sha256(image.tobytes()).hexdigest()[:12] for image in some],
        }
    latents, _ = evaluation.posterior(model, images)
    result["active_units"] = int(metrics.active_units(latents).sum())
    if how.test_levels:
        result["denoising"] = _denoising(model, config, dataset.train, test, how.test_levels)
    return result


def _denoising(
    model: DVAE,
    config: Configuration,
    train: datasets.Split,
    test: datasets.Split,
    levels: tuple[float, ...],
) -> list[dict[str, Any]]:
    """Return PSNR, and the accuracy of a probe fitted on clean images, at every level of noise."""
    some = evaluation.probed_images(model, train, _NUM_PROBED, _SEED)
    latents, _ = evaluation.posterior(model, datasets.as_float(some.images))
    probe = metrics.fit_linear_probe(latents, np.asarray(some.labels))
    images = datasets.as_float(test.images)
    rows = []
    for level in levels:
        corruption = corruptions.from_name(str(config.noise), level)
        noisy = corruption(images, seed=randomness.as_seed(_SEED)).numpy()
        denoised = model.predict(noisy, batch_size=500, verbose=0)
        correct = probe.predict(evaluation.posterior(model, noisy)[0]) == test.labels
        rows.append(
            {
                "level": level,
                "noisy_psnr": evaluation.as_json(metrics.summarize(metrics.psnr(images, noisy))),
                "psnr": evaluation.as_json(metrics.summarize(metrics.psnr(images, denoised))),
                "probe_accuracy": evaluation.as_json(metrics.summarize(correct)),
            }
        )
    return rows
