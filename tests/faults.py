"""Damage files of runs, data and exports, fill disks and lock them, and see what the commands say.

    python tests/faults.py --cases 200          # as root: also a full disk and a read-only one

Each case damages one file, runs one command and looks at three things: its exit status is 2, with one
line that says what was wrong, or 0 if the damage can be repaired or cannot be seen; no exception
leaves the command; all other files are as they were before, or in the end as without the damage.
SavedModels are looked at by serving/check.py, for which a version that differs is status 1. The exit
status is 1 if one case goes otherwise.
"""

import argparse
import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "serving")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import check
import keras
import numpy as np
import PIL.Image
from kill_and_resume import contents

import evaluate
import train
from dvae_tf.runs import training
from dvae_tf.serving import export

SMALL = ["--limit", "96", "--batch-size", "32", "--hidden", "8", "--latent-dim", "2"]
RUN = [*SMALL, "--epochs", "3"]
SECONDS = 120  # more is a hang
ROOMS = (0, 30, 100, 200, 300, 400, 600, 800, 1000)  # KiB left on a disk


class Case(NamedTuple):
    """One file to damage, and the command that then meets it."""

    name: str
    base: str  # directory to copy
    pattern: str  # files in it, of which one is damaged; "!" before it: all of them
    command: Callable[[Path], int]
    statuses: tuple[int, ...] = (0, 2)


def resume(path: Path) -> int:
    return train.main(["--resume", str(path / "run")])


def evaluate_run(path: Path) -> int:
    words = ["--num-importance-samples", "2", "--limit", "10", "--num-annealed", "0"]
    return evaluate.main([str(path / "run"), *words, "--noise-levels", "0.1"])


def export_again(path: Path) -> int:
    return export.main([str(path / "run"), "--version", "2"])


def check_version(path: Path) -> int:
    return check.main([str(path / "run" / "export" / "1")])


def train_on(name: str) -> Callable[[Path], int]:
    def command(path: Path) -> int:
        words = [*SMALL, "--epochs", "1", "--network", "mlp", "--run-dir", str(path / "new")]
        return train.main([*words, "--dataset", str(path / name)])

    return command


CASES = [
    Case("newest checkpoint", "stopped", "run/checkpoints/*", resume),
    Case("all checkpoints", "stopped", "!run/checkpoints/*", resume),
    Case("config of a stopped run", "stopped", "run/config.json", resume),
    Case("history of a stopped run", "stopped", "run/history.csv", resume),
    Case("model of a stopped run", "stopped", "run/model.keras", resume),
    Case("config", "ended", "run/config.json", evaluate_run),
    Case("model", "ended", "run/model.keras", evaluate_run),
    Case("model, export", "ended", "run/model.keras", export_again),
    Case("history, export", "ended", "run/history.csv", export_again),
    Case("npz", "data", "images.npz", train_on("images.npz")),
    Case("npy", "data", "images.npy", train_on("images.npy")),
    Case("image", "data", "photos/*", train_on("photos")),
    Case("SavedModel graph", "ended", "run/export/1/saved_model.pb", check_version, (0, 1, 2)),
    Case("SavedModel weights", "ended", "run/export/1/variables/*", check_version, (0, 1, 2)),
    Case("golden outputs", "ended", "run/export/1/golden.npz", check_version, (0, 1, 2)),
    Case("signature.json", "ended", "run/export/1/signature.json", check_version, (0, 1, 2)),
    Case("warm-up", "ended", "run/export/1/assets.extra/*", check_version, (0, 1, 2)),
]


# ---- damage ----


def truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: int(len(content) * rng.random())]


def empty(content: bytes, rng: random.Random) -> bytes:
    return b""


def flip(content: bytes, rng: random.Random, count: int = 1) -> bytes:
    changed = bytearray(content)
    for _ in range(count):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_many(content: bytes, rng: random.Random) -> bytes:
    return flip(content, rng, 50)


