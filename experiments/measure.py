"""Measurements of a trained model: the numbers behind the tables and figures."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dvae_tf import corruptions, datasets, likelihood, randomness
from dvae_tf.evaluation import bound_terms, features, log_evidence, probes
from dvae_tf.evaluation.settings import Settings as HowMuch
from dvae_tf.evaluation.summary import measured as as_measured
from dvae_tf.evaluation.summary import summarize
from dvae_tf.model import DVAE
from dvae_tf.runs import building
from dvae_tf.runs.configuration import Configuration, ConfigurationError
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.training import Run
from experiments.archive import Row, Settings
from experiments.trials import Cell, Measure

_SEED = 0  # of every draw: all trials see the same noisy images
_NUM_PROBED = 10_000
_BATCH = 500
_NUM_CHAINS, _NUM_TEMPERATURES = 4, 400  # of annealing
MIXTURES = (1, 2, 5, 10, 20, 50, 100)  # M
_NUM_IN_MIXTURES = 500  # images


def measure(cell: Cell, run: Run) -> list[Row]:
    """Return the numbers of a trained run, one row for its best and one for its last weights.

    Args:
        cell: says what to measure.
        run: a trained run; its model has the weights after the last epoch.
    """
    history = run.directory.read_history()
    of_both: Row = {
        "num_training_images": len(run.dataset.train),
        "epochs": len(history["epoch"]),
        "best_epoch": int(np.nanargmax(history["val_bound"])) + 1,
        "final_training_bound": history["bound"][-1],
        "final_validation_bound": history["val_bound"][-1],
    }
    found: dict[str, Row] = {}
    if cell.with_kl:
        best = run.directory.load_model()
        found["best"] = _numbers(best, run.config, run.dataset, cell.measure)
    if cell.measure.last:
        is_best = cell.with_kl and of_both["best_epoch"] == of_both["epochs"]  # the same weights
        found["last"] = (
            found["best"] if is_best else _numbers(run.model, run.config, run.dataset, cell.measure)
        )
    return [{"weights": weights} | of_both | numbers for weights, numbers in found.items()]


def _columns(name: str, measured: dict[str, Any]) -> Row:
    """Return a measured number's mean and errors as columns, without its number of images."""
    errors = ("standard_error", "monte_carlo_error")
    columns = {f"{name}_{error}": measured[error] for error in errors if error in measured}
    return {name: measured["mean"]} | columns


def _summary(name: str, values: np.ndarray) -> Row:
    return _columns(name, as_measured(values))


def _numbers(model: DVAE, config: Configuration, dataset: datasets.Dataset, how: Measure) -> Row:
    test = dataset.test.take(slice(how.limit))
    images = test.as_float()
    settings = HowMuch(
        num_importance_samples=how.num_importance_samples, num_annealed=0, seed=_SEED
    )
    result: Row = {"num_test_images": len(images), "num_samples": how.num_importance_samples}
    measured = bound_terms.measure(model, images, settings)
    measured |= log_evidence.measure(model, images, settings)
    del measured["nll"]  # minus log_likelihood
    for name, value in measured.items():
        result |= _columns(name, value)
    if how.num_annealed:
        some = images[datasets.evenly_spaced(len(images), how.num_annealed)]
        annealed = likelihood.annealed_importance_sampling(
            model.decoder,
            some,
            prior=model.prior,
            num_chains=_NUM_CHAINS,
            num_temperatures=_NUM_TEMPERATURES,
            seed=_SEED,
        )
        result |= _summary("annealed", annealed.log_likelihood) | {
            "annealed_monte_carlo_error": annealed.mean_monte_carlo_error,
            "num_annealed": len(some),
            "num_chains": _NUM_CHAINS,
            "num_temperatures": _NUM_TEMPERATURES,
            "each": annealed.log_likelihood,
            # Which image it is, in whatever split.
            "digests": [hashlib.sha256(image.tobytes()).hexdigest()[:12] for image in some],
        }
    latents, _ = features.posterior(model, images, settings.batch_size)
    result["active_units"] = int(features.active_units(latents).sum())
    if how.test_levels:
        result |= _denoising(model, config, dataset.train, test, how.test_levels)
    return result


