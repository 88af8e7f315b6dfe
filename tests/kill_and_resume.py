"""Kill training runs at random moments with SIGKILL, resume each, and compare with one never stopped.

    python tests/kill_and_resume.py --kills 25

A run is stopped after a random number of calls of several steps and a random delay, or within a
checkpoint, an export or an evaluation, and then resumed until it ends. Weights and history must be
equal bit for bit. The exit status is 1 if one is not.
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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# 120 steps an epoch in calls of 60, a checkpoint after each of them.
RUN = shlex.split(
    "--limit 480 --batch-size 4 --epochs 3 --hidden 16 --latent-dim 3 --kl-warmup 2 --patience 2 "
    "--noise-level 0.1:0.3 --checkpoint-seconds 0"
)
NUM_CALLS = 6
PLACES = ("checkpoint", "model", "figures", "export", "evaluation")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(place: str, number: int, delay: float) -> None:
    """Have this process die at the `number`-th time that it comes to a place."""
    from dvae_tf import files
    from dvae_tf.runs import callbacks, outcome
    from dvae_tf.serving import export

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
        return

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
        export._complete = lambda *_: die()
    if place == "evaluation":
        files.sync_tree = lambda path: die() if path.name.endswith("evaluation") else None


def run_here(words: list[str]) -> int:
    """Run train.py, or evaluate.py, in this process; KILL says where it is to die."""
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if os.environ.get("KILL"):
        kill_at(**json.loads(os.environ["KILL"]))
    import evaluate
    import train

    name, *arguments = words
    return {"train": train, "evaluate": evaluate}[name].main(arguments)


def run(*words: str, kill: dict | None = None, cwd: Path) -> int:
    """Run a command in a process of its own; return its exit status, -9 if it was killed."""
    environment = os.environ | {"KILL": json.dumps(kill) if kill else ""}
    done = subprocess.run(
        [sys.executable, __file__, "--here", *words],
        cwd=cwd,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode not in (0, -signal.SIGKILL):
        print(done.stderr[-3000:], file=sys.stderr)
    return done.returncode


def contents(run_dir: Path) -> dict[str, bytes]:
    """Return what must be equal: the weights in model.keras and the history."""
    import zipfile

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


def check_evaluation(run_dir: Path) -> str | None:
    """Kill an evaluation, and return what is wrong with the one before it or the one after."""
    words = ["evaluate", run_dir.name, "--num-importance-samples", "10", "--limit", "20"]
    if run(*words, cwd=run_dir.parent) != 0:
        return "the run could not be evaluated"
    before = (run_dir / "evaluation" / "metrics.json").read_bytes()
    kill = {"place": "evaluation", "number": 1, "delay": 0}
    if run(*words, "--seed", "1", kill=kill, cwd=run_dir.parent) != -signal.SIGKILL:
        return "the evaluation was not killed"
    if (run_dir / "evaluation" / "metrics.json").read_bytes() != before:
        return "a killed evaluation has changed the one before it"
    if run(*words, cwd=run_dir.parent) != 0:
        return "the run could not be evaluated again"
    if (run_dir / "evaluation" / "metrics.json").read_bytes() != before:
        return "another evaluation gives other numbers"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25, help="at random steps")
    parser.add_argument("--places", nargs="*", choices=PLACES, default=PLACES, help="one in each")
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
        if place != "evaluation"
    ]
    num_checks = len(kills) + ("evaluation" in options.places)
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
        if "evaluation" in options.places:
            problem = check_evaluation(root / "run")
            failures += problem is not None
            print(f"evaluation: {problem or 'equal'}")
    print(f"{num_checks - failures} of {num_checks} equal")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(run_here(sys.argv[2:]) if sys.argv[1:2] == ["--here"] else main())
