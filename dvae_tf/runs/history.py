"""history.csv: a row of means for every epoch. Keras writes it, with NA in epochs not validated."""

import csv
import io
import math
from collections.abc import Iterable, Mapping

import numpy as np

LOGGED = ("loss", "bound", "elbo", "reconstruction", "kl")
COLUMNS = ("epoch", *LOGGED, *(f"val_{name}" for name in LOGGED))
_NOT_MEASURED = "NA"

Row = Mapping[str, str]
# Name of the column -> its values; NaN in epochs without validation.
Columns = dict[str, list[float]]


def rows(text: str) -> list[dict[str, str]]:
    """Return the rows in the text of a history.csv; an empty text has none.

    Raises:
        csv.Error: if the text is not a CSV table.
    """
    return list(csv.DictReader(io.StringIO(text, newline="")))


def columns(table: Iterable[Row]) -> Columns:
    """Turn rows into columns.

    Raises:
        ValueError, TypeError, LookupError: if there are no rows, a column is missing, or a value is
            not a number.
    """

    def value(key: str, text: str) -> float:
        return math.nan if key.startswith("val_") and text == _NOT_MEASURED else float(text)

    table = list(table)
    if None in table[0]:
        raise ValueError("a row with more values than columns")
    return {key: [value(key, row[key]) for row in table] for key in (*table[0], *COLUMNS)}


def validation_bounds(table: Iterable[Row]) -> list[float]:
    """Return the bounds of all validated epochs.

    Raises:
        ValueError, TypeError, KeyError: if these are not rows of a history.
    """
    return [float(row["val_bound"]) for row in table if row["val_bound"] != _NOT_MEASURED]


def has_ended(table: list[Row] | list[dict[str, str]], epochs: int, patience: int | None) -> bool:
    """Return whether training has ended, after all epochs or because patience ran out.

    Args:
        table: rows of the history.
        epochs: number of epochs to train.
        patience: validations without a better bound that end training, or None.

    Raises:
        ValueError, TypeError, KeyError: if these are not rows of a history.
    """
    bounds = validation_bounds(table)
    if not bounds:
        return False
    waited = len(bounds) - 1 - int(np.argmax(bounds))
    return len(table) >= epochs or (patience is not None and waited >= patience)
