"""Frey Faces: noise, likelihoods, and what the random split leaks."""

from collections.abc import Callable

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from benchmarks.report import table
from experiments import drawing
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
    level_of,
    mean,
    over_seeds,
    over_seeds_and_images,
)

SPLITS = ("contiguous", "random")
LIKELIHOODS = ("gaussian", "discretized_logistic")


# Of the contiguous split's test frames, which are one after the other within them.
NUM_BLOCKS = 4


def by_level(cells: Results) -> list[tuple[str, float, dict[str, Rows]]]:
    """Return likelihood, level of noise and split -> runs, a row of the tables each."""
    found = []
    for likelihood in LIKELIHOODS:
        for level in sorted({level_of(name) for name in cells if f"-{likelihood}-" in name}):
            end = f"{likelihood}-{level:g}".replace(".", "_")
            found.append((likelihood, level, {s: cells.get(f"{s}-{end}", {}) for s in SPLITS}))
    return found


def _table(
    cells: Results, estimator: str, beyond: Callable[[str, Rows, Rows], Mean]
) -> list[tuple]:
    """Return the rows of a table of log p(x) and of what noise adds to it."""
    rows: list[tuple] = [
        ("likelihood", "noise", *(x for s in SPLITS for x in (f"{s}: log p(x)", "beyond no noise")))
    ]
    for likelihood, level, of_splits in by_level(cells):
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


def beyond_no_noise(split: str, seeds: Rows, base: Rows) -> Mean:
    """Return what noise adds to annealed log p(x), with the error over seeds and what is independent."""
    num_blocks = NUM_BLOCKS if split == "contiguous" else 0
    return difference_annealed(seeds, base, num_blocks=num_blocks)


def section(cells: Results) -> list[str]:
    """Return the text on Frey Faces and its splits."""
    one = first(cells)
    best, by_annealing = one["best"], one["best"]["annealed"]

    def beyond(_: str, seeds: Rows, base: Rows) -> Mean:
        return difference(seeds, base, "log_likelihood")

    head, *rows = _table(cells, "annealed", beyond_no_noise)
    found = [of_splits for *_, of_splits in by_level(cells)]
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
        *table(*_table(cells, "log_likelihood", beyond)),
    ]


def draw(cells: Results) -> Figure:
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
            for key, estimator in drawing.ESTIMATORS.items():
                values = [over_seeds(cells[name], key) for name in names]
                label = f"{split} split, {estimator.label}"
                drawing.plot(axes, places, values, color=colour, label=label, **estimator.style)
        axes.set_title(f"{likelihood.replace('_', ' ').capitalize()} likelihood", fontsize=10)
        axes.set_xlabel("training noise, % of the pixels' range")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("log p(x) of the test images, nats")
    drawing.legend_below(figure, panels[0, 0])
    return figure
