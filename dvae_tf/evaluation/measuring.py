"""What is measured on a finished run: likelihood, denoising, features, robustness.

Every measured number is {"mean", "standard_error", "count"}, the standard error being that over
test images; the keys are listed in docs/metrics.md. Noise draws depend on the seed and on the
place of an image alone: two runs on one data set are given the same noisy images.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from dvae_tf import corruptions, counts, datasets, likelihood, randomness
from dvae_tf.evaluation import attacks, metrics
from dvae_tf.evaluation.metrics import Summary, summarize
from dvae_tf.likelihoods import LIKELIHOODS
from dvae_tf.model import DVAE
from dvae_tf.runs.configuration import Configuration

NUM_SAMPLES = 16  # S of the posterior-averaged estimate
_BATCH = 500

# The first number folded into the seed for each use of noise.
_DENOISING, _ATTACK = range(2)
# Not 2, which binarises the test images.
_PROBES = 3


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured.

    Args:
        num_importance_samples: samples for log p(x) of each image.
        noise_levels: levels of every noise kind; None takes 0, 1/2, 1, 2, 3 and 5 times the
            training level, up to 1.
        limit: the first N test images; None takes all.
        num_denoised: at most so many test images for denoising and robustness.
        num_annealed: at most so many test images, evenly spaced, for annealed importance sampling;
            0 for none.
        num_probed: at most so many training images for the probes.
        seed: of every draw.
    """

    num_importance_samples: int = 5000
    noise_levels: tuple[float, ...] | None = None
    limit: int | None = None
    num_denoised: int = 500
    num_annealed: int = 20
    num_probed: int = 10_000
    seed: int = 0

    def __post_init__(self):
        for name, least in (
            ("num_importance_samples", 1),
            ("limit", 1),
            ("num_denoised", 1),
            ("num_annealed", 0),
        ):
            value = getattr(self, name)
            if value is not None:
                counts.check(name, value, least)
        if self.noise_levels == ():
            raise ValueError("--noise-levels must be one level or more. Received: none. Add them.")
        for level in self.noise_levels or ():
            corruptions.Gaussian(level)  # refuses a level out of range
        randomness.as_seed(self.seed)


@dataclass(frozen=True)
class Evaluation:
    """The measured numbers, as JSON values, and the arrays that figures show."""

    metrics: dict[str, Any]
    arrays: dict[str, np.ndarray]


