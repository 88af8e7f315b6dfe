"""Kill trainings, exports and evaluations with SIGKILL, repeat each, and compare with one never killed.

    python tests/kill_and_resume.py --kills 25 --exports 10 --evaluations 10

A run is stopped after a random number of calls of several steps and a random delay, or within a
checkpoint, a model, the figures or an export, and then resumed until it ends. Exports and evaluations
die at a random one of the moments at which they are about to change the disk or have just done so, and
are then repeated. Everything must be equal bit for bit, what was there must stay until it is replaced,
and nothing unfinished may be left. The exit status is 1 if one is not.
"""

import argparse
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# 120 steps an epoch in calls of 60, a checkpoint after each of them.
RUN = shlex.split(
    "--limit 480 --batch-size 4 --epochs 3 --hidden 16 --latent-dim 3 --kl-warmup 2 --patience 2 "
    "--noise-level 0.1:0.3 --checkpoint-seconds 0"
)
NUM_CALLS = 6
PLACES = ("checkpoint", "model", "figures", "export")
EVALUATION = shlex.split("--num-importance-samples 10 --limit 20 --num-annealed 2")
# Files that no two processes write alike: TensorFlow gives each SavedModel a random number, and the
# entries of a warm-up request are in no order.
UNSTEADY = ("fingerprint.pb", "tf_serving_warmup_requests")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(place: str, number: int, delay: float) -> list[int]:
    """Have this process die at the `number`-th time that it comes to a place; return what is left."""
    from dvae_tf import files
    from dvae_tf.runs import callbacks, outcome
    from dvae_tf.serving import version

    left = [number]

    def count_down(*_):
        left[0] -= 1
        if left[0] == 0:
            if delay:
                threading.Timer(delay, die).start()
            else:
                die()

    if place == "step":
        callbacks.FiniteGuard.on_train_batch_begin = lambda self, batch, logs=None: count_down()
        return left
    if place == "disk":
        for name in ("write_bytes", "write_text", "mkdir", "rename", "replace", "unlink"):
            setattr(Path, name, around(getattr(Path, name), count_down))
        files._sync = around(files._sync, count_down)
        shutil.rmtree = around(shutil.rmtree, count_down)
        return left

    # Half of the bytes are written when the process dies.
    original = Path.write_bytes

    def write_half(path, content):
        if place == "checkpoint" and path.name.endswith(".ckpt"):
            left[0] -= 1
            if left[0] == 0:
                original(path, content[: len(content) // 2])
                die()
        return original(path, content)

    Path.write_bytes = write_half
    if place == "model":
        sync = files.sync_tree
        files.sync_tree = lambda path: (
            count_down() if path.name.endswith("model.keras") else None,
            sync(path),
        )
    if place == "figures":
        outcome.figures.learning_curves = lambda *_, **__: die()
    if place == "export":
        version._complete = lambda *_: die()
    return left


def around(function, action):
    """Return a function that does something before another one and after it."""

    def both(*arguments, **options):
        action()
        result = function(*arguments, **options)
        action()
        return result

    return both


def run_here(words: list[str]) -> int:
    """Run a command in this process; KILL says where it is to die."""
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import evaluate
    import train
    from dvae_tf import export

    kill = json.loads(os.environ["KILL"])
    left = kill_at(**kill) if kill else [0]
    name, *arguments = words
    status = {"train": train, "evaluate": evaluate, "export": export}[name].main(arguments)
    if kill and status == 0:
        print(kill["number"] - left[0])
    return status


def run(*words: str, kill: dict | None = None, cwd: Path) -> int:
    """Run a command in a process of its own; return its exit status, -9 if it was killed."""
    return start(*words, kill=kill, cwd=cwd).returncode


def start(*words: str, kill: dict | None = None, cwd: Path) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, __file__, "--here", *words],
        cwd=cwd,
        env=os.environ | {"KILL": json.dumps(kill or {})},
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, -signal.SIGKILL):
        print(done.stderr[-3000:], file=sys.stderr)
    return done


def num_moments(*words: str, cwd: Path) -> int:
    """Run a command, and return at how many moments before and after changes of the disk it may die."""
    done = start(*words, kill={"place": "disk", "number": 10**9, "delay": 0}, cwd=cwd)
    assert done.returncode == 0, words
    return int(done.stdout.splitlines()[-1])


def tree(directory: Path) -> dict[str, Any]:
    """Return all that lies in a directory; of files that are never alike only the names."""
    return {str(path.relative_to(directory)): content(path) for path in directory.rglob("*")}


def content(path: Path) -> Any:
    if path.is_dir() or path.name in UNSTEADY:
        return None
    if path.suffix == ".npz":  # its arrays may be in another order
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    return path.read_bytes()


