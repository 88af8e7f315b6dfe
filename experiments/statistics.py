"""The committed numbers of runs, their means over seeds, and whether a difference is one.

A difference is that of runs with equal seeds, stated with its standard error over seeds; it counts as
one where zero lies outside the 95 % interval of Student's t.
"""

import functools
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.stats

from experiments import runs

Rows = dict[int, dict]  # seed -> numbers of a run
Results = dict[str, Rows]  # name of the cell -> its runs


class Mean(NamedTuple):
    """A mean over seeds, its standard error with its degrees of freedom, and the number of seeds."""

    value: float
    error: float
    num_seeds: int
    freedom: float

    def __str__(self) -> str:
        return f"{self.value:.2f}" + (f" ± {self.error:.2f}" if self.num_seeds > 1 else "")

    @property
    def is_certain(self) -> bool:
        """Whether zero lies outside the 95 % interval of Student's t: with few seeds, a wide one."""
        if self.num_seeds < 2:
            return False
        return bool(abs(self.value) > scipy.stats.t.ppf(0.975, self.freedom) * self.error)

    @property
    def is_better(self) -> bool:
        """Whether a difference is one for the better."""
        return self.is_certain and self.value > 0


def mean(values: Iterable[float]) -> Mean:
    """Return the mean of one value for each seed; of none it is NaN."""
    array = np.array(list(values), np.float64)
    if not len(array):
        return Mean(math.nan, math.nan, 0, 0)
    error = array.std(ddof=1) / math.sqrt(len(array)) if len(array) > 1 else math.nan
    return Mean(float(array.mean()), float(error), len(array), len(array) - 1)


def read(results: Path, experiment: str) -> Results:
    """Return the numbers of an experiment, names and seeds in order.

    Raises:
        ValueError: if a file is damaged, or is not that of a run which is declared.
    """
    declared = {run.name for run in runs.select([experiment])}
    cells: Results = {}
    for path in (results / experiment).glob("*/metrics.json"):
        run = f"{experiment}/{path.parent.name}"
        if run not in declared:
            raise ValueError(
                f"Results must be of runs that experiments/runs.py declares. Received: {path}. "
                "Remove it, or declare it."
            )
        name, _, seed = path.parent.name.rpartition("-")
        numbers = read_json(path, "configuration", "measure", "epochs")
        cells.setdefault(name, {})[int(seed)] = numbers
    return {name: dict(sorted(cells[name].items())) for name in sorted(cells)}


def read_json(path: Path, *keys: str) -> dict:
    """Return a file of numbers that has these keys.

    Raises:
        ValueError: if it is damaged, or something else.
    """
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict) or not set(keys) <= set(content):
            raise ValueError(f"without {', '.join(keys)}")
        return content
    except ValueError as error:
        raise ValueError(
            f"Results must be JSON as the experiments write it. Received: {path}, {error}. "
            "Remove it, and run `make results` again."
        ) from error


def level_of(name: str) -> float:
    """Return the level at the end of a cell's name, in percent."""
    return float(name.rpartition("-")[2].replace("_", "."))


def first(cells: Results) -> dict:
    """Return the numbers of one run, for what all runs of an experiment share."""
    return next(iter(next(iter(cells.values())).values()))


def pick(row: dict, key: str, *, of: str = "best") -> float:
    """Return a measured number of one run."""
    value = row[of][key]
    return value["mean"] if isinstance(value, dict) else value


def over_seeds(rows: Rows, key: str, *, of: str = "best") -> Mean:
    """Return a measured number's mean over seeds."""
    return mean(pick(row, key, of=of) for row in rows.values())


def in_common(*cells: Rows) -> list[Rows]:
    """Return the runs of the seeds that all of some cells have."""
    seeds = sorted(set.intersection(*(set(rows) for rows in cells)))
    return [{seed: rows[seed] for seed in seeds} for rows in cells]


def paired(values: dict[int, float], others: dict[int, float]) -> Mean:
    """Return the mean difference over the seeds that both have."""
    return mean(values[seed] - others[seed] for seed in values if seed in others)


def difference(rows: Rows, others: Rows, key: str, *, of: str = "best") -> Mean:
    """Return the mean difference of a measured number over the seeds that both have."""
    values, of_others = (
        {seed: pick(row, key, of=of) for seed, row in each.items()} for each in (rows, others)
    )
    return paired(values, of_others)


