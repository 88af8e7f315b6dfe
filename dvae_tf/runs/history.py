"""history.csv: a row of means for every epoch. Keras writes it, with NA where nothing was validated."""

import csv
import io
import math
from collections.abc import Iterable, Mapping

import numpy as np

LOGGED = ("loss", "bound", "elbo", "reconstruction", "kl")
COLUMNS = ("epoch", *LOGGED, *(f"val_{name}" for name in LOGGED))
_NOT_MEASURED = "NA"

Row = Mapping[str, str]
# By name of the column; NaN in epochs without validation.
Columns = dict[str, list[float]]


def rows(text: str) -> list[dict[str, str]]:
    """Return the rows of the text of a history.csv; none of an empty one.

    Raises:
        csv.Error: if it is none.
    """
    return list(csv.DictReader(io.StringIO(text, newline="")))


def columns(table: Iterable[Row]) -> Columns:
    """Return the columns of rows.

    Raises:
        ValueError, TypeError, LookupError: if a column is missing, or a value is no number.
    """

    def value(key: str, text: str) -> float:
        return math.nan if key.startswith("val_") and text == _NOT_MEASURED else float(text)

    table = list(table)
    if None in table[0]:
        raise ValueError("a row with more values than columns")
    return {key: [value(key, row[key]) for row in table] for key in (*table[0], *COLUMNS)}


def validation_bounds(table: Iterable[Row]) -> list[float]:
    """Return the bound of every validation that is among rows.

    Raises:
        ValueError, TypeError, KeyError: if these are no rows of a history.
    """
    return [float(row["val_bound"]) for row in table if row["val_bound"] != _NOT_MEASURED]


def has_ended(table: list[Row] | list[dict[str, str]], epochs: int, patience: int | None) -> bool:
    """Whether rows hold all epochs, or those up to where patience ended.

    Raises:
        ValueError, TypeError, KeyError: if these are no rows of a history.
    """
    bounds = validation_bounds(table)
    if not bounds:
        return False
    waited = len(bounds) - 1 - int(np.argmax(bounds))
    return len(table) >= epochs or (patience is not None and waited >= patience)