def contents(run_dir: Path) -> dict[str, bytes]:
    """Return what must be equal: the weights in model.keras and the history."""
    import h5py

    arrays = {}
    with (
        zipfile.ZipFile(run_dir / "model.keras") as archive,
        archive.open("model.weights.h5") as file,
        h5py.File(file) as weights,
    ):
        weights.visititems(
            lambda name, item: (
                arrays.__setitem__(name, item[()].tobytes())
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return {**arrays, "history.csv": (run_dir / "history.csv").read_bytes()}


def check(directory: Path, kill: dict, expected: dict[str, bytes]) -> str | None:
    """Kill one run, resume it, and return what is wrong with the result."""
    if run("train", *RUN, "--run-dir", "run", kill=kill, cwd=directory) != -signal.SIGKILL:
        return "the run was not killed"
    if (directory / "run" / "export" / "1").exists():
        return "a killed run has an export"
    if run("train", "--resume", "run", cwd=directory) != 0:
        return "the run could not be resumed"
    found = contents(directory / "run")
    different = [name for name in expected if found.get(name) != expected[name]]
    if different or set(found) != set(expected):
        return f"{len(different)} of {len(expected)} parts differ, {different[:3]} among them"
    left = [path.name for path in (directory / "run").rglob(".unfinished-*")]
    if left or (directory / "run" / "checkpoints").exists():
        return f"the ended run still holds {left or 'checkpoints'}"
    return None


def difference(found: dict, expected: dict) -> str | None:
    """Return what is wrong with a tree, or None."""
    names = [name for name in {*found, *expected} if found.get(name, 0) != expected.get(name, 0)]
    return f"{len(names)} parts differ, {sorted(names)[:3]} among them" if names else None


def check_part(words: list[str], run_dir: Path, after: dict, number: int) -> str | None:
    """Kill a command that writes one part of a run, repeat it, and return what is wrong.

    Args:
        words: the command.
        run_dir: directory of the run.
        after: the tree of the run that the command has completed.
        number: the number of the moment at which the command dies.
    """
    before = tree(run_dir)
    kill = {"place": "disk", "number": number, "delay": 0}
    if run(*words, kill=kill, cwd=run_dir.parent) != -signal.SIGKILL:
        return "it was not killed"
    found = tree(run_dir)
    visible = {name: value for name, value in found.items() if not is_hidden(name)}
    is_between_renames = any(".aside-" in name for name in found)
    if visible not in (before, after) and not is_between_renames:
        return f"after the kill {difference(visible, before)}"
    is_done = visible == after
    if run(*words, cwd=run_dir.parent) not in ((0, 2) if is_done else (0,)):
        return "it could not be repeated"
    return difference(tree(run_dir), after)


def is_hidden(name: str) -> bool:
    """Return whether no reader looks at it; .measured.npz is what a killed evaluation goes on with."""
    hidden = (".unfinished-", ".aside-", ".measured.npz")
    return any(part.startswith(hidden) for part in Path(name).parts)


def check_parts(name: str, words: list[str], count: int, root: Path) -> int:
    """Kill exports or evaluations of the run in `root`; return how many went wrong."""
    if not count:
        return 0
    whole, copy = root / "run", root / name
    shutil.copytree(whole, copy / "run")
    moments = num_moments(*words, cwd=copy)
    after = tree(copy / "run")
    failures = 0
    for _ in range(count):
        shutil.rmtree(copy)
        shutil.copytree(whole, copy / "run")
        number = random.randint(1, moments)
        problem = check_part(words, copy / "run", after, number)
        failures += problem is not None
        print(f"{name}, moment {number} of {moments}: {problem or 'equal'}", flush=True)
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25, help="at random steps")
    parser.add_argument("--places", nargs="*", choices=PLACES, default=PLACES, help="one in each")
    parser.add_argument("--exports", type=int, default=2, help="kills of exports")
    parser.add_argument("--evaluations", type=int, default=2, help="kills of evaluations")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    kills = [
        {"place": "step", "number": random.randint(1, NUM_CALLS), "delay": random.random() / 20}
        for _ in range(options.kills)
    ]
    kills += [
        {"place": place, "number": random.randint(1, 3) if place == "checkpoint" else 1, "delay": 0}
        for place in options.places
    ]
    num_checks = len(kills) + options.exports + options.evaluations
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        assert run("train", *RUN, "--run-dir", "run", cwd=root) == 0, "the run to compare with"
        expected = contents(root / "run")
        for index, kill in enumerate(kills):
            started = time.monotonic()
            directory = root / str(index)
            directory.mkdir()
            problem = check(directory, kill, expected)
            failures += problem is not None
            print(
                f"{kill['place']} {kill['number']} after {1e3 * kill['delay']:.0f} ms: "
                f"{problem or 'equal'} ({time.monotonic() - started:.0f} s)",
                flush=True,
            )
            shutil.rmtree(directory)
        failures += check_parts(
            "export", ["export", "run", "--version", "2"], options.exports, root
        )
        if options.evaluations:
            assert run("evaluate", "run", *EVALUATION, cwd=root) == 0, "the one to replace"
        words = ["evaluate", "run", *EVALUATION, "--seed", "1"]
        failures += check_parts("evaluation", words, options.evaluations, root)
    print(f"{num_checks - failures} of {num_checks} equal")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(run_here(sys.argv[2:]) if sys.argv[1:2] == ["--here"] else main())
