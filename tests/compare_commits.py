"""Compare what two commits compute, bit for bit: run it at every step of a refactoring.

::

    python tests/compare_commits.py OLD NEW [--data-dir DIR] [--epochs N] [--only NAME ...]
    python tests/compare_commits.py main . --only digits         # half a minute a commit

OLD and NEW are git revisions, or paths of checkouts, which are used as they are. Both train and
evaluate the same runs, one process a command, with the same seeds in the same environment:

    digits, mnist, frey    the default settings of the three data sets, for N epochs
    iwae                   doubly reparameterised gradients, K=3
    mixture                mixture posterior, M=3, binary pixels, clipped masking
    conv                   convolutions in bfloat16, drawn noise levels, warm-up, clipped gradients

MNIST and Frey Faces are skipped where their data are not there. One line a file says `equal`, or
how many of its values differ, with the largest absolute and relative difference and where they are.
Compared are the weights in model.keras, history.csv, config.json without versions and paths,
signature.json, the arrays of golden.npz, every number of metrics.json, and which files there are.

Run both on one machine, pinned to one core (`taskset -c 0`): other processors sum in other orders.
The exit status is 0 if all is equal, 1 if something differs, and 2 if a command fails.
"""

import argparse
import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

ROOT = Path(__file__).parents[1]
EVALUATE = "--num-importance-samples 100 --limit 60 --num-annealed 3"
FEW_LEVELS = " --noise-levels 0.1 0.3"  # of all runs but digits, which takes the default ones
# name -> the flags of train.py but for those that every run has. Sizes are small to save time.
RUNS = {
    "digits": "",
    "mnist": "--dataset mnist --limit 2000",
    "frey": "--dataset frey --limit 500",
    "iwae": "--objective iwae --num-samples 3 --gradient doubly_reparameterized --hidden 16",
    "mixture": "--posterior mixture --num-corruptions 3 --likelihood bernoulli --noise masking "
    "--clip --hidden 16",
    "conv": "--network conv --hidden 4 8 --likelihood gaussian --noise gaussian --noise-level "
    "0.05:0.3 --kl-warmup 2 --max-gradient-norm 10 --patience 3 --validate-every 2 "
    "--precision mixed_bfloat16 --limit 500",
}
DEFAULTS = ("digits", "mnist", "frey")
NOT_COMPARED = ("versions", "run_dir", "data_dir")  # of config.json


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", help="a git revision, or the path of a checkout")
    parser.add_argument("new", help="likewise")
    parser.add_argument("--data-dir", default=os.environ.get("TFDS_DATA_DIR"))
    parser.add_argument("--epochs", type=int, default=3, help="of the default runs")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME")
    parser.add_argument("--keep", type=Path, help="a new directory for the runs, which stay there")
    given = parser.parse_args(arguments)
    data = None if given.data_dir is None else Path(given.data_dir).resolve()
    different = 0
    with tempfile.TemporaryDirectory() as scratch:
        place = given.keep or Path(scratch, "runs")
        sides = {"old": given.old, "new": given.new}
        checkouts = {k: _checkout(v, Path(scratch, "code", k)) for k, v in sides.items()}
        for name in given.only:
            if reason := _missing(name, data):
                print(f"{name}: skipped, {reason}", flush=True)
                continue
            directories = []
            for side, checkout in checkouts.items():
                (place / side).mkdir(parents=True, exist_ok=True)
                began = time.monotonic()
                epochs = given.epochs if name in DEFAULTS else 2
                _make(name, checkout, place / side, epochs, data)
                print(f"{name}: {side}, {time.monotonic() - began:.0f} s", flush=True)
                directories.append(place / side / name)
            for what, lines in compare_runs(*directories):
                different += bool(lines)
                print(f"{name}: {what}: {lines[0] if lines else 'equal'}")
                for line in lines[1:]:
                    print(f"    {line}")
            sys.stdout.flush()
    print(f"{different} things differ" if different else "all equal")
    return 1 if different else 0


def _checkout(revision_or_path: str, target: Path) -> Path:
    """Return the directory that holds the code."""
    if (path := Path(revision_or_path).resolve()).is_dir() and (path / "train.py").exists():
        return path
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", revision_or_path]
    result = subprocess.run(command, capture_output=True)
    if result.returncode:
        sys.stderr.buffer.write(result.stderr)
        raise SystemExit(2)
    with tarfile.open(fileobj=io.BytesIO(result.stdout), encoding="utf-8") as archive:
        archive.extractall(target, filter="data")
    return target


def _missing(name: str, data: Path | None) -> str | None:
    """Return why a run cannot be made; None where it can."""
    needed = {"mnist": "mnist", "frey": "downloads/manual/frey_rawface.mat"}.get(name)
    if needed is None or (data is not None and (data / needed).exists()):
        return None
    return f"no {needed} in {data or '--data-dir, which is not given'}"


