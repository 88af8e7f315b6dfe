"""Frey Faces: noise, likelihoods, and what the random split leaks."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import drawing
from experiments.markdown import table
from experiments.statistics import (
    ESTIMATORS,
    Mean,
    annealed,
    block_of,
    difference_annealed,
    effective_sizes,
    in_common,
    level_of,
    marked,
    mean,
    of_cell,
    over_seeds,
    over_seeds_and_images,
    range_of,
)

SPLITS = ("contiguous", "random")
LIKELIHOODS = ("gaussian", "discretized_logistic")
# The leak of each likelihood: a shift to the right, so that error bars stay apart, and a style.
LEAK_STYLES = {
    "gaussian": (0.0, {"fmt": "o-", "color": "0.1", "markersize": 5}),
    "discretized_logistic": (0.25, {"fmt": "s--", "color": "0.5", "markersize": 5}),
}

# The number of stretches of the video; the contiguous split has one test block in each.
NUM_BLOCKS = 4


def _words(likelihood: str) -> str:
    return likelihood.replace("_", " ")


def _title(likelihood: str) -> str:
    return f"{_words(likelihood).capitalize()} likelihood"


def by_level(cells: pd.DataFrame) -> list[tuple[str, float, dict[str, pd.DataFrame]]]:
    """Return likelihood, level of noise, and split -> trials, for each row of the tables."""
    found = []
    names = cells["cell"].unique()
    for likelihood in LIKELIHOODS:
        for level in sorted({level_of(name) for name in names if f"-{likelihood}-" in name}):
            end = f"{likelihood}-{level:g}".replace(".", "_")
            found.append((likelihood, level, {s: of_cell(cells, f"{s}-{end}") for s in SPLITS}))
    return found


def _table(cells: pd.DataFrame, estimator: str, beyond: Callable[..., Mean]) -> list[tuple]:
    """Return the rows of a table of log p(x) and its difference from training without noise."""
    rows: list[tuple] = [
        ("likelihood", "noise", *(x for s in SPLITS for x in (f"{s}: log p(x)", "minus no noise")))
    ]
    for likelihood, level, of_splits in by_level(cells):
        row = [_words(likelihood), f"{level:g} %"]
        for split, seeds in of_splits.items():
            base = of_cell(cells, f"{split}-{likelihood}-0")
            row.append("" if seeds.empty else str(over_seeds(seeds, estimator)))
            row.append(marked(beyond(seeds, base)) if level else "")
        rows.append(tuple(row))
    return rows


def in_both(contiguous: pd.DataFrame, random: pd.DataFrame) -> np.ndarray:
    """Return, for each test frame of the contiguous split, whether the random split tests it, too."""
    return annealed(contiguous).columns.isin(annealed(random).columns)


def leak(contiguous: pd.DataFrame, random: pd.DataFrame) -> Mean:
    """Return what a random split adds to annealed log p(x), on the frames that both splits test.

    The error is over seeds and blocks of frames.
    """
    contiguous, random = in_common(contiguous, random)
    shared = in_both(contiguous, random)
    if not shared.any():
        return mean([])
    ours = annealed(contiguous).loc[:, shared]
    each = annealed(random)[ours.columns] - ours
    return over_seeds_and_images(each.to_numpy(), block_of(len(shared), NUM_BLOCKS)[shared])


def beyond_no_noise(seeds: pd.DataFrame, base: pd.DataFrame) -> Mean:
    """Return what noise adds to annealed log p(x), with the error over seeds and blocks of frames."""
    return difference_annealed(seeds, base, num_blocks=NUM_BLOCKS)


def section(cells: pd.DataFrame) -> list[str]:
    """Return the text on Frey Faces and its splits."""
    one = cells.iloc[0]
    head, *rows = _table(cells, "annealed", beyond_no_noise)
    _, *sampled = _table(cells, "log_likelihood", ESTIMATORS["log_likelihood"].difference)
    found = [of_splits for *_, of_splits in by_level(cells)]
    num_shared = max(in_both(**of_splits).sum() for of_splits in found)
    leaks = [marked(leak(**of_splits)) for of_splits in found]
    num_seeds = [min(x["seed"].nunique() for x in of_splits.values()) for of_splits in found]
    on_shared = (
        f"The leak is what the random split adds on the {num_shared} frames that both test."
        if num_shared
        else "The leak is unknown, because no frame is in both."
    )
    return [
        "## Frey Faces: what the random split leaks",
        "",
        f"mlp 560-200-200-20, {one['epochs']} epochs, Gaussian noise (100 % is the pixels' range), best weights by "
        "validation bound, nats per image.",
        "",
        "Frames of a video resemble their neighbours. A random split therefore tests on neighbours of training images. "
        "A contiguous split does so only at the edges of its blocks. The Gaussian likelihood is a density and the "
        "discretised logistic a probability, so the two are not comparable.",
        "",
        "![log p(x) against noise, by split and likelihood: the model alone, annealed, and with its encoder, by "
        "importance sampling; and the leak](images/results-frey.png)",
        "",
        f"**The model, by annealing.** {one['num_annealed']} test images, {one['num_chains']} chains of "
        f"{one['num_temperatures']} temperatures. The effective number of chains is "
        f"{range_of(effective_sizes(cells, 'annealed'))}, so the estimates are loose lower bounds. Errors of "
        f"differences are over seeds and images. They treat {NUM_BLOCKS} stretches of the video as independent, not "
        "single frames. With so few, only large differences on the contiguous split would be significant. The two "
        f"splits test different frames. {on_shared}",
        "",
        *table(
            (*head, "leak", "seeds"),
            *((*row, *ends) for row, *ends in zip(rows, leaks, num_seeds, strict=True)),
        ),
        f"**Model and encoder, by importance sampling.** {one['num_samples']:,} samples, "
        f"{one['num_test_images']} test images. The effective number of samples is "
        f"{range_of(effective_sizes(cells, 'log_likelihood'))}, so these estimates are loose lower bounds, too. "
        "Errors are over seeds.",
        "",
        *table(
            (*head, "seeds"),
            *((*row, count) for row, count in zip(sampled, num_seeds, strict=True)),
        ),
    ]


def _draw_leaks(axes: Axes, leaks: dict[str, dict[float, Mean]]) -> None:
    """Draw the leak against noise: likelihood -> level -> leak."""
    for likelihood, values in leaks.items():
        right, style = LEAK_STYLES[likelihood]
        places = [level + right for level in values]
        drawing.plot(axes, places, list(values.values()), label=_title(likelihood), **style)
    axes.set_title("Leak, on frames that both splits test", fontsize=10)
    axes.set_ylabel("random \N{MINUS SIGN} contiguous, nats")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="lower right")


def draw(cells: pd.DataFrame) -> Figure:
    """Draw log p(x) against noise for each likelihood, and the random split's leak if it is known."""
    leaks: dict[str, dict[float, Mean]] = {}
    for likelihood, level, of_splits in by_level(cells):
        leaks.setdefault(likelihood, {})[level] = leak(**of_splits)
    is_known = any(value.num_seeds for values in leaks.values() for value in values.values())
    count = len(leaks) + is_known
    figure, panels = plt.subplots(
        1, count, figsize=(max(4 * count, 6), 3.8), layout="constrained", squeeze=False
    )
    if is_known:
        _draw_leaks(panels[0, -1], leaks)
    for axes, likelihood in zip(panels[0], leaks, strict=False):
        for split, colour in zip(SPLITS, ("tab:blue", "tab:orange"), strict=True):
            start = f"{split}-{likelihood}-"
            names = [n for n in cells["cell"].unique() if n.startswith(start)]
            names.sort(key=level_of)
            places = [level_of(name) for name in names]
            for key, estimator in ESTIMATORS.items():
                values = [over_seeds(of_cell(cells, name), key) for name in names]
                label = f"{split} split, {estimator.label}"
                drawing.plot(axes, places, values, color=colour, label=label, **drawing.STYLES[key])
        axes.set_title(_title(likelihood), fontsize=10)
    for axes in panels[0]:
        axes.set_xlabel("training noise, % of the pixels' range")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("log p(x) of its test images, nats")
    drawing.legend_below(figure, panels[0, 0])
    return figure
