"""What denoising buys elsewhere: PSNR and a probe, beside an auto-encoder without a KL term."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from experiments import drawing
from experiments.markdown import table
from experiments.statistics import Mean, level_of, marked, mean, paired, values


class Measured(NamedTuple):
    """The names of a measure of denoising, and the factor of its numbers."""

    short: str
    label: str
    factor: int


MEASURES = {
    "psnr": Measured("PSNR", "PSNR, dB", 1),
    "probe_accuracy": Measured("probe", "accuracy of a linear probe, %", 100),
}


def denoised(cells: pd.DataFrame, kind: str, key: str, test_level: float) -> dict[float, pd.Series]:
    """Return a measure at one test level: training level -> a value for each seed."""
    of_kind = cells[cells["cell"].str.startswith(f"{kind}-")]
    found = {
        level_of(name): values(rows, f"{key}_at_{test_level:g}", of="last") * MEASURES[key].factor
        for name, rows in of_kind.groupby("cell")
    }
    return dict(sorted(found.items()))


def _test_levels(cells: pd.DataFrame) -> list[float]:
    return cells["measure.test_levels"].iloc[0]


def section(cells: pd.DataFrame) -> list[str]:
    """Return the text on denoising and features."""
    test_levels = _test_levels(cells)
    columns = [(key, t) for key in MEASURES for t in test_levels]
    head = (
        "training noise",
        *(f"{MEASURES[key].short}, noise {100 * t:g} %" for key, t in columns),
        "seeds",
    )
    means: list[tuple] = [("model", *head)]
    differences: list[tuple] = [("difference", *head)]
    measured = {
        kind: [denoised(cells, kind, key, t) for key, t in columns] for kind in ("dvae", "dae")
    }

    def add(what: str, level: float, row: list[Mean]) -> None:
        differences.append((what, f"{level:g} %", *map(marked, row), row[0].num_seeds))

    for kind, found in measured.items():
        for level in found[0]:
            row = [mean(column[level]) for column in found]
            means.append((kind.upper(), f"{level:g} %", *row, row[0].num_seeds))
            if level and 0.0 in found[0]:
                row = [paired(column[level], column[0.0]) for column in found]
                add(f"{kind.upper()} minus {kind.upper()} without noise", level, row)
    pairs = list(zip(measured["dvae"], measured["dae"], strict=True))
    for level in measured["dvae"][0]:
        if all(level in dae for _, dae in pairs):
            add("DVAE minus DAE", level, [paired(dvae[level], dae[level]) for dvae, dae in pairs])
    return [
        "## What denoising buys elsewhere",
        "",
        f"MNIST, mlp 784-200-200-50, salt-and-pepper noise, {cells['epochs'].iloc[0]} epochs, weights after the last "
        "epoch. The DAE (denoising auto-encoder) has the same architecture and the same training. Its latents are "
        "still sampled, but it has no KL term.",
        "",
        "- **PSNR**, in dB, compares the denoised image with the clean one. The denoised image is grey: it is E[x|z] at "
        "the mean of q(z|x~). The clean image is binary.",
        "- **Probe** is the accuracy, in %, of a logistic regression. It is fitted on the latents of clean training "
        "images, and tested on the latents of noisy test images.",
        "",
        "![PSNR and probe accuracy against training noise](images/results-denoising.png)",
        "",
        *table(*means),
        *table(*differences),
    ]


def draw(cells: pd.DataFrame) -> Figure:
    """Draw PSNR and probe accuracy against training noise."""
    test_levels = _test_levels(cells)
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    for axes, (key, what) in zip(panels, MEASURES.items(), strict=True):
        for kind, style in (("dvae", "o-"), ("dae", "s--")):
            for place, test_level in enumerate(test_levels):
                found = denoised(cells, kind, key, test_level)
                means = [mean(of_seeds) for of_seeds in found.values()]
                drawing.plot(
                    axes, list(found), means, fmt=style, color=f"C{place}", markersize=5,
                    label=f"{kind.upper()}, tested at {100 * test_level:g} %",
                )  # fmt: skip
        axes.set_xlabel("training noise, % of the pixels")
        axes.set_ylabel(what.label)
        axes.spines[["top", "right"]].set_visible(False)
    drawing.legend_below(figure, panels[0])
    return figure
