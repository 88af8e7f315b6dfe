"""Make docs/results.md, the tables of docs/bounds.md and their figures from the numbers in results/.

    python -m experiments.report

It reads nothing else: no run directory has to be there.
"""

import argparse
import functools
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from benchmarks.report import table
from experiments.statistics import (
    Mean,
    Results,
    Rows,
    annealed,
    block_of,
    certain,
    difference,
    difference_annealed,
    first,
    in_common,
    mean,
    over_seeds,
    over_seeds_and_images,
    paired,
    read,
    verdict,
)

ROOT = Path(__file__).resolve().parents[1]

# Of others, for one stochastic layer: published values of log p(x) of the MNIST test set, in nats.
PUBLISHED = (
    ("VAE", "[Burda et al. (2016)](https://arxiv.org/abs/1509.00519), 50 latents", -86.76),
    ("IWAE, K=5", "[Burda et al. (2016)](https://arxiv.org/abs/1509.00519), 50 latents", -85.54),
    ("IWAE, K=50", "[Burda et al. (2016)](https://arxiv.org/abs/1509.00519), 50 latents", -84.78),
    ("VAE", "[nbip/IWAE](https://github.com/nbip/IWAE), 100 latents", -86.35),
    ("IWAE, K=5", "[nbip/IWAE](https://github.com/nbip/IWAE), 100 latents", -85.18),
    ("IWAE, K=50", "[nbip/IWAE](https://github.com/nbip/IWAE), 100 latents", -84.59),
    (
        "IWAE, K=5, doubly reparameterised",
        "[nbip/IWAE](https://github.com/nbip/IWAE), 100 latents",
        -84.90,
    ),
    (
        "IWAE, K=50, doubly reparameterised",
        "[nbip/IWAE](https://github.com/nbip/IWAE), 100 latents",
        -84.32,
    ),
)
MNIST_LABELS = {
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
SPLITS = ("contiguous", "random")
LIKELIHOODS = ("gaussian", "discretized_logistic")


class Estimator(NamedTuple):
    """How two runs' estimates of log p(x) are compared, and how they are called and drawn."""

    difference: Callable[..., Mean]
    label: str
    style: dict


ESTIMATORS = {
    "annealed": Estimator(difference_annealed, "model alone", {"fmt": "o-", "markersize": 5}),
    "log_likelihood": Estimator(
        functools.partial(difference, key="log_likelihood"),
        "with its encoder",
        {"fmt": "s:", "markersize": 4, "alpha": 0.6},
    ),
}


def level_of(name: str) -> float:
    """Return the level at the end of a cell's name, in percent."""
    return float(name.rpartition("-")[2].replace("_", "."))


def _plot(axes, places: Sequence[float], values: Sequence[Mean], **style) -> None:
    """Draw means with their standard errors, where there are any: one seed's is NaN."""
    errors = [value.error for value in values]
    axes.errorbar(places, [value.value for value in values], errors, capsize=3, **style)


def _signed(value: float, _: float) -> str:
    """Return the label of a tick of an axis of differences."""
    return f"{value:+g}" if value else "0"


def _legend_below(figure: Figure, axes, **style) -> None:
    """Put the legend of one of the axes below all of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, **style)


def _mixtures(row: dict) -> list[str]:
    """Return the keys of the mixture bounds of a row of the linear-Gaussian model, largest M first."""
    return [key for key in row if key.startswith("mixture_") and "error" not in key][::-1]


# ---- MNIST ----


def _mnist_label(name: str) -> str:
    for noise, words in NOISES.items():
        kind, _, rest = name.partition(f"-{noise}-")
        if rest:
            return f"{MNIST_LABELS[kind]}, {words} {level_of(name):g} %"
    return MNIST_LABELS[name]


def _mnist_order(cells: Results) -> list[str]:
    """Return the names of MNIST's cells, that of the largest log p(x) first."""
    return sorted(cells, key=lambda name: -over_seeds(cells[name], "log_likelihood").value)


def beyond_mnist_vae(cells: Results, name: str, estimator: str) -> Mean:
    """Return what a cell of the table of bounds adds to the VAE's log p(x)."""
    return ESTIMATORS[estimator].difference(cells[name], cells.get("vae", {}))


def mnist_section(cells: Results) -> list[str]:
    """Return the text on the table of bounds."""
    rows: list[tuple] = [
        ("model", "log p(x)", "beyond the VAE", "the same, annealed", "ELBO, clean input",
         "bound trained", "active units", "seeds")
    ]  # fmt: skip
    for name in _mnist_order(cells):
        seeds = cells[name]
        beyond = ["", ""]
        if name != "vae":
            beyond = [
                certain(beyond_mnist_vae(cells, name, estimator))
                for estimator in ("log_likelihood", "annealed")
            ]
        rows.append(
            (
                _mnist_label(name),
                over_seeds(seeds, "log_likelihood"),
                *beyond,
                over_seeds(seeds, "elbo"),
                over_seeds(seeds, "corrupted_bound"),
                f"{over_seeds(seeds, 'active_units').value:.1f}",
                len(seeds),
            )
        )
    one = first(cells)
    samples, annealed = one["best"]["log_likelihood"]["num_samples"], one["best"]["annealed"]
    return [
        "## MNIST, every cell of the table of bounds",
        "",
        f"mlp 784-200-200-50, swish, dynamic binarisation, {one['epochs']} epochs of "
        f"{one['num_training_images']:,} images, cosine schedule; nats per image, log p(x) by importance "
        f"sampling with {samples:,} samples on {one['best']['num_test_images']:,} test images: a lower bound, which "
        f"depends on the encoder a little. Annealed importance sampling does not, here on {annealed['count']} of them. "
        "The weights are the best by validation bound, the one that was trained: with corrupted inputs, where there is "
        "noise.",
        "",
        "![What each cell of the table of bounds adds to the VAE's log p(x)](images/results-mnist.png)",
        "",
        *table(*rows),
    ]


def draw_mnist(cells: Results) -> Figure:
    """Draw what each cell of the table of bounds adds to the VAE's log p(x)."""
    names = [name for name in _mnist_order(cells)[::-1] if name != "vae"]
    figure, axes = plt.subplots(figsize=(8.5, 1.5 + 0.3 * len(names)), layout="constrained")
    axes.axvline(0, color="0.6", linewidth=1)
    for (key, estimator), colour in zip(ESTIMATORS.items(), ("tab:blue", "0.4"), strict=True):
        values = [beyond_mnist_vae(cells, name, key) for name in names]
        style = estimator.style | {"fmt": estimator.style["fmt"][0]}  # nothing between the cells
        axes.errorbar(
            [value.value for value in values], range(len(names)),
            xerr=[value.error for value in values], capsize=3, color=colour, label=estimator.label,
            **style,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), [_mnist_label(name) for name in names], fontsize=9)
    axes.set_xlabel("log p(x) beyond the VAE's, nats")
    axes.xaxis.set_major_formatter(_signed)
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _legend_below(figure, axes)
    return figure


