"""Means of trials over seeds, their differences, and whether a difference is one.

A difference is that of trials with equal seeds, stated with its standard error over seeds; it counts as
one where zero lies outside the 95 % interval of Student's t.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.stats


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


def mean(numbers: Iterable[float]) -> Mean:
    """Return the mean of one value for each seed; of none it is NaN."""
    array = np.array(list(numbers), np.float64)
    if not len(array):
        return Mean(math.nan, math.nan, 0, 0)
    error = array.std(ddof=1) / math.sqrt(len(array)) if len(array) > 1 else math.nan
    return Mean(float(array.mean()), float(error), len(array), len(array) - 1)


def of_cell(cells: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a cell; none, with all columns, if it is not there."""
    return cells[cells["cell"] == name]


def level_of(name: str) -> float:
    """Return the level at the end of a cell's name, in percent."""
    return float(name.rpartition("-")[2].replace("_", "."))


def values(rows: pd.DataFrame, key: str, *, of: str = "best") -> pd.Series:
    """Return a measured number of a cell, by seed."""
    return rows[rows["weights"] == of].set_index("seed")[key]


def over_seeds(rows: pd.DataFrame, key: str, *, of: str = "best") -> Mean:
    """Return a measured number's mean over seeds."""
    return mean(values(rows, key, of=of))


def in_common(*cells: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the rows of the seeds that all of some cells have."""
    seeds = set.intersection(*(set(rows["seed"]) for rows in cells))
    return [rows[rows["seed"].isin(seeds)] for rows in cells]


def paired(ours: pd.Series, theirs: pd.Series) -> Mean:
    """Return the mean difference over the seeds that both have."""
    ours, theirs = ours.align(theirs, join="inner")
    return mean(ours - theirs)


def difference(rows: pd.DataFrame, others: pd.DataFrame, key: str, *, of: str = "best") -> Mean:
    """Return the mean difference of a measured number over the seeds that both have."""
    return paired(values(rows, key, of=of), values(others, key, of=of))


def effective_sizes(rows: pd.DataFrame, key: str) -> pd.Series:
    """Return Kish's effective number of draws of an image: 1 where one of them has all the weight.

    Args:
        rows: of trials.
        key: of ESTIMATORS. The column of its Monte Carlo error holds that of the mean over images.
    """
    draws, images = rows[ESTIMATORS[key].num_draws], rows[ESTIMATORS[key].num_images]
    squared = rows[f"{key}_monte_carlo_error"] ** 2 * images  # of one image, on average
    return draws / (1 + (draws - 1) * squared)


def range_of(sizes: pd.Series) -> str:
    """Return in words where effective numbers of draws are least and where most."""
    return f"{sizes.min():.1f} to {sizes.max():.1f}"


def annealed(rows: pd.DataFrame, *, of: str = "best") -> pd.DataFrame:
    """Return annealed log p(x), one row for each seed, one column for each image.

    Raises:
        ValueError: if trials are not of the same images.
    """
    each = values(rows, "each", of=of)
    if any(not series.index.equals(each.iloc[0].index) for series in each):
        raise ValueError(_OTHER_IMAGES)
    return pd.DataFrame(list(each), index=each.index)


def difference_annealed(
    rows: pd.DataFrame, others: pd.DataFrame, *, of: str = "best", num_blocks: int = 0
) -> Mean:
    """Return the mean difference of annealed log p(x) on the same images, over seeds and images.

    Args:
        rows: trials of a cell.
        others: those whose numbers are subtracted.
        of: "best" or "last" weights.
        num_blocks: where images are frames of so many equal stretches of a video, which rather than
            the frames are independent; 0 if all images are.

    Raises:
        ValueError: if trials are not of the same images.
    """
    rows, others = in_common(rows, others)
    if rows.empty:
        return mean([])
    ours, theirs = (annealed(each, of=of) for each in (rows, others))
    if not ours.columns.equals(theirs.columns):
        raise ValueError(_OTHER_IMAGES)
    count = ours.shape[1]
    return over_seeds_and_images((ours - theirs).to_numpy(), block_of(count, num_blocks or count))


_OTHER_IMAGES = (
    "Trials whose annealed log p(x) is compared must be of the same test images. "
    "Received: trials of different ones. Compare the images that both have."
)


class Estimator(NamedTuple):
    """How two cells' estimates of log p(x) are compared, what of, and how many draws and images."""

    difference: Callable[..., Mean]
    label: str
    num_draws: str
    num_images: str


ESTIMATORS = {
    "annealed": Estimator(difference_annealed, "model alone", "num_chains", "num_annealed"),
    "log_likelihood": Estimator(
        functools.partial(difference, key="log_likelihood"),
        "with its encoder",
        "num_samples",
        "num_test_images",
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
    found = [value for value in differences if value.num_seeds]
    better = sum(value.is_better for value in found)
    worse = sum(value.is_certain for value in found) - better
    undecided = len(found) - better - worse
    return f"better in {better}, worse in {worse}, undecided in {undecided} of {len(found)}"
