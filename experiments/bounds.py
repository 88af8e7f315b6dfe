"""Numbers of the bounds on log p(x), for docs/bounds.md.

    python -m experiments.bounds                  # a linear-Gaussian model: closed forms
    python -m experiments.bounds RUN_DIR          # and a trained one: its mixture bound against M

The numbers go to results/bounds.csv, and the description of the models to results/bounds.json.
`experiments.pages` makes tables and a figure from them.
"""

import dataclasses
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from scipy.special import logsumexp

from experiments import archive
from experiments.archive import Row, Settings
from experiments.linear_gaussian import LinearGaussian
from experiments.parser import Parser

ROOT = Path(__file__).resolve().parents[1]
LEVELS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 3.0, 6.0)
MIXTURES = (2, 5, 20)  # M, of the linear-Gaussian model
NUM_DRAWS = 40_000


def best_encoder(model: LinearGaussian, sigma: float) -> LinearGaussian:
    """Return the model at a level of noise with the encoder that maximises L_dvae over p(x).

    Its mean is the regression of the true posterior's mean on the corrupted x~. Its variances are the
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
    """Return draws of the mixture bound minus L_dvae, one for each row of x: [N].

    log p(x, z) cancels; the mean of log q_m(z_m) - log (1/M) sum_j q_j(z_m) is left.
    """
    noisy = x[:, None] + model.sigma * rng.normal(size=(len(x), m, len(model.b)))
    means = noisy @ model.A.T + model.c  # [N, M, L]
    z = means + model.d * rng.normal(size=means.shape)
    # log q_j(z_m), but for what all q_j share: [N, M of z, M of q]
    each = -0.5 * np.sum(((z[:, :, None] - means[:, None]) / model.d) ** 2, -1)
    own = np.diagonal(each, axis1=1, axis2=2)
    return (own - logsumexp(each, axis=2) + np.log(m)).mean(axis=1)


def linear_gaussian(num_draws: int = NUM_DRAWS) -> tuple[Settings, list[Row]]:
    """Return the model's settings, and its bounds at each level of noise.

    They are log p, L_cvae, L_dvae and mixture bounds, averaged over p(x), and I(x~; z | x); in nats.
    """
    rng = np.random.default_rng(0)
    model = LinearGaussian.make()
    z = rng.normal(size=(num_draws, model.W.shape[1]))
    x = z @ model.W.T + model.b + model.s * rng.normal(size=(num_draws, len(model.b)))
    # With exactly the mean and covariance of p(x): the averages of log p, L_cvae and L_dvae, which are
    # quadratic in x, are then their expectations.
    whiten = np.linalg.inv(np.linalg.cholesky(np.cov(x.T, bias=True)))
    colour = np.linalg.cholesky(model.evidence_covariance)
    x = (x - x.mean(axis=0)) @ (colour @ whiten).T + model.b
    rows: list[Row] = []
    for sigma in LEVELS:
        at_level = best_encoder(model, sigma)
        l_dvae = at_level.l_dvae(x).mean()
        found: list[tuple] = [
            (None, "log_p", at_level.log_evidence(x).mean(), None),
            (None, "l_cvae", at_level.l_cvae(x).mean(), None),
            (None, "l_dvae", l_dvae, None),
            (None, "mutual_information", at_level.mutual_information(), None),
        ]
        for m in MIXTURES:
            gain = mixture_gain(at_level, x, m, rng)
            found.append((m, "mixture", l_dvae + gain.mean(), gain.std() / np.sqrt(len(x))))
        rows += [
            {
                "sigma": sigma,
                "num_corruptions": m,
                "quantity": quantity,
                "mean": round(float(mean), 4),
                "standard_error": None if error is None else round(float(error), 4),
            }
            for m, quantity, mean, error in found
        ]
    settings = {
        "latent_dim": model.W.shape[1],
        "size": model.W.shape[0],
        "num_draws": num_draws,
    }
    return settings, rows


def main(arguments: list[str] | None = None) -> int:
    """Compute and write the numbers; return 0, or 2 after a user's error."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", nargs="?", type=Path, help="a run of train.py on MNIST")
    parser.add_argument("--results", type=Path, help="tables [default: those of the repository]")
    options = parser.parse_args(arguments)
    results = options.results or ROOT / "results"
    try:
        content = {}
        if options.run_dir:
            from experiments.measure import mixtures  # TensorFlow takes seconds to import

            content["mnist"] = mixtures(options.run_dir)
        content["linear_gaussian"] = linear_gaussian()
        archive.record_bounds(results, content)
    except (ValueError, OSError) as error:
        parser.error(" ".join(str(error).split()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