LONG_LABELS = {
    "vae": "VAE",
    "vae-cosine": "VAE, doubly reparameterised",
    "iwae-5": "IWAE, K=5, doubly reparameterised",
}


def long_section(cells: Results) -> list[str]:
    """Return the text on long runs, beside what is published."""
    rows: list[tuple] = [("model", "source", "log p(x)")]
    for name, label in LONG_LABELS.items():
        if name not in cells:
            continue
        one = next(iter(cells[name].values()))
        config = one["configuration"]
        source = (
            f"here, 50 latents, {one['epochs']:,} epochs of {one['num_training_images']:,} images in batches of "
            f"{config['batch_size']}, {config['schedule']} learning rate"
        )
        value = one["best"]["log_likelihood"]
        text = f"{value['mean']:.2f} ± {value['standard_error']:.2f}"
        rows.append((label, source, text))
    rows += [(model, source, f"{value:.2f}") for model, source, value in PUBLISHED]
    samples = first(cells)["best"]["log_likelihood"]["num_samples"]
    return [
        "## Long runs, beside what is published",
        "",
        f"One stochastic layer, 200-200 units with tanh, MNIST binarised dynamically, {samples:,} samples. Staged learning "
        "rates are those of Burda et al. (2016), cosine ones end at 0. Doubly reparameterised is the gradient of Tucker "
        "et al. (2019), with one sample that of [Roeder et al. (2017)](https://arxiv.org/abs/1703.09194). One run each; "
        "± is the standard error over test images, which are binarised once, by everyone in another way: less than that is "
        "no difference from others' figures. Those are theirs: they train on 60,000 images for some 3,280 epochs, in "
        "batches of 20; here 5,000 of those images choose the best epoch.",
        "",
        *table(*rows),
    ]