def _make(name: str, checkout: Path, place: Path, epochs: int, data: Path | None) -> None:
    """Train and evaluate one run as `place`/`name`."""
    source = ["--data-dir", str(data)] if name in ("mnist", "frey") else []
    train = [*RUNS[name].split(), "--epochs", str(epochs), "--seed", "7", "--run-dir", name]
    evaluate = EVALUATE if name == "digits" else EVALUATE + FEW_LEVELS
    for words in (["train.py", *train], ["evaluate.py", name, *evaluate.split()]):
        command = [sys.executable, str(checkout / words[0]), *words[1:], *source]
        variables = {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
        variables |= {"PYTHONHASHSEED": "0"}
        result = subprocess.run(
            command, cwd=place, env=os.environ | variables, capture_output=True, text=True
        )
        if result.returncode:
            print(f"{' '.join(command)}: status {result.returncode}\n{result.stderr}")
            raise SystemExit(2)


def compare_runs(old: Path, new: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each thing of two evaluated run directories, with the lines that say how it differs."""
    readers = {
        "model.keras": read_weights,
        "history.csv": read_history,
        "config.json": read_config,
        "export/1/signature.json": read_json,
        "export/1/golden.npz": read_npz,
        "evaluation/metrics.json": read_json,
    }
    for name, read in readers.items():
        a, b = (read(path / name) if (path / name).exists() else {} for path in (old, new))
        yield name, differences(a, b)
    yield "names of files", differences(_names(old), _names(new))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return no line where all values are the same bits, else a summary and a line for each value."""
    lines = [f"{key}: only in {side}" for side, key in _unshared(old, new)]
    worst, count = (-1.0, -1.0, ""), 0
    for key in [key for key in old if key in new]:
        a, b = np.asarray(old[key]), np.asarray(new[key])
        if a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes():
            continue
        count += 1
        if a.shape != b.shape or not {a.dtype.kind, b.dtype.kind} <= set("fiub"):
            lines.append(f"{key}: {_short(a)} != {_short(b)}")
            continue
        absolute, relative, where = _distance(a.astype(np.float64), b.astype(np.float64))
        kind = "" if a.dtype == b.dtype else f", {a.dtype} != {b.dtype}"
        place = f"{key}{list(where)}" if where else key
        lines.append(f"{place}: absolute {absolute:.3g}, relative {relative:.3g}{kind}")
        worst = max(worst, (absolute, relative, place))
    if not lines:
        return []
    summary = f"DIFFERS in {len(lines)} of {len(old.keys() | new.keys())} values"
    if count and worst[0] >= 0:
        summary += f", at most by {worst[0]:.3g} (relative {worst[1]:.3g}) at {worst[2]}"
    rest = [f"and {len(lines) - 20} more"] if len(lines) > 20 else []
    return [summary, *lines[:20], *rest]


def _unshared(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str]]:
    only_old = [("OLD", key) for key in old if key not in new]
    return only_old + [("NEW", key) for key in new if key not in old]


def _distance(a: np.ndarray, b: np.ndarray) -> tuple[float, float, tuple[int, ...]]:
    """Return the largest absolute difference, the largest relative one, and where the first is."""
    with np.errstate(invalid="ignore", divide="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        absolute = np.where(same, 0, np.abs(a - b))
        relative = np.where(same, 0, absolute / np.maximum(np.abs(a), np.abs(b)))
    absolute, relative = (np.where(np.isnan(v), np.inf, v) for v in (absolute, relative))
    where = np.unravel_index(int(absolute.argmax()), absolute.shape)
    return float(absolute.max()), float(relative.max()), tuple(int(v) for v in where)


def _short(value: np.ndarray) -> str:
    text = str(value) if value.ndim == 0 else f"{value.dtype} {list(value.shape)}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _names(run_dir: Path) -> dict[str, bool]:
    """Return the files of a run; not those of TensorBoard, whose names hold host and time."""
    paths = (path.relative_to(run_dir).as_posix() for path in sorted(run_dir.rglob("*")))
    return {path: True for path in paths if not path.startswith("logs/")}


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a model.keras file by their place in it, read without Keras."""
    content = zipfile.ZipFile(path).read("model.weights.h5")
    arrays: dict[str, np.ndarray] = {}
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(
            lambda name, item: arrays.update(
                {name: np.asarray(item[()])} if isinstance(item, h5py.Dataset) else {}
            )
        )
    return arrays


def read_history(path: Path) -> dict[str, Any]:
    """Return the cells of history.csv by column and row; numbers where they are."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {f"{k}[{i}]": _number(v) for i, row in enumerate(rows) for k, v in row.items()}


def _number(text: str) -> float | str:
    with contextlib.suppress(ValueError):
        return float(text)
    return text


def read_json(path: Path) -> dict[str, Any]:
    """Return the values of a JSON file by their path in it."""
    return dict(_leaves(json.loads(path.read_text(encoding="utf-8")), ""))


def read_config(path: Path) -> dict[str, Any]:
    """Return the values of config.json, but for what may differ between equal runs."""
    return {k: v for k, v in read_json(path).items() if not set(k.split(".")) & set(NOT_COMPARED)}


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{index}]")
    else:
        yield path, value if isinstance(value, int | float) else json.dumps(value)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


if __name__ == "__main__":
    sys.exit(main())