def evaluate(
    model: DVAE,
    config: Configuration,
    dataset: datasets.Dataset,
    settings: Settings,
    *,
    report: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a trained model on the test split of its data set.

    Args:
        model: the trained model.
        config: the resolved configuration it was trained with.
        dataset: its data set, limited and binarised as in training.
        settings: how much is measured.
        report: told what is being measured.
        progress: told (images done, images) of the longest part, log p(x).
    """
    test = dataset.test.take(slice(settings.limit))
    images = test.as_float()
    some = images[: settings.num_denoised]
    levels = _levels(config, settings)
    arrays: dict[str, np.ndarray] = {"images": some}
    result: dict[str, Any] = {"format": 1, "seed": settings.seed, "num_test_images": len(images)}

    report("bounds")
    result |= measure_bounds(model, images, settings.seed)
    report(f"log p(x), {settings.num_importance_samples} importance samples")
    result |= measure_log_likelihood(model, config, images, settings, progress)
    report("features")
    features, probes = _features(model, dataset.train, test, settings, arrays)
    report("denoising and robustness")
    result["denoising"], result["robustness"] = _noises(
        model, some, levels, probes, test.labels, settings.seed
    )
    result["uncertainty"] = _uncertainty(model, some, settings.seed)
    report("adversarial noise")
    result["adversarial"] = _adversarial(model, some[:100], settings.seed, arrays)
    result["features"] = features | {
        "probes": _probe_accuracies(model, probes, some, test.labels, settings.seed)
    }
    _manifold(model, some, arrays, settings.seed)
    return Evaluation(result, arrays)


def as_json(summary: Summary) -> dict[str, float | int | None]:
    """Return a summary as a measured number of metrics.json; NaN, not measured, becomes None."""
    values = dataclasses.asdict(summary)
    return {
        k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()
    }


def _levels(config: Configuration, settings: Settings) -> tuple[float, ...]:
    if settings.noise_levels is not None:
        return tuple(sorted(set(settings.noise_levels)))
    level = config.noise_level
    base = corruptions.highest(level) or 0.1
    return tuple(sorted({round(min(base * factor, 1.0), 6) for factor in (0, 0.5, 1, 2, 3, 5)}))


def _in_batches(function, images: np.ndarray) -> np.ndarray:
    """Apply a function of a batch to all images, and join its results."""
    parts = [function(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
    return np.concatenate([np.asarray(part) for part in parts])


def _corrupt(corruption: corruptions.Corruption, images: np.ndarray, seed: int) -> np.ndarray:
    seed = randomness.fold_in(randomness.as_seed(seed), _DENOISING)
    return corruption(images, seed=seed).numpy()


def posterior(model: DVAE, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of q(z|x), [N, L] each."""
    both = _in_batches(
        lambda x: tf.stack([(q := model.encoder(x)).mean(), q.stddev()], axis=1), images
    )
    return both[:, 0], both[:, 1]


def _terms(model: DVAE, corruption: corruptions.Corruption, images: np.ndarray, seed: int):
    """Return bound, elbo, reconstruction and KL of each image, [N, 4]."""
    parts = []
    for start in range(0, len(images), _BATCH):
        seed_of_batch = randomness.fold_in(randomness.as_seed(seed), start)
        batch = tf.constant(images[start : start + _BATCH])
        terms = model.bound_terms(batch, seed=seed_of_batch, corruption=corruption)
        parts.append(np.stack([term.numpy() for term in terms[1:]], axis=1))
    return np.concatenate(parts)


def measure_bounds(model: DVAE, images: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the bounds and their terms of clean and of corrupted images, as in metrics.json."""
    clean = _terms(model, corruptions.Identity(), images, seed)
    corrupted = _terms(model, model.corruption, images, seed)
    names = ("bound", "elbo", "reconstruction", "kl")
    values = dict(zip(names[1:], clean.T[1:], strict=True))
    values |= {f"corrupted_{n}": v for n, v in zip(names, corrupted.T, strict=True)}
    return {name: as_json(summarize(value)) for name, value in values.items()}


def measure_log_likelihood(
    model: DVAE,
    config: Configuration,
    images: np.ndarray,
    settings: Settings,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Return log p(x) by importance sampling and, of some images, by annealing, as in metrics.json."""
    estimate = likelihood.importance_sampling(
        model.encoder,
        model.decoder,
        images,
        prior=model.prior,
        kind=model.kind,
        num_samples=settings.num_importance_samples,
        seed=settings.seed,
        progress=progress,
    )
    extra: dict[str, Any] = {"num_samples": estimate.num_samples}
    summary = summarize(estimate.log_likelihood)
    error = estimate.mean_monte_carlo_error
    extra |= {"monte_carlo_error": error if np.isfinite(error) else None}
    negative = dataclasses.replace(summary, mean=-summary.mean)
    result: dict[str, Any] = {
        "log_likelihood": as_json(summary) | extra,
        "nll": as_json(negative) | extra,
    }
    if LIKELIHOODS[config.likelihood].is_discrete():
        num_values = int(np.prod(images.shape[1:]))
        bits = likelihood.bits_per_dimension(estimate.log_likelihood, num_values)
        result["bits_per_dimension"] = as_json(summarize(bits))
    if settings.num_annealed == 0:
        return result
    # Neighbours are alike in data that come in order, such as the frames of a film.
    places = datasets.evenly_spaced(len(images), settings.num_annealed)
    annealed = likelihood.annealed_importance_sampling(
        model.decoder, images[places], prior=model.prior, kind=model.kind, seed=settings.seed
    )
    same = estimate.log_likelihood[places]
    result["annealed"] = {
        "log_likelihood": as_json(summarize(annealed.log_likelihood)),
        "importance_sampling_on_the_same_images": as_json(summarize(same)),
        "difference": as_json(summarize(annealed.log_likelihood - same)),
        "monte_carlo_error": annealed.mean_monte_carlo_error,
        "num_chains": annealed.num_samples,
    }
    return result


def _features(model, train: datasets.Split, test: datasets.Split, settings, arrays):
    """Return the measures of the latent space, and the probes fitted on training images."""
    means, stddevs = posterior(model, test.as_float())
    per_unit = model.prior.kl_per_unit(means, stddevs)
    arrays |= {"latents": means, "kl_per_unit": per_unit}
    if test.labels is not None:
        arrays["labels"] = test.labels
    features = {
        "latent_dim": means.shape[1],
        "active_units": int(metrics.active_units(means).sum()),
        "kl_per_unit": [float(v) for v in per_unit],
    }
    some = probed_images(model, train, settings.num_probed, settings.seed)
    if some.labels is None or len(np.unique(some.labels)) < 2:
        return features, {}
    labels = np.asarray(some.labels)
    latents, _ = posterior(model, some.as_float())
    return features, {
        "linear": metrics.fit_linear_probe(latents, labels),
        "nearest_neighbours": metrics.fit_nearest_neighbours(latents, labels),
    }


def probed_images(model: DVAE, train: datasets.Split, count: int, seed: int) -> datasets.Split:
    """Return the training images that probes are fitted on: binary where the model sees such alone."""
    some = datasets.in_memory(train, count)
    return datasets.binarized(some, "static", seed, _PROBES) if model.binarize else some


def _probe_accuracies(model, probes, images, labels, seed) -> list[dict[str, Any]]:
    rows = []
    for kind, x in (("clean", images), ("corrupted", _corrupt(model.corruption, images, seed))):
        latents, _ = posterior(model, x) if probes else (None, None)
        for name, probe in probes.items():
            correct = probe.predict(latents) == labels[: len(images)]
            row = {"classifier": name, "input": kind, "accuracy": as_json(summarize(correct))}
            rows.append(row)
    return rows


def _noises(model: DVAE, images, levels, probes, labels, seed):
    """Measure denoisers and the model itself over noise kinds and levels."""
    denoising: list[dict[str, Any]] = []
    robustness: list[dict[str, Any]] = []
    for noise in model.kind.noises:
        for level in levels:
            corruption = corruptions.from_name(noise, level)
            noisy = _corrupt(corruption, images, seed)
            sigma = float(np.sqrt(np.mean(np.square(noisy - images, dtype=np.float64))))
            estimates = {
                "noisy": noisy,
                "model_mean": _in_batches(model, noisy),
                "model_average": _in_batches(
                    lambda x: model.denoise(x, num_samples=NUM_SAMPLES, seed=seed).mean, noisy
                ),
            }
            estimates |= {
                name: denoise(noisy, sigma=sigma)
                for name, denoise in model.kind.baselines().items()
            }
            for method, estimate in estimates.items():
                denoising.append(
                    {
                        "method": method,
                        "noise": noise,
                        "level": level,
                    }
                    | {
                        name: as_json(summarize(measure(images, estimate)))
                        for name, measure in model.kind.measures().items()
                    }
                )
            error = np.square(estimates["model_mean"] - images).mean(axis=(1, 2, 3))
            row = {
                "noise": noise,
                "level": level,
                "bound": as_json(summarize(_terms(model, corruption, images, seed)[:, 0])),
                "squared_error": as_json(summarize(error)),
            }
            if "linear" in probes:
                correct = probes["linear"].predict(posterior(model, noisy)[0])
                row["probe_accuracy"] = as_json(summarize(correct == labels[: len(images)]))
            robustness.append(row)
    return denoising, robustness


def _uncertainty(model: DVAE, images: np.ndarray, seed: int) -> dict[str, list[float]]:
    noisy = _corrupt(model.corruption, images, seed)
    both = _in_batches(
        lambda x: tf.stack(model.denoise(x, num_samples=NUM_SAMPLES, seed=seed), axis=1), noisy
    )
    bins = metrics.calibration(both[:, 0] - images, both[:, 1])
    return {name: [float(v) for v in values] for name, values in dataclasses.asdict(bins).items()}


def _adversarial(model: DVAE, images, seed: int, arrays) -> list[dict[str, Any]]:
    """Compare random noise and an attack, of half, once and twice the training noise's size."""
    base = (
        corruptions.Gaussian(0.1)
        if model.corruption == corruptions.Identity()
        else model.corruption
    )
    noise = _corrupt(base, images, seed) - images
    norms = np.sqrt(np.square(noise).sum(axis=(1, 2, 3)))
    rows = []
    for factor in (0.5, 1.0, 2.0):
        attacked, random = attacks.projected_gradient(
            model, images, sizes=factor * norms, seed=seed + _ATTACK
        )
        row: dict[str, Any] = {"size": factor, "l2_norm": as_json(summarize(factor * norms))}
        for name, x in (("random", random), ("attack", attacked)):
            denoised = _in_batches(model, x.numpy())
            error = np.square(denoised - images).mean(axis=(1, 2, 3))
            row[name] = as_json(summarize(error))
            if factor == 1.0:
                arrays |= {f"{name}_input": x.numpy()[:10], f"{name}_output": denoised[:10]}
        rows.append(row)
    return rows


def _manifold(model: DVAE, images: np.ndarray, arrays: dict[str, np.ndarray], seed: int) -> None:
    """Add what shows the latent space: repeated denoising, traversals, interpolation, samples."""
    shown = images[:6]
    noisy = _corrupt(model.corruption, shown, seed)
    steps, path = [noisy], []
    for _ in range(9):
        q = model.encoder(steps[-1])
        path.append(q.mean().numpy())
        steps.append(model.decoder(q.mean()).mean().numpy())
    arrays["repeated"] = np.stack(steps, axis=1)  # [N, steps, H, W, C]
    arrays["repeated_path"] = np.stack(path, axis=1)  # [N, steps, L]

    units = np.argsort(-arrays["kl_per_unit"])[:8]
    centre = model.encoder(shown[:1]).mean().numpy()
    values = np.linspace(-3, 3, 9, dtype=np.float32)
    latents = np.repeat(centre, len(units) * len(values), axis=0)
    for row, unit in enumerate(units):
        latents[row * len(values) : (row + 1) * len(values), unit] = values
    decode = lambda z: model.decoder(tf.constant(z)).mean().numpy()  # noqa: E731
    arrays["traversal"] = decode(latents).reshape(len(units), len(values), *images.shape[1:])
    arrays["traversal_units"] = units

    ends = model.encoder(shown).mean().numpy()
    weights = np.linspace(0, 1, 9, dtype=np.float32)[None, :, None]
    first, second = ends[0::2], ends[1::2]
    pairs = min(len(first), len(second))
    between = (1 - weights) * first[:pairs, None] + weights * second[:pairs, None]
    arrays["interpolation"] = decode(between.reshape(-1, between.shape[-1])).reshape(
        pairs, 9, *images.shape[1:]
    )
    arrays["samples"] = model.sample(60, seed=seed).numpy()
