"""The numbers of finished trials: one table for each experiment, in results/.

NAME.csv has a row for the best and a row for the last weights of each trial. NAME.npz has the values of
single images. NAME.json describes the trials, and names a setting once if all trials share it.

Several processes may record trials at once: a lock on the directory lets them in one by one, and each
file appears by one rename. NAME.json is written last and read first. A trial counts once it is named
there, so one whose process was killed in between is recorded again.
"""

import contextlib
import csv
import fcntl
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# Column -> number. Rows that were read hold texts, which are written back unchanged.
Row = dict[str, Any]
Each = tuple[np.ndarray, list[str]]  # values and the digests of their images
Settings = dict[str, Any]


class DamagedError(ValueError):
    """A file in results/ is damaged, or is not a table of results."""


@dataclass
class _Table:
    """The content of an experiment's three files."""

    rows: list[Row] = field(default_factory=list)
    each: dict[tuple[str, str], Each] = field(default_factory=dict)  # trial, weights -> values
    settings: dict[str, Settings] = field(default_factory=dict)  # trial -> what it is


def read(results: Path, experiment: str) -> pd.DataFrame:
    """Return the numbers of an experiment, a row for each cell, seed and weights, in this order.

    Beside the columns of the CSV it has the settings of each trial. The column `each` holds the values
    of single images: a Series whose index has the digests of the images.

    Raises:
        DamagedError: if a file is damaged, or is not a table of results.
    """
    table = _load(results, experiment)
    if not table.rows:
        return pd.DataFrame()
    with _said(results / f"{experiment}.csv"):
        frame = _frame(table.rows, words=("cell", "weights"))
    trials = [_trial(row) for row in table.rows]
    settings = pd.DataFrame([table.settings[trial] for trial in trials])
    frame = pd.concat([frame, settings], axis=1)
    if table.each:
        none: Each = np.array([]), []
        found = [
            table.each.get((trial, row["weights"]), none)
            for trial, row in zip(trials, table.rows, strict=True)
        ]
        frame["each"] = [pd.Series(values, digests, np.float64) for values, digests in found]
    return frame.sort_values(["cell", "seed", "weights"], ignore_index=True)


def settings_of(results: Path, experiment: str) -> dict[str, Settings]:
    """Return the settings of the recorded trials of an experiment: trial -> setting -> value.

    Raises:
        DamagedError: if the file is damaged, or is not a table of results.
    """
    path = results / f"{experiment}.json"
    with _said(path):
        if not path.exists():
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            f"{group['cell']}-{seed}": content["shared"] | group["settings"]
            for group in content["cells"]
            for seed in group["seeds"]
        }


def record(results: Path, experiment: str, trial: str, settings: Settings, rows: list[Row]) -> None:
    """Write the numbers of a trial; they replace its earlier numbers.

    Args:
        results: a directory; it is made if missing.
        experiment: the name of the table.
        trial: the name of its cell, "-", and its seed.
        settings: of the trial, as JSON values.
        rows: one for each of its weights; `each` and `digests` have an entry for each image.

    Raises:
        DamagedError: if the table is damaged.
    """
    cell, _, seed = trial.rpartition("-")
    results.mkdir(parents=True, exist_ok=True)
    with _locked(results):
        table = _load(results, experiment)
        table.rows = [row for row in table.rows if _trial(row) != trial]
        table.each = {key: each for key, each in table.each.items() if key[0] != trial}
        table.settings[trial] = settings
        for row in rows:
            own: Row = {"cell": cell, "seed": seed} | row
            if "each" in own:
                each = np.array(own.pop("each"), np.float64)
                table.each[trial, own["weights"]] = each, own.pop("digests")
            table.rows.append(own)
        table.rows.sort(key=lambda row: (row["cell"], int(row["seed"]), row["weights"]))
        if table.each:
            _replace(results / f"{experiment}.npz", _npz(table.each))
        _replace(results / f"{experiment}.csv", _csv(table.rows).encode())
        _replace(results / f"{experiment}.json", _json(table.settings).encode())


def read_bounds(results: Path) -> pd.DataFrame:
    """Return the numbers of docs/bounds.md: a row for each model, level, M and quantity.

    Raises:
        DamagedError: if the file is damaged, or is not a table of results.
    """
    path = results / "bounds.csv"
    if not path.exists():
        return pd.DataFrame({"model": []})
    with _said(path):
        frame = _frame(_rows(path), words=("model", "quantity"))
        columns = ["model", "sigma", "num_corruptions", "quantity", "mean", "standard_error"]
        return frame[columns]


def record_bounds(results: Path, found: dict[str, tuple[Settings, list[Row]]]) -> None:
    """Write models' settings and the numbers of their bounds; they replace earlier ones.

    Raises:
        DamagedError: if a file is damaged.
    """
    results.mkdir(parents=True, exist_ok=True)
    table, about = results / "bounds.csv", results / "bounds.json"
    with _locked(results):
        with _said(about):
            settings = json.loads(about.read_text(encoding="utf-8")) if about.exists() else {}
        with _said(table):
            rows = _rows(table) if table.exists() else []
            rows = [row for row in rows if row["model"] not in found]
        for model, (of_model, numbers) in sorted(found.items()):
            settings[model] = of_model
            rows += [{"model": model, **row} for row in numbers]
        rows.sort(key=lambda row: row["model"])
        _replace(table, _csv(rows).encode())
        _replace(about, (json.dumps(settings, indent=1, sort_keys=True) + "\n").encode())