def zero_out(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    part = content[start : start + 512]
    return content[:start] + bytes(len(part)) + content[start + len(part) :]


def scramble(content: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(len(content))


DAMAGES = (truncate, empty, flip, flip_many, zero_out, scramble)


# ---- what is damaged ----


class _Stop(keras.callbacks.Callback):
    """Stops a run as Ctrl-C does, in its third epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


class _Fill(keras.callbacks.Callback):
    """Leaves no room on a disk in the second epoch: TensorBoard cannot flush at its end.

    Args:
        disk: directory on the disk.
    """

    def __init__(self, disk: Path):
        super().__init__()
        self._filler = disk / "filler"

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(4096))


@contextlib.contextmanager
def first_called(callback: keras.callbacks.Callback) -> Iterator[None]:
    """Have training call a callback before its own that write."""
    own = training._callbacks
    training._callbacks = lambda *values: [callback, *own(*values)]
    try:
        yield
    finally:
        training._callbacks = own


def quietly(command: Callable[[], int]) -> tuple[int, str]:
    """Run a command in this process; return its exit status and what it wrote to stderr."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            status = command()
        except SystemExit as stopped:
            status = int(stopped.code or 0)
    return status, errors.getvalue()


def make_bases(directory: Path) -> dict[str, bytes]:
    """Make a stopped run, an ended one, and data; return what the stopped one is to end with."""
    common = [*RUN, "--checkpoint-seconds", "0"]
    ended = directory / "ended" / "run"
    ended.parent.mkdir()
    assert quietly(lambda: train.main([*common, "--run-dir", str(ended)]))[0] == 0
    stopped = directory / "stopped" / "run"
    stopped.parent.mkdir()
    with first_called(_Stop()):
        assert quietly(lambda: train.main([*common, "--run-dir", str(stopped)]))[0] == 130
    assert len(list((stopped / "checkpoints").iterdir())) > 1
    data = directory / "data"
    (data / "photos").mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    np.savez(data / "images.npz", images=images)
    np.save(data / "images.npy", images)
    for index, image in enumerate(images):
        PIL.Image.fromarray(image).save(data / "photos" / f"{index:02d}.png")
    return contents(ended)


def snapshot(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


# ---- cases ----


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    def stop(*_):
        raise TimeoutError(f"no end after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def own_lines(errors: str) -> list[str]:
    """Return the lines of stderr that a command wrote as its error."""
    return [line for line in errors.splitlines() if ": error: " in line]


def judge(run: Callable[[], int], statuses: tuple[int, ...]) -> tuple[int, str | None]:
    """Run a command, and return its status and what is wrong with how it ended."""
    try:
        with time_limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            status, errors = quietly(run)
    except BaseException:
        return -1, traceback.format_exc()
    if status not in statuses:
        return status, f"status {status}: {errors[-500:]}"
    if status == 2 and (len(own_lines(errors)) != 1 or "Received" not in errors):
        return status, f"no message in one line: {errors[-500:]}"
    return status, None


def run_case(
    case: Case, damage, base: Path, expected: dict[str, bytes], rng
) -> tuple[int, str | None]:
    """Damage a copy, run the command, and return its status and what is wrong."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "copy"
        shutil.copytree(base / case.base, path)
        targets = sorted(path.glob(case.pattern.lstrip("!")))
        targets = targets if case.pattern.startswith("!") else targets[-1:]
        for target in targets:
            target.write_bytes(damage(target.read_bytes(), rng))
        before = snapshot(path)
        status, problem = judge(lambda: case.command(path), case.statuses)
        if problem:
            return status, problem
        after = snapshot(path)
        if status == 2 and after != before:
            changed = {k for k in {*before, *after} if before.get(k) != after.get(k)}
            return status, f"an error has changed {sorted(changed)[:5]}"
        is_same_run = case.command is resume and "config" not in case.name
        if status == 0 and is_same_run and contents(path / "run") != expected:
            return status, "the resumed run has other weights"
        return status, None


def on_a_small_disk(
    expected: dict[str, bytes], rooms: tuple[int, ...]
) -> Iterator[tuple[str, str | None]]:
    """Train on a disk that is full, then make room; and on one that is read-only."""
    with tempfile.TemporaryDirectory() as name:
        disk = Path(name)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", name], check=True)
        try:
            words = [*RUN, "--checkpoint-seconds", "0", "--run-dir", str(disk / "run")]
            for room in rooms:
                shutil.rmtree(disk / "run", ignore_errors=True)
                filler = disk / "filler"
                filler.write_bytes(b"")
                free = shutil.disk_usage(disk).free
                filler.write_bytes(bytes(max(free - room * 1024, 0)))
                status, problem = judge(lambda: train.main(words), (0, 2))
                yield f"full disk, {room} KiB left: status {status}", problem
                filler.unlink()
                if status == 2 and problem is None and (disk / "run" / "config.json").exists():
                    status, problem = judge(lambda: resume(disk), (0,))
                    if not problem and contents(disk / "run") != expected:
                        problem = "the resumed run has other weights"
                    yield f"room again, resumed: status {status}", problem
            subprocess.run(["mount", "-o", "remount,ro", name], check=True)
            before = snapshot(disk)
            for label, command in (
                ("train", lambda: train.main([*RUN, "--run-dir", str(disk / "other")])),
                ("evaluate", lambda: evaluate_run(disk)),
                ("export", lambda: export_again(disk)),
            ):
                status, problem = judge(command, (2,))
                if snapshot(disk) != before:
                    problem = "something has changed"
                yield f"read-only disk, {label}: status {status}", problem
            subprocess.run(["mount", "-o", "remount,rw", name], check=True)
            shutil.rmtree(disk / "run", ignore_errors=True)
            # So many epochs that TensorBoard flushes within them.
            seldom = ["--checkpoint-seconds", "1000", "--run-dir", str(disk / "run")]
            with first_called(_Fill(disk)):
                status, problem = judge(
                    lambda: train.main([*SMALL, "--epochs", "9", *seldom]), (2,)
                )
            yield f"disk that fills between checkpoints: status {status}", problem
            (disk / "filler").unlink()
            status, problem = judge(lambda: resume(disk), (0,))
            yield f"room again, resumed: status {status}", problem
        finally:
            # Lazily, because TensorBoard's writer keeps its file open after the disk was full.
            subprocess.run(["umount", "--lazy", name], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    failures = 0
    counts: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        expected = make_bases(base)
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            for text, problem in on_a_small_disk(
                expected, ROOMS if options.cases >= 100 else ROOMS[::4]
            ):
                failures += problem is not None
                print(text + (f", {problem}" if problem else ""), flush=True)
        chosen = [CASES[number % len(CASES)] for number in range(options.cases)]
        # check.py switches XLA off, for good: its cases come last.
        for case in sorted(chosen, key=lambda case: case.command is check_version):
            damage = rng.choice(DAMAGES)
            started = time.monotonic()
            status, problem = run_case(case, damage, base, expected, rng)
            failures += problem is not None
            counts[status] = counts.get(status, 0) + 1
            keras.backend.clear_session()
            print(
                f"{case.name}, {damage.__name__}: status {status}"
                f"{', ' + problem if problem else ''} ({time.monotonic() - started:.1f} s)",
                flush=True,
            )
    print(f"{options.cases} cases of damage, by status: {dict(sorted(counts.items()))}")
    print(f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