# ---- Frey Faces ----


# Of the contiguous split's test frames, which are one after the other within them.
NUM_BLOCKS = 4


def _frey_cells(cells: Results) -> list[tuple[str, float, dict[str, Rows]]]:
    """Return likelihood, level of noise and split -> runs, a row of the tables each."""
    found = []
    for likelihood in LIKELIHOODS:
        for level in sorted({level_of(name) for name in cells if f"-{likelihood}-" in name}):
            end = f"{likelihood}-{level:g}".replace(".", "_")
            found.append((likelihood, level, {s: cells.get(f"{s}-{end}", {}) for s in SPLITS}))
    return found


def _frey_table(
    cells: Results, estimator: str, beyond: Callable[[str, Rows, Rows], Mean]
) -> list[tuple]:
    """Return the rows of a table of log p(x) and of what noise adds to it."""
    rows: list[tuple] = [
        ("likelihood", "noise", *(x for s in SPLITS for x in (f"{s}: log p(x)", "beyond no noise")))
    ]
    for likelihood, level, of_splits in _frey_cells(cells):
        row = [likelihood.replace("_", " "), f"{level:g} %"]
        for split, seeds in of_splits.items():
            base = cells.get(f"{split}-{likelihood}-0", {})
            row.append(str(over_seeds(seeds, estimator)) if seeds else "")
            row.append(certain(beyond(split, seeds, base)) if level else "")
        rows.append(tuple(row))
    return rows


def leak(contiguous: Rows, random: Rows) -> Mean:
    """Return what a random split adds to annealed log p(x), on the frames that both splits test.

    The error is that over seeds and blocks of frames.
    """
    contiguous, random = in_common(contiguous, random)
    if not contiguous:
        return mean([])
    here, there = (
        next(iter(rows.values()))["best"]["annealed"]["digests"] for rows in (contiguous, random)
    )
    both = [place for place, digest in enumerate(here) if digest in there]
    theirs = annealed(random)[:, [there.index(here[place]) for place in both]]
    return over_seeds_and_images(
        theirs - annealed(contiguous)[:, both], block_of(len(here), NUM_BLOCKS)[both]
    )


def frey_beyond(split: str, seeds: Rows, base: Rows) -> Mean:
    """Return what noise adds to annealed log p(x), with the error over seeds and what is independent."""
    num_blocks = NUM_BLOCKS if split == "contiguous" else 0
    return difference_annealed(seeds, base, num_blocks=num_blocks)


