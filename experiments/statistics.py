"""Means of trials over seeds, their differences, and which differences are significant.

A difference compares trials with equal seeds and has a standard error over seeds. It is significant
(5 % level) if zero lies outside the 95 % interval of Student's t.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.stats


class Mean(NamedTuple):
    """A mean over seeds, its standard error and its degrees of freedom, and the number of seeds."""

    value: float
    error: float
    num_seeds: int
    freedom: float

    def __str__(self) -> str:
        return f"{self.value:.2f}" + (f" ± {self.error:.2f}" if self.num_seeds > 1 else "")

    @property
    def is_significant(self) -> bool:
        """Whether zero lies outside the 95 % interval of Student's t, which few seeds make wide."""
        if self.num_seeds < 2:
            return False
        return bool(abs(self.value) > scipy.stats.t.ppf(0.975, self.freedom) * self.error)

    @property
    def is_better(self) -> bool:
        """Whether a difference is positive and significant."""
        return self.is_significant and self.value > 0


def mean(numbers: Iterable[float]) -> Mean:
    """Return the mean of one value for each seed; without values it is NaN."""
    array = np.array(list(numbers), np.float64)
    if not len(array):
        return Mean(math.nan, math.nan, 0, 0)
    error = array.std(ddof=1) / math.sqrt(len(array)) if len(array) > 1 else math.nan
    return Mean(float(array.mean()), float(error), len(array), len(array) - 1)


def of_cell(cells: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a cell; a cell that is missing has no rows, but all columns."""
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
    """Return the rows of each cell, for the seeds that all cells have."""
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
    """Return Kish's effective number of draws for an image; it is 1 if one draw has all the weight.

    Args:
        rows: the rows of trials.
        key: a key of ESTIMATORS. The column `{key}_monte_carlo_error` holds the error of the mean over
            images.
    """
    draws, images = rows[ESTIMATORS[key].num_draws], rows[ESTIMATORS[key].num_images]
    squared = rows[f"{key}_monte_carlo_error"] ** 2 * images  # of one image, on average
    return draws / (1 + (draws - 1) * squared)


def range_of(sizes: pd.Series) -> str:
    """Return the smallest and the largest effective number of draws, in words."""
    return f"{sizes.min():.1f} to {sizes.max():.1f}"


def annealed(rows: pd.DataFrame, *, of: str = "best") -> pd.DataFrame:
    """Return annealed log p(x), one row for each seed, one column for each image.

    Raises:
        ValueError: if trials have different images.
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
        others: trials whose numbers are subtracted.
        of: "best" or "last" weights.
        num_blocks: number of equal stretches of a video that the images come from. The stretches are
            then taken to be independent, not the frames. 0 if all images are independent.

    Raises:
        ValueError: if trials have different images.
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
    "Trials whose annealed log p(x) is compared must have the same test images. "
    "Received: trials with different ones. Compare the images that both have."
)


class Estimator(NamedTuple):
    """How to compare two cells' estimates of log p(x), with the columns of their draws and images."""

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
    """Return which block each of `count` consecutive images is in."""
    return np.arange(count) * num_blocks // count


def over_seeds_and_images(each: np.ndarray, blocks: np.ndarray) -> Mean:
    """Return the mean of differences [seeds, images], with the error over seeds and over images.

    Images of one block are not independent, so the variance adds the squared sums of the blocks and
    not of the images. The degrees of freedom follow Welch and Satterthwaite for a sum of two variances.
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


def marked(value: Mean) -> str:
    """Return a difference as text, in bold if it is significant."""
    if not value.num_seeds:
        return ""
    text = f"{value.value:+.2f}" + (f" ± {value.error:.2f}" if value.num_seeds > 1 else "")
    return f"**{text}**" if value.is_significant else text


def verdict(differences: Iterable[Mean]) -> str:
    """Return in words how many differences are significantly better, and how many worse."""
    found = [value for value in differences if value.num_seeds]
    better = sum(value.is_better for value in found)
    worse = sum(value.is_significant for value in found) - better
    neither = len(found) - better - worse
    return (
        f"significantly better in {better} cells, significantly worse in {worse}, and neither in "
        f"{neither} of {len(found)}"
    )