def effective_size(estimate: dict, num_key: str) -> float:
    """Return Kish's effective number of draws of an image: 1 where one of them has all the weight.

    Args:
        estimate: of log p(x), with its Monte Carlo error, which is that of the mean of `count` images.
        num_key: of the number of draws.
    """
    squared = estimate["monte_carlo_error"] ** 2 * estimate["count"]  # of one image, on average
    return estimate[num_key] / (1 + (estimate[num_key] - 1) * squared)


def effective_sizes(cells: Results, key: str, *of: str) -> str:
    """Return in words the effective number of draws of log p(x), where it is least and where most.

    Args:
        cells: runs of an experiment.
        key: of ESTIMATORS.
        of: "best", "last" weights, or both.
    """
    num_key = ESTIMATORS[key].num_draws
    values = [
        effective_size(row[weights][key], num_key)
        for rows in cells.values()
        for row in rows.values()
        for weights in of
    ]
    return f"{min(values):.1f} to {max(values):.1f}"


def annealed(rows: Rows, *, of: str = "best") -> np.ndarray:
    """Return annealed log p(x), one row for each seed, one column for each image."""
    return np.array([row[of]["annealed"]["each"] for row in rows.values()], np.float64)


def difference_annealed(rows: Rows, others: Rows, *, of: str = "best", num_blocks: int = 0) -> Mean:
    """Return the mean difference of annealed log p(x) on the same images, over seeds and images.

    Args:
        rows: runs.
        others: those whose numbers are subtracted.
        of: "best" or "last" weights.
        num_blocks: where images are frames of so many equal stretches of a video, which rather than
            the frames are independent; 0 if all images are.

    Raises:
        ValueError: if they say which images they are of, and those are not the same.
    """
    rows, others = in_common(rows, others)
    if not rows:
        return mean([])
    for pair in zip(rows.values(), others.values(), strict=True):
        images = [row[of]["annealed"].get("digests") for row in pair]
        if all(images) and images[0] != images[1]:
            raise ValueError(
                "Runs whose annealed log p(x) is compared must be of the same test images. "
                "Received: runs of different ones. Compare the images that both have."
            )
    ours, theirs = (annealed(each, of=of) for each in (rows, others))
    count = ours.shape[1]
    return over_seeds_and_images(ours - theirs, block_of(count, num_blocks or count))


class Estimator(NamedTuple):
    """How two runs' estimates of log p(x) are compared, what of, and the key of what is drawn."""

    difference: Callable[..., Mean]
    label: str
    num_draws: str


ESTIMATORS = {
    "annealed": Estimator(difference_annealed, "model alone", "num_chains"),
    "log_likelihood": Estimator(
        functools.partial(difference, key="log_likelihood"), "with its encoder", "num_samples"
    ),
}


def block_of(count: int, num_blocks: int) -> np.ndarray:
    """Return the number of the block that each of `count` images in order is in."""
    return np.arange(count) * num_blocks // count


def over_seeds_and_images(each: np.ndarray, blocks: np.ndarray) -> Mean:
    """Return the mean of differences [seeds, images], with the error over seeds and over images.

    Images of one block are taken to differ together: the squares of blocks' sums are added, not those
    of images. The degrees of freedom are those of Welch and Satterthwaite for a sum of two variances.
    """
    seeds, images = mean(each.mean(axis=1)), each.mean(axis=0)
    sums = np.bincount(blocks, images - seeds.value)
    count = len(np.unique(blocks))
    if min(seeds.num_seeds, count) < 2:
        return seeds._replace(error=math.nan, num_seeds=min(seeds.num_seeds, 1))
    variances = seeds.error**2, count / (count - 1) * np.sum(np.square(sums)) / len(images) ** 2
    total = sum(variances)
    parts = zip(variances, (seeds.freedom, count - 1), strict=True)
    freedom = total**2 / sum(v**2 / n for v, n in parts) if total else seeds.freedom
    return seeds._replace(error=math.sqrt(total), freedom=freedom)


def certain(value: Mean) -> str:
    """Return a difference as text, in bold if it is one."""
    if not value.num_seeds:
        return ""
    text = f"{value.value:+.2f}" + (f" ± {value.error:.2f}" if value.num_seeds > 1 else "")
    return f"**{text}**" if value.is_certain else text


def verdict(differences: Iterable[Mean]) -> str:
    """Return in words how many of the differences are for the better, and how many for the worse."""
    values = [value for value in differences if value.num_seeds]
    better = sum(value.is_better for value in values)
    worse = sum(value.is_certain for value in values) - better
    undecided = len(values) - better - worse
    return f"better in {better}, worse in {worse}, undecided in {undecided} of {len(values)}"