def frey_section(cells: Results) -> list[str]:
    """Return the text on Frey Faces and its splits."""
    one = first(cells)
    best, by_annealing = one["best"], one["best"]["annealed"]

    def beyond(_: str, seeds: Rows, base: Rows) -> Mean:
        return difference(seeds, base, "log_likelihood")

    head, *rows = _frey_table(cells, "annealed", frey_beyond)
    found = [of_splits for *_, of_splits in _frey_cells(cells)]
    ends = [
        (
            certain(leak(of_splits["contiguous"], of_splits["random"])),
            min(len(x) for x in of_splits.values()),
        )
        for of_splits in found
    ]
    return [
        "## Frey Faces: what the random split leaks",
        "",
        f"mlp 560-200-200-20, {one['epochs']} epochs, Gaussian noise (100 % is the pixels' range), weights best by "
        "validation bound, nats per image. Frames of a video resemble their neighbours: a random split tests on "
        "neighbours of training images, a contiguous one at the edges of its blocks only. The Gaussian likelihood is a "
        "density, the discretised logistic a probability: the two are not comparable.",
        "",
        "![log p(x) against noise, by split and likelihood: the model alone, annealed, and with its encoder, by "
        "importance sampling](images/results-frey.png)",
        "",
        f"The model, by annealing: {by_annealing['count']} test images, {by_annealing['num_chains']} chains of "
        f"{by_annealing['num_temperatures']} temperatures. The errors of differences are those over seeds and over "
        f"images: those of the contiguous split are {NUM_BLOCKS} scenes, and it is scenes that are taken to be "
        "independent, so that little is certain. Different splits test different frames; the leak is what the "
        "random split adds on those that both test.",
        "",
        *table((*head, "leak", "seeds"), *(row + end for row, end in zip(rows, ends, strict=True))),
        f"Model and encoder, by importance sampling: {best['log_likelihood']['num_samples']:,} samples, "
        f"{best['num_test_images']} test images; a lower bound, of which hardly more than one sample counts. The errors "
        "are those over seeds.",
        "",
        *table(*_frey_table(cells, "log_likelihood", beyond)),
    ]


def draw_frey(cells: Results) -> Figure:
    """Draw log p(x) against noise."""
    likelihoods = [x for x in LIKELIHOODS if any(f"-{x}-" in name for name in cells)]
    figure, panels = plt.subplots(
        1, len(likelihoods), figsize=(8.5, 3.8), squeeze=False, layout="constrained"
    )
    for axes, likelihood in zip(panels[0], likelihoods, strict=True):
        for split, colour in zip(SPLITS, ("tab:blue", "tab:orange"), strict=True):
            names = [n for n in cells if n.startswith(f"{split}-{likelihood}-")]
            names.sort(key=level_of)
            places = [level_of(name) for name in names]
            for key, estimator in ESTIMATORS.items():
                values = [over_seeds(cells[name], key) for name in names]
                label = f"{split} split, {estimator.label}"
                _plot(axes, places, values, color=colour, label=label, **estimator.style)
        axes.set_title(f"{likelihood.replace('_', ' ').capitalize()} likelihood", fontsize=10)
        axes.set_xlabel("training noise, % of the pixels' range")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("log p(x) of the test images, nats")
    _legend_below(figure, panels[0, 0])
    return figure


# ---- where corruption helps the likelihood ----


WEIGHTS = {
    "best": "the best weights by validation bound",
    "last": "the weights after the last epoch",
}
POSTERIORS = ("conditional", "mixture")
# By binarisation, training images and level of noise in percent.
Study = dict[tuple[str, int, float], Rows]


def study_of(cells: Results) -> Study:
    """Return the cells of the study of levels, without those of other posteriors."""
    study = {}
    for name, rows in cells.items():
        if not name.endswith(POSTERIORS):
            binarize, count, _ = name.split("-")
            study[binarize, int(count), level_of(name)] = rows
    return study


def _levels(study: Study) -> list[float]:
    """Return the levels of noise that there is any of."""
    return sorted({level for *_, level in study if level})


def beyond_vae(study: Study, estimator: str, of: str) -> dict[tuple[str, int, float], Mean]:
    """Return what noise adds to log p(x), of every cell whose VAE is there."""
    return {
        (binarize, count, level): ESTIMATORS[estimator].difference(rows, base, of=of)
        for (binarize, count, level), rows in study.items()
        if level and (base := study.get((binarize, count, 0.0)))
    }


