"""MNIST: every cell of the table of bounds."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from experiments import drawing
from experiments.markdown import table
from experiments.statistics import (
    ESTIMATORS,
    Mean,
    effective_sizes,
    level_of,
    marked,
    of_cell,
    over_seeds,
    range_of,
)

LABELS = {
    "vae": "VAE",
    "iwae": "IWAE, K=5",
    "diwae": "DIWAE, K=5",
    "mixture": "DVAE, mixture, M=5",
    "mixture-diwae": "DIWAE, mixture, M=5, K=5",
    "dvae": "DVAE",
}
NOISES = {
    "salt_pepper": "salt and pepper",
    "authors_salt_pepper": "the authors' salt and pepper",
    "masking": "masking",
}


def _label(name: str) -> str:
    for noise, words in NOISES.items():
        kind, _, rest = name.partition(f"-{noise}-")
        if rest:
            return f"{LABELS[kind]}, {words} {level_of(name):g} %"
    return LABELS[name]


def _order(cells: pd.DataFrame) -> list[str]:
    """Return the names of MNIST's cells by log p(x), largest first."""
    means = cells[cells["weights"] == "best"].groupby("cell")["log_likelihood"].mean()
    return list(means.sort_values(ascending=False, kind="stable").index)


def beyond_vae(cells: pd.DataFrame, name: str, estimator: str) -> Mean:
    """Return a cell's log p(x) minus the VAE's."""
    return ESTIMATORS[estimator].difference(of_cell(cells, name), of_cell(cells, "vae"))


def section(cells: pd.DataFrame) -> list[str]:
    """Return the text on the table of bounds."""
    rows: list[tuple] = [
        ("model", "log p(x)", "minus the VAE", "the same, annealed", "ELBO, clean input",
         "bound trained", "active units", "seeds")
    ]  # fmt: skip
    for name in _order(cells):
        seeds = of_cell(cells, name)
        beyond = ["", ""]
        if name != "vae":
            beyond = [
                marked(beyond_vae(cells, name, estimator))
                for estimator in ("log_likelihood", "annealed")
            ]
        rows.append(
            (
                _label(name),
                over_seeds(seeds, "log_likelihood"),
                *beyond,
                over_seeds(seeds, "elbo"),
                over_seeds(seeds, "corrupted_bound"),
                f"{over_seeds(seeds, 'active_units').value:.1f}",
                seeds["seed"].nunique(),
            )
        )
    one = cells.iloc[0]
    return [
        "## MNIST, every cell of the table of bounds",
        "",
        f"mlp 784-200-200-50, swish, dynamic binarisation, {one['epochs']} epochs of "
        f"{one['num_training_images']:,} images, cosine schedule, plain reparameterised gradient; nats per image. The "
        "weights are those with the best validation value of the trained bound. Models trained with noise are "
        "validated on corrupted inputs.",
        "",
        f"- **log p(x)** is estimated by importance sampling with {one['num_samples']:,} samples on "
        f"{one['num_test_images']:,} test images. It is a lower bound that depends on the encoder, too. The effective "
        f"number of samples is {range_of(effective_sizes(cells, 'log_likelihood'))}.",
        f"- **Annealed** log p(x), on {one['num_annealed']} of the images, does not use the encoder. The effective "
        f"number of its {one['num_chains']} chains is {range_of(effective_sizes(cells, 'annealed'))}.",
        "- **Errors** of annealed differences are over seeds and images, all others over seeds.",
        "",
        "![log p(x) of each cell of the table of bounds, minus the VAE's](images/results-mnist.png)",
        "",
        *table(*rows),
    ]


def draw(cells: pd.DataFrame) -> Figure:
    """Draw log p(x) of each cell of the table of bounds, minus the VAE's."""
    names = [name for name in _order(cells)[::-1] if name != "vae"]
    figure, axes = plt.subplots(figsize=(8.5, 1.5 + 0.3 * len(names)), layout="constrained")
    axes.axvline(0, color="0.6", linewidth=1)
    for (key, estimator), colour in zip(ESTIMATORS.items(), ("tab:blue", "0.4"), strict=True):
        values = [beyond_vae(cells, name, key) for name in names]
        style = drawing.STYLES[key]
        style = style | {"fmt": style["fmt"][0]}  # nothing between the cells
        axes.errorbar(
            [value.value for value in values], range(len(names)),
            xerr=[value.error for value in values], capsize=3, color=colour, label=estimator.label,
            **style,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), [_label(name) for name in names], fontsize=9)
    axes.set_xlabel("log p(x) minus the VAE's, nats")
    axes.xaxis.set_major_formatter(drawing.signed)
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    drawing.legend_below(figure, axes)
    return figure
