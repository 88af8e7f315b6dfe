"""What denoising buys elsewhere: PSNR and a probe, beside an auto-encoder without KL term."""

from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from experiments import drawing
from experiments.markdown import table
from experiments.statistics import Mean, Results, certain, first, level_of, mean, paired


class Measured(NamedTuple):
    """How a measure of denoising is called, and what its numbers are multiplied by."""

    short: str
    label: str
    factor: int


MEASURES = {
    "psnr": Measured("PSNR", "PSNR, dB", 1),
    "probe_accuracy": Measured("probe", "accuracy of a linear probe, %", 100),
}


def denoised(cells: Results, kind: str, key: str, test_level: float) -> dict[float, dict]:
    """Return training level -> seed -> value of what was measured at a test level."""
    names = sorted((n for n in cells if n.startswith(f"{kind}-")), key=level_of)
    return {
        level_of(name): {
            seed: row[key]["mean"] * MEASURES[key].factor
            for seed, numbers in cells[name].items()
            for row in numbers["last"]["denoising"]
            if row["level"] == test_level
        }
        for name in names
    }


def section(cells: Results) -> list[str]:
    """Return the text on denoising and features."""
    test_levels = [row["level"] for row in first(cells)["last"]["denoising"]]
    columns = [(key, t) for key in MEASURES for t in test_levels]
    head = (
        "training noise",
        *(f"{MEASURES[key].short}, noise {100 * t:g} %" for key, t in columns),
        "seeds",
    )
    values: list[tuple] = [("model", *head)]
    differences: list[tuple] = [("difference", *head)]
    measured = {
        kind: [denoised(cells, kind, key, t) for key, t in columns] for kind in ("dvae", "dae")
    }

    def add(what: str, level: float, row: list[Mean]) -> None:
        cells = [*map(certain, row), row[0].num_seeds]
        differences.append((what, f"{level:g} %", *cells))

    for kind, found in measured.items():
        for level in found[0]:
            means = [mean(column[level].values()) for column in found]
            values.append((kind.upper(), f"{level:g} %", *means, means[0].num_seeds))
            if level and 0.0 in found[0]:
                row = [paired(column[level], column[0.0]) for column in found]
                add(f"{kind.upper()} beyond no noise", level, row)
    pairs = list(zip(measured["dvae"], measured["dae"], strict=True))
    for level in measured["dvae"][0]:
        if all(level in dae for _, dae in pairs):
            add("DVAE beyond DAE", level, [paired(dvae[level], dae[level]) for dvae, dae in pairs])
    epochs = first(cells)["epochs"]
    return [
        "## What denoising buys elsewhere",
        "",
        f"MNIST, mlp 784-200-200-50, salt-and-pepper noise, {epochs} epochs. The DAE, a denoising "
        "auto-encoder, has the same architecture and training, and its latents are still sampled, but it has no KL term. PSNR in dB of the denoised image, "
        "E[x|z] at the mean of q(z|x~), which is grey, against the clean one, which is binary. Probe: accuracy in % of a logistic regression fitted on the "
        "latents of clean training images and tested on those of noisy test images. Weights after the last epoch.",
        "",
        "![PSNR and probe accuracy against training noise](images/results-denoising.png)",
        "",
        *table(*values),
        *table(*differences),
    ]


def draw(cells: Results) -> Figure:
    """Draw PSNR and probe accuracy against training noise."""
    test_levels = [row["level"] for row in first(cells)["last"]["denoising"]]
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    for axes, (key, what) in zip(panels, MEASURES.items(), strict=True):
        for kind, style in (("dvae", "o-"), ("dae", "s--")):
            for place, test_level in enumerate(test_levels):
                found = denoised(cells, kind, key, test_level)
                means = [mean(values.values()) for values in found.values()]
                drawing.plot(
                    axes, list(found), means, fmt=style, color=f"C{place}", markersize=5,
                    label=f"{kind.upper()}, tested at {100 * test_level:g} %",
                )  # fmt: skip
        axes.set_xlabel("training noise, % of the pixels")
        axes.set_ylabel(what.label)
        axes.spines[["top", "right"]].set_visible(False)
    drawing.legend_below(figure, panels[0])
    return figure