def _table_of_levels(study: Study, estimator: str, of: str) -> list[str]:
    """Return the table of what each level of noise adds, below a sentence that counts."""
    levels = _levels(study)
    differences = beyond_vae(study, estimator, of)
    rows: list[tuple] = [
        ("binarisation", "training images", "epochs", "validations", "VAE",
         *(f"noise {level:g} %" for level in levels), "seeds")
    ]  # fmt: skip
    verdicts = []
    for binarize in ("static", "dynamic"):
        found: list[Mean] = []
        for count in sorted({key[1] for key in study}):
            base = study.get((binarize, count, 0.0))
            if base is None:
                continue
            keys = [(binarize, count, level) for level in levels]
            beyond = {key[2]: differences[key] for key in keys if key in differences}
            found += beyond.values()
            one = next(iter(base.values()))
            epochs, every = one["epochs"], one["configuration"]["validate_every"]
            rows.append(
                (binarize, f"{count:,}", f"{epochs:,}", -(-epochs // every),
                 over_seeds(base, estimator, of=of),
                 *(certain(beyond[x]) if x in beyond else "" for x in levels),
                 min((value.num_seeds for value in beyond.values()), default=len(base)))
            )  # fmt: skip
        if found:
            verdicts.append(f"{verdict(found)} cells with {binarize} binarisation")
    counted = f" Noise is {'; '.join(verdicts)}." if verdicts else ""
    return [f"{WEIGHTS[of].capitalize()}.{counted}", "", *table(*rows)]


def posteriors_of(cells: Results, binarize: str) -> dict[str, Rows]:
    """Return the study's VAE, M=1 and M=5 without and with the mixture, of the seeds that all have."""
    names = ("0", "15", *(f"15_{posterior}" for posterior in POSTERIORS))
    found = [cells.get(f"{binarize}-1000-{name}", {}) for name in names]
    return dict(zip(("VAE", "M=1", "conditional", "mixture"), in_common(*found), strict=True))


def _table_of_posteriors(cells: Results) -> list[str]:
    """Return the table of the mixture bound beside the same number of corruptions without it."""
    rows: list[tuple] = [
        ("binarisation", "weights", "VAE", "M=1", "M=5, conditional", "M=5, mixture", "conditional beyond M=1",
         "mixture beyond M=1", "mixture beyond conditional", "seeds")
    ]  # fmt: skip
    for binarize in ("static", "dynamic"):
        found = posteriors_of(cells, binarize)
        if not found["VAE"]:
            continue
        for of in WEIGHTS:
            values = [over_seeds(seeds, "annealed", of=of) for seeds in found.values()]
            beyond = [
                certain(difference_annealed(found[name], found[other], of=of))
                for name, other in (
                    ("conditional", "M=1"), ("mixture", "M=1"), ("mixture", "conditional")
                )
            ]  # fmt: skip
            rows.append((binarize, of, *values, *beyond, values[0].num_seeds))
    if len(rows) == 1:
        return []
    return [
        "### Does the tighter bound give the regularisation back?",
        "",
        "1,000 training images, 15 % noise; annealed log p(x). Conditional, M=5 is the bound of M=1 with its gradient "
        "averaged over five noises in each step; the mixture bound is a tighter one. What each of the two does shows "
        "beside the other: averaging in the first difference, the tighter bound in the last.",
        "",
        *table(*rows),
    ]


def regularization_section(cells: Results) -> list[str]:
    """Return the text on corruption as a regulariser."""
    study = study_of(cells)
    one = first(cells)["best"]
    by_annealing = one["annealed"]
    errors = [
        row[of]["annealed"]["standard_error"]
        for (*_, level), rows in study.items()
        for row in rows.values()
        for of in WEIGHTS
        if not level
    ]
    lines = [
        "## Where corruption helps the likelihood, and where it does not",
        "",
        "MNIST, mlp 784-200-200-50 with tanh, salt-and-pepper noise, bound elbo; nats. Static: "
        "each training image is binarised once, as the authors did; dynamic: anew for each step. The epochs "
        "are the same for all levels of noise. The best weights are those of the best validation, by the bound that "
        "was trained, on the 5,000 images that are held out from training: 55,000 are all the others. The VAE's column "
        "is log p(x), the others what noise adds to it. Seeds differ in weights, noise and binarisation; the N training "
        "images are the first N for all of them, and the test images are the same: what is found is found for these "
        "images.",
        "",
        "![What noise adds to log p(x), against the number of training images: of the model alone, annealed, and with "
        "its encoder, by importance sampling](images/results-regularization.png)",
        "",
        "### The model: log p(x) by annealing",
        "",
        "Annealed importance sampling starts from the prior and knows nothing of the encoder. It, too, is a lower bound "
        f"in expectation, but one of the decoder alone. {by_annealing['count']} test images, "
        f"{by_annealing['num_chains']} chains of {by_annealing['num_temperatures']} temperatures; the error of a "
        "difference is that over seeds and images, its degrees of freedom by Welch and Satterthwaite. log p(x) itself "
        f"has an error over images of {min(errors):.1f} to {max(errors):.1f} nats, which differences on the same images "
        "have not.",
        "",
    ]
    for of in WEIGHTS:
        lines += _table_of_levels(study, "annealed", of)
    lines += [
        "### Model and encoder: log p(x) by importance sampling",
        "",
        f"{one['log_likelihood']['num_samples']} samples of the encoder's posterior, "
        f"{one['num_test_images']:,} test images. This is how likelihoods are usually compared, and a lower bound, to "
        "which the encoder belongs: where few images have trained it, few of the samples count, and a difference "
        "is in part one of encoders. Errors are those over seeds, of these test images.",
        "",
    ]
    for of in WEIGHTS:
        lines += _table_of_levels(study, "log_likelihood", of)
    return lines + _table_of_posteriors(cells)


def draw_regularization(cells: Results) -> Figure:
    """Draw what noise adds to log p(x), against the number of training images."""
    study = study_of(cells)
    counts = sorted({key[1] for key in study})
    levels = _levels(study)
    colours = plt.cm.viridis(np.linspace(0.75, 0.1, len(levels)))
    figure, panels = plt.subplots(
        2, 2, figsize=(8.5, 6.5), sharex=True, sharey="row", layout="constrained"
    )
    for line, (of, weights) in zip(panels, WEIGHTS.items(), strict=True):
        differences = {key: beyond_vae(study, key, of) for key in ESTIMATORS}
        for axes, binarize in zip(line, ("static", "dynamic"), strict=True):
            axes.axhline(0, color="0.6", linewidth=1)
            for key, estimator in ESTIMATORS.items():
                for level, colour in zip(levels, colours, strict=True):
                    found = differences[key]
                    both = [c for c in counts if (binarize, c, level) in found]
                    values = [found[binarize, c, level] for c in both]
                    label = f"{level:g} %, {estimator.label}"
                    _plot(axes, both, values, color=colour, label=label, **estimator.style)
            axes.set_xscale("log")
            axes.set_xticks(counts, [f"{c:,}" for c in counts])
            axes.minorticks_off()
            axes.set_xlim(counts[0] / 1.3, counts[-1] * 1.3)
            axes.yaxis.set_major_formatter(_signed)
            axes.set_title(f"{binarize} binarisation\n{weights}", fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
        line[0].set_ylabel("log p(x) beyond the VAE's, nats")
    for axes in panels[1]:
        axes.set_xlabel("training images")
    _legend_below(figure, panels[0, 0], title="salt and pepper")
    return figure


# ---- denoising and features ----


class Measured(NamedTuple):
    """How a measure of denoising is called, and what its numbers are multiplied by."""

    short: str
    label: str
    factor: int


DENOISING = {
    "psnr": Measured("PSNR", "PSNR, dB", 1),
    "probe_accuracy": Measured("probe", "accuracy of a linear probe, %", 100),
}


def denoised(cells: Results, kind: str, key: str, test_level: float) -> dict[float, dict]:
    """Return training level -> seed -> value of what was measured at a test level."""
    names = sorted((n for n in cells if n.startswith(f"{kind}-")), key=level_of)
    return {
        level_of(name): {
            seed: row[key]["mean"] * DENOISING[key].factor
            for seed, numbers in cells[name].items()
            for row in numbers["last"]["denoising"]
            if row["level"] == test_level
        }
        for name in names
    }


def denoising_section(cells: Results) -> list[str]:
    """Return the text on denoising and features."""
    test_levels = [row["level"] for row in first(cells)["last"]["denoising"]]
    columns = [(key, t) for key in DENOISING for t in test_levels]
    head = (
        "training noise",
        *(f"{DENOISING[key].short}, noise {100 * t:g} %" for key, t in columns),
    )
    values: list[tuple] = [("model", *head)]
    differences: list[tuple] = [("difference", *head)]
    measured = {
        kind: [denoised(cells, kind, key, t) for key, t in columns] for kind in ("dvae", "dae")
    }
    for kind, found in measured.items():
        for level in found[0]:
            means = [mean(column[level].values()) for column in found]
            values.append((kind.upper(), f"{level:g} %", *means))
            if level and 0.0 in found[0]:
                row = [certain(paired(column[level], column[0.0])) for column in found]
                differences.append((f"{kind.upper()} beyond no noise", f"{level:g} %", *row))
    pairs = list(zip(measured["dvae"], measured["dae"], strict=True))
    for level in measured["dvae"][0]:
        if all(level in dae for _, dae in pairs):
            row = [certain(paired(dvae[level], dae[level])) for dvae, dae in pairs]
            differences.append(("DVAE beyond DAE", f"{level:g} %", *row))
    epochs = first(cells)["epochs"]
    return [
        "## What denoising buys elsewhere",
        "",
        f"MNIST, mlp 784-200-200-50, salt-and-pepper noise, {epochs} epochs. The DAE is the same "
        "architecture and training without the KL term. PSNR in dB of the denoised image E[x|z], which is grey, "
        "against the clean one, which is binary. Probe: accuracy in % of a logistic regression on the "
        "latents of clean training images, tested on noisy ones. Weights after the last epoch.",
        "",
        "![PSNR and probe accuracy against training noise](images/results-denoising.png)",
        "",
        *table(*values),
        *table(*differences),
    ]


def draw_denoising(cells: Results) -> Figure:
    """Draw PSNR and probe accuracy against training noise."""
    test_levels = [row["level"] for row in first(cells)["last"]["denoising"]]
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    for axes, (key, what) in zip(panels, DENOISING.items(), strict=True):
        for kind, style in (("dvae", "o-"), ("dae", "s--")):
            for place, test_level in enumerate(test_levels):
                found = denoised(cells, kind, key, test_level)
                means = [mean(values.values()) for values in found.values()]
                _plot(
                    axes, list(found), means, fmt=style, color=f"C{place}", markersize=5,
                    label=f"{kind.upper()}, tested at {100 * test_level:g} %",
                )  # fmt: skip
        axes.set_xlabel("training noise, % of the pixels")
        axes.set_ylabel(what.label)
        axes.spines[["top", "right"]].set_visible(False)
    _legend_below(figure, panels[0])
    return figure


# ---- bounds ----


def bounds_tables(results: Path) -> dict[str, list[str]]:
    """Return the tables of docs/bounds.md by name."""
    tables = {}
    path = results / "bounds" / "linear_gaussian.json"
    if path.exists():
        content = json.loads(path.read_text())
        mixtures = _mixtures(content["levels"][0])
        tables["linear-gaussian"] = table(
            ("sigma", "log p", "L_cvae", *(f"M={m.split('_')[1]}" for m in mixtures),
             "L_dvae", "L_cvae - L_dvae", "I(x~; z \\| x)"),
            *(
                (row["sigma"], f"{row['log_p']:.3f}", f"{row['l_cvae']:.3f}",
                 *(f"{row[m]:.3f} ± {row[m + '_error']:.3f}" for m in mixtures),
                 f"{row['l_dvae']:.3f}", f"{row['l_cvae'] - row['l_dvae']:.3f}",
                 f"{row['mutual_information']:.3f}")
                for row in content["levels"]
            ),
        )  # fmt: skip
    path = results / "bounds" / "mnist.json"
    if path.exists():
        content = json.loads(path.read_text())

        def text(value: dict) -> str:
            return f"{value['mean']:.2f} ± {value['standard_error']:.2f}"

        tables["mnist"] = table(
            ("M", "mixture bound", "above M=1", "below log p(x)"),
            *(
                (row["m"], text(row["bound"]), "" if row["m"] == 1 else text(row["above_m_1"]),
                 text(row["below_log_likelihood"]))
                for row in content["mixtures"]
            ),
        )  # fmt: skip
    return tables


def draw_bounds(results: Path) -> Figure:
    """Draw log p, L_cvae, mixture bounds and L_dvae at growing noise."""
    content = json.loads((results / "bounds" / "linear_gaussian.json").read_text())
    rows = content["levels"]
    sigma = [row["sigma"] for row in rows]
    figure, axes = plt.subplots(figsize=(6.5, 4), layout="constrained")
    axes.plot(sigma, [row["log_p"] for row in rows], color="black", label="log p(x)")
    axes.plot(sigma, [row["l_cvae"] for row in rows], "o-", color="tab:blue", label="L_cvae")
    for name, colour in zip(_mixtures(rows[0]), ("0.35", "0.55", "0.72"), strict=True):
        label = f"mixture bound, M={name.split('_')[1]}"
        axes.plot(
            sigma, [row[name] for row in rows], "o--", color=colour, markersize=4, label=label
        )
    axes.plot(
        sigma, [row["l_dvae"] for row in rows], "o-", color="tab:orange", label="L_dvae (M=1)"
    )
    axes.set_xlabel("standard deviation of the corruption, sigma")
    axes.set_ylabel("nats per example")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def with_tables(text: str, tables: dict[str, list[str]]) -> str:
    """Return a page with the tables between its marks, <!-- table NAME --> and <!-- end -->."""
    for name, lines in tables.items():
        mark = f"<!-- table {name} -->"
        pattern = re.escape(mark) + r".*?<!-- end -->"
        content = "\n".join([mark, "", *lines, "<!-- end -->"]).replace("\\", r"\\")
        text = re.sub(pattern, content, text, flags=re.DOTALL)
    return text


SECTIONS = {
    "regularization": (regularization_section, draw_regularization),
    "mnist": (mnist_section, draw_mnist),
    "long": (long_section, None),
    "frey": (frey_section, draw_frey),
    "denoising": (denoising_section, draw_denoising),
}


def read_all(results: Path) -> dict[str, Results]:
    """Return the numbers of every experiment that has any, in the order of the page."""
    return {name: cells for name in SECTIONS if (cells := read(results, name))}


def render(found: dict[str, Results]) -> str:
    """Return the text of docs/results.md."""
    lines = [
        "# Results",
        "",
        "`make results` trains, measures and writes all of this; `make results-quick` makes a reduced version, in "
        "minutes. `python -m experiments.report` makes this page from the numbers in `results/`. ± is "
        "a standard error over seeds where nothing else is said; differences are those of runs with equal seeds, in bold "
        "where zero lies outside the 95 % interval of Student's t. Of twenty differences where there is none, one will be "
        "in bold; with two seeds the interval is a wide one, and its error a guess.",
        "",
    ]
    for name, cells in found.items():
        lines += SECTIONS[name][0](cells)
    return "\n".join(lines).rstrip() + "\n"


def write(results: Path, docs: Path) -> None:
    """Write the page of results, the tables of bounds where there is their page, and the figures.

    Raises:
        ValueError: if there are no results, or damaged ones.
    """
    found = read_all(results)
    if not found:
        raise ValueError(
            "--results must be a directory that experiments.run has written metrics.json files to. "
            f"Received: {results}, without any."
        )
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    (docs / "results.md").write_text(render(found))
    for name, cells in found.items():
        draw = SECTIONS[name][1]
        if draw is not None:
            draw(cells).savefig(images / f"results-{name}.png", dpi=120)
    if (results / "bounds" / "linear_gaussian.json").exists():
        draw_bounds(results).savefig(images / "bounds.png", dpi=120)
    page = docs / "bounds.md"
    if page.exists():
        page.write_text(with_tables(page.read_text(), bounds_tables(results)))


def main(arguments: list[str] | None = None) -> int:
    """Write pages and figures; return 0, or 2 after a user's error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, help="[default: the repository's]")
    parser.add_argument("--docs", type=Path, help="[default: the repository's, of its own results]")
    options = parser.parse_args(arguments)
    if options.results and not options.docs:
        parser.error(
            "--docs must be given with --results: the repository's pages are of its own results. "
            f"Received: --results {options.results} alone."
        )
    try:
        write(options.results or ROOT / "results", options.docs or ROOT / "docs")
    except (ValueError, OSError) as error:
        parser.error(" ".join(str(error).split()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