def _rows(path: Path) -> list[Row]:
    """Return the rows of a CSV file; a row that is cut off is an error."""
    with _said(path):
        text = path.read_text(encoding="utf-8")
        head, *lines = csv.reader(io.StringIO(text), strict=True)
        if not text.endswith("\n") or any(len(line) != len(head) for line in lines):
            raise ValueError("with a line that is cut off")
        return [dict(zip(head, line, strict=True)) for line in lines]


def _frame(rows: list[Row], *, words: tuple[str, ...]) -> pd.DataFrame:
    """Return rows of texts as a table, with numbers in all columns except `words`."""

    # pandas' own parser rounds differently from one version to the next.
    def number(text: str) -> float:
        return int(text) if text.lstrip("-").isdigit() else float(text or "nan")

    return pd.DataFrame(
        [{key: x if key in words else number(x) for key, x in row.items()} for row in rows]
    )


def _trial(row: Row) -> str:
    return f"{row['cell']}-{row['seed']}"


def _load(results: Path, experiment: str) -> _Table:
    settings = settings_of(results, experiment)
    if not settings:
        return _Table()
    path = results / f"{experiment}.csv"
    with _said(path):
        rows = [row for row in _rows(path) if _trial(row) in settings]
        for trial in settings.keys() - set(map(_trial, rows)):
            raise ValueError(f"without {trial}")
        annealed = {(_trial(row), row["weights"]) for row in rows if row.get("annealed")}
    path = path.with_suffix(".npz")
    with _said(path):
        each = _unpacked(path) if annealed else {}
        for trial, weights in annealed - each.keys():
            raise ValueError(f"without the {weights} weights of {trial}")
        return _Table(rows, {key: each[key] for key in annealed}, settings)


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turn any error of a damaged file into a message of one line with a remedy."""
    try:
        yield
    except DamagedError:
        raise
    except (
        ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, FileNotFoundError,
        csv.Error, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise DamagedError(
            f"Results must be tables as the experiments write them. Received: {path}, {error!r}. "
            f"Restore it, or remove {path.stem}.* and run `make results` again."
        ) from error


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _csv(rows: list[Row]) -> str:
    columns = dict.fromkeys(column for row in rows for column in row)
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _npz(each: dict[tuple[str, str], Each]) -> bytes:
    """Return values and digests as arrays; shorter rows are filled up with 0 and ""."""
    keys = sorted(each)
    sets = sorted({tuple(each[key][1]) for key in keys})
    size = max(map(len, sets))
    thousandths = np.zeros((len(keys), size), np.int32)
    for row, key in zip(thousandths, keys, strict=True):
        row[: len(each[key][0])] = np.rint(1000 * each[key][0])
    trials, weights = zip(*keys, strict=True)
    file = io.BytesIO()
    np.savez_compressed(
        file,
        trial=trials,
        weights=weights,
        annealed=thousandths,  # of a nat, [rows, images]
        images=[sets.index(tuple(each[key][1])) for key in keys],  # which set of images
        digests=[digests + ("",) * (size - len(digests)) for digests in sets],  # [sets, images]
    )
    return file.getvalue()


def _unpacked(path: Path) -> dict[tuple[str, str], Each]:
    with np.load(io.BytesIO(path.read_bytes())) as arrays:
        keys = zip(arrays["trial"].tolist(), arrays["weights"].tolist(), strict=True)
        sets = [[digest for digest in row if digest] for row in arrays["digests"].tolist()]
        digests = [sets[index] for index in arrays["images"]]
        values = arrays["annealed"] / 1000
    return {
        key: (row[: len(of_images)], of_images)
        for key, row, of_images in zip(keys, values, digests, strict=True)
    }


def _json(settings: dict[str, Settings]) -> str:
    """Return settings as JSON: shared ones once, and one line for the others of each cell."""
    of_all = list(settings.values())
    shared = {
        name: value
        for name, value in of_all[0].items()
        if all(name in each and each[name] == value for each in of_all)
    }
    seeds: dict[tuple[str, str], list[int]] = {}
    for trial in sorted(settings):
        cell, _, seed = trial.rpartition("-")
        own = {name: x for name, x in settings[trial].items() if name not in shared}
        seeds.setdefault((cell, json.dumps(own)), []).append(int(seed))
    lines = [
        f' {{"cell": {json.dumps(cell)}, "seeds": {sorted(of_cell)}, "settings": {own}}}'
        for (cell, own), of_cell in seeds.items()
    ]
    return (
        f'{{"shared": {json.dumps(shared, indent=1)},\n"cells": [\n' + ",\n".join(lines) + "\n]}\n"
    )