def _denoising(
    model: DVAE,
    config: Configuration,
    train: datasets.Split,
    test: datasets.Split,
    levels: tuple[float, ...],
) -> Row:
    """Return PSNR, and the accuracy of a probe fitted on clean images, at each level of noise."""
    some = probes.probed_examples(model, train, _NUM_PROBED, _SEED)
    latents, _ = features.posterior(model, some.as_float(), _BATCH)
    probe = probes.fit_linear_probe(latents, np.asarray(some.labels))
    images = test.as_float()
    psnr = model.kind.measures()["psnr"]
    row: Row = {}
    for level in levels:
        corruption = corruptions.from_name(str(config.noise), level)
        noisy = corruption(images, seed=randomness.as_seed(_SEED)).numpy()
        denoised = model.predict(noisy, batch_size=_BATCH, verbose=0)
        correct = probe.predict(features.posterior(model, noisy, _BATCH)[0]) == test.labels
        row |= _summary(f"noisy_psnr_at_{level:g}", psnr(images, noisy))
        row |= _summary(f"psnr_at_{level:g}", psnr(images, denoised))
        row |= _summary(f"probe_accuracy_at_{level:g}", correct)
    return row


def mixtures(run_dir: Path) -> tuple[Settings, list[Row]]:
    """Return a model's settings, and its mixture bound against M on the first test images, in nats.

    Raises:
        ConfigurationError: if the directory does not hold a run with noise on MNIST.
    """
    directory = RunDirectory(run_dir)
    config, _ = directory.read_config()
    if config.dataset != "mnist" or config.noise == "none":
        raise ConfigurationError(
            "RUN_DIR must hold a run on mnist with noise. "
            f"Received: {run_dir}, on {config.dataset} with noise {config.noise}."
        )
    images = building.load_dataset(config).test.take(slice(_NUM_IN_MIXTURES)).as_float()
    model = directory.load_model()
    bounds: dict[int, np.ndarray] = {}
    for m in MIXTURES:
        mixture = DVAE(
            model.encoder, model.decoder, corruption=model.corruption, posterior="mixture",
            num_corruptions=m,
        )  # fmt: skip

        @tf.function
        def bound(x, seed, mixture=mixture):
            return mixture.bound_terms(x, seed=seed).bound

        repeats = max(MIXTURES[-1] // m, 1)  # equally many draws for every M
        seeds = [randomness.as_seed(repeat) for repeat in range(repeats)]
        batches = [
            np.mean([bound(batch, randomness.fold_in(seed, start)) for seed in seeds], axis=0)
            for start in range(0, len(images), 10)
            for batch in [tf.constant(images[start : start + 10])]
        ]
        bounds[m] = np.concatenate(batches)
        print(f"M={m}: {bounds[m].mean():.2f}", flush=True)
    estimate = likelihood.importance_sampling(model.encoder, model.decoder, images)
    command = (
        f"--dataset {config.dataset} --noise {config.noise} --noise-level {config.noise_level}"
    )
    settings = {
        "model": f"{command} --epochs {config.epochs} --seed {config.seed}",
        "num_images": len(images),
        "num_importance_samples": estimate.num_samples,
    }
    log_p = estimate.log_likelihood
    values: list[tuple[int | None, str, np.ndarray]] = [(None, "log_likelihood", log_p)]
    for m, of_images in bounds.items():
        values += [
            (m, "mixture", of_images),
            (m, "above_m_1", of_images - bounds[1]),
            (m, "below_log_likelihood", log_p - of_images),
        ]
    rows: list[Row] = []
    for of_m, quantity, of_images in values:
        summary = summarize(of_images)
        rows.append(
            {
                "num_corruptions": of_m,
                "quantity": quantity,
                "mean": summary.mean,
                "standard_error": summary.standard_error,
            }
        )
    return settings, rows
