"""Numbers of the bounds on log p(x), for docs/bounds.md.

    python -m experiments.bounds                  # a linear-Gaussian model: closed forms
    python -m experiments.bounds RUN_DIR          # and a trained one: its mixture bound against M

They go to results/bounds/linear_gaussian.json and results/bounds/mnist.json; `experiments.report` makes
tables and a figure of them.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from scipy.special import logsumexp

from dvae_tf import commands
from dvae_tf.runs import building, configuration
from dvae_tf.runs.directory import RunDirectory
from experiments.linear_gaussian import LinearGaussian
from experiments.parser import Parser

ROOT = Path(__file__).resolve().parents[1]
LEVELS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 3.0, 6.0)
MIXTURES = (2, 5, 20)  # M, of the linear-Gaussian model
MNIST_MIXTURES = (1, 2, 5, 10, 20, 50, 100)
NUM_IMAGES = 500
NUM_DRAWS = 40_000


def best_encoder(model: LinearGaussian, sigma: float) -> LinearGaussian:
    """Return the model at a level of noise with the encoder that maximises L_dvae over p(x).

    It is the regression of the true posterior's mean on the corrupted x~, with variances that are the
    inverses of the true precision's diagonal.
    """
    precision = np.eye(model.W.shape[1]) + model.W.T @ model.W / model.s**2
    to_mean = np.linalg.solve(precision, model.W.T) / model.s**2  # posterior mean over x - b
    covariance = model.evidence_covariance
    noisy = covariance + sigma**2 * np.eye(len(model.b))
    a = to_mean @ covariance @ np.linalg.inv(noisy)
    return dataclasses.replace(
        model, A=a, c=-a @ model.b, d=1 / np.sqrt(np.diag(precision)), sigma=sigma
    )


def mixture_gain(model: LinearGaussian, x: np.ndarray, m: int, rng) -> np.ndarray:
    """Return draws, one for each row of x, of what the mixture bound has beyond L_dvae: [N].

    log p(x, z) is in both: what is left is the mean of log q_m(z_m) - log (1/M) sum_j q_j(z_m).
    """
    noisy = x[:, None] + model.sigma * rng.normal(size=(len(x), m, len(model.b)))
    means = noisy @ model.A.T + model.c  # [N, M, L]
    z = means + model.d * rng.normal(size=means.shape)
    # log q_j(z_m), but for what all q_j share: [N, M of z, M of q]
    each = -0.5 * np.sum(((z[:, :, None] - means[:, None]) / model.d) ** 2, -1)
    own = np.diagonal(each, axis1=1, axis2=2)
    return (own - logsumexp(each, axis=2) + np.log(m)).mean(axis=1)


def linear_gaussian(num_draws: int = NUM_DRAWS) -> dict:
    """Return log p, L_cvae, L_dvae and mixture bounds at every level, averaged over p(x), in nats."""
    rng = np.random.default_rng(0)
    model = LinearGaussian.make()
    z = rng.normal(size=(num_draws, model.W.shape[1]))
    x = z @ model.W.T + model.b + model.s * rng.normal(size=(num_draws, len(model.b)))
    # With exactly the mean and covariance of p(x): the averages of log p, L_cvae and L_dvae, which are
    # quadratic in x, are then their expectations.
    whiten = np.linalg.inv(np.linalg.cholesky(np.cov(x.T, bias=True)))
    colour = np.linalg.cholesky(model.evidence_covariance)
    x = (x - x.mean(axis=0)) @ (colour @ whiten).T + model.b
    rows = []
    for sigma in LEVELS:
        at_level = best_encoder(model, sigma)
        l_dvae = at_level.l_dvae(x).mean()
        row = {
            "sigma": sigma,
            "log_p": at_level.log_evidence(x).mean(),
            "l_cvae": at_level.l_cvae(x).mean(),
            "l_dvae": l_dvae,
            "mutual_information": at_level.mutual_information(),
        }
        for m in MIXTURES:
            gain = mixture_gain(at_level, x, m, rng)
            row[f"mixture_{m}"] = l_dvae + gain.mean()
            row[f"mixture_{m}_error"] = gain.std() / np.sqrt(len(x))
        rows.append({name: round(float(value), 4) for name, value in row.items()})
    return {
        "latent_dim": model.W.shape[1],
        "size": model.W.shape[0],
        "draws": num_draws,
        "levels": rows,
    }


def trained(run_dir: Path) -> dict:
    """Return the mixture bound of a trained model against M, on its first test images, in nats.

    Raises:
        ConfigurationError: if the directory does not hold a run with noise on MNIST.
    """
    import tensorflow as tf

    from dvae_tf import DVAE, datasets, likelihood, randomness
    from dvae_tf.evaluation.measuring import as_json
    from dvae_tf.evaluation.metrics import summarize

    directory = RunDirectory(run_dir)
    config, _ = directory.read_config()
    if config.dataset != "mnist" or config.noise == "none":
        raise configuration.ConfigurationError(
            "RUN_DIR must hold a run on mnist with noise. "
            f"Received: {run_dir}, on {config.dataset} with noise {config.noise}."
        )
    images = datasets.as_float(building.load_dataset(config).test.images[:NUM_IMAGES])
    model = directory.load_model()
    bounds: dict[int, np.ndarray] = {}
    for m in MNIST_MIXTURES:
        mixture = DVAE(
            model.encoder, model.decoder, corruption=model.corruption, posterior="mixture",
            num_corruptions=m,
        )  # fmt: skip

        @tf.function
        def bound(x, seed, mixture=mixture):
            return mixture.bound_terms(x, seed=seed).bound

        repeats = max(MNIST_MIXTURES[-1] // m, 1)  # equally many draws for every M
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
    return {
        "model": f"{command} --epochs {config.epochs} --seed {config.seed}",
        "num_importance_samples": estimate.num_samples,
        "log_likelihood": as_json(summarize(estimate.log_likelihood)),
        "mixtures": [
            {
                "m": m,
                "bound": as_json(summarize(values)),
                "above_m_1": as_json(summarize(values - bounds[1])),
                "below_log_likelihood": as_json(summarize(estimate.log_likelihood - values)),
            }
            for m, values in bounds.items()
        ],
    }


def main(arguments: list[str] | None = None) -> int:
    """Compute and write the numbers; return 0, or 2 after a user's error."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", nargs="?", type=Path, help="a run of train.py on MNIST")
    parser.add_argument("--results", type=Path, help="[default: the repository's]")
    options = parser.parse_args(arguments)
    directory = (options.results or ROOT / "results") / "bounds"
    try:
        content = {"mnist": trained(options.run_dir)} if options.run_dir else {}
        content["linear_gaussian"] = linear_gaussian()
        directory.mkdir(parents=True, exist_ok=True)
        for name, numbers in content.items():
            (directory / f"{name}.json").write_text(json.dumps(numbers, indent=1) + "\n")
    except (ValueError, OSError) as error:
        parser.error(commands.one_line(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
