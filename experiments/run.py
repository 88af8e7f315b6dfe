"""Train and measure the experiments' runs.

Each run calls the functions of train.py in a process of its own, on its share of the cores. It leaves a
run directory below --runs, and its numbers in the tables RESULTS/EXPERIMENT.*. Runs whose numbers are
there already are skipped; runs that were stopped are resumed.
"""

import argparse
import concurrent.futures
import dataclasses
import fcntl
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from dvae_tf import commands, datasets
from dvae_tf.runs import configuration, defaults, training
from dvae_tf.runs.configuration import Configuration, ConfigurationError
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.options import Options
from experiments import archive, trials
from experiments.parser import Parser

ROOT = Path(__file__).resolve().parents[1]


def is_done(trial: trials.Trial, results: Path) -> bool:
    """Whether the numbers of a trial are there, and belong to the trial as it is declared now.

    Raises:
        ValueError: if the table is damaged.
    """
    recorded = archive.settings_of(results, trial.cell.experiment).get(trial.label)
    if recorded is None:
        return False
    # A trial made before there was some flag or measure has its default, and is of images.
    recorded = _settings(Options(kind="image"), trials.Measure()) | recorded
    return declaration(trial).items() <= recorded.items()


def resolved(trial: trials.Trial) -> Configuration:
    """Return a trial's configuration with every default filled in."""
    return defaults.resolve(Options(**trial.flags))


def declaration(trial: trials.Trial) -> archive.Settings:
    """Return a trial's settings without its seed; a changed default makes it another trial."""
    settings = _settings(resolved(trial), trial.cell.measure)
    return {"with_kl": trial.cell.with_kl} | settings


def _settings(config: Options, measure: trials.Measure) -> archive.Settings:
    """Return settings as JSON values, named `configuration.KEY` and `measure.KEY`."""
    found = {f"configuration.{k}": v for k, v in configuration.to_dict(config).items()}
    del found["configuration.seed"]  # in the trial's name
    for name, value in _NEWER.items():
        if found[f"configuration.{name}"] == value:
            del found[f"configuration.{name}"]
    found |= {f"measure.{k}": v for k, v in dataclasses.asdict(measure).items()}
    return json.loads(json.dumps(found))


# Options that came after the first results, with the values that these had.
_NEWER = {
    "init_from": None,
    "clean": None,
    "patch": None,
    "augment": False,
    "range": None,
    "observation": None,
    "conditional": False,
    "optimizer": "adam",
}


def train_and_measure(
    trial: trials.Trial, run_dir: Path, results: Path, data_dir: str | None
) -> None:
    """Train a trial in this process, or finish it, and write its numbers.

    Raises:
        ConfigurationError: if the run directory belongs to another trial.
    """
    from experiments.measure import measure

    config = dataclasses.replace(resolved(trial), run_dir=str(run_dir), data_dir=data_dir)
    if (run_dir / "config.json").exists():
        saved, _ = RunDirectory(run_dir).read_config()
        saved = dataclasses.replace(saved, run_dir=config.run_dir, data_dir=data_dir)
        if saved != config:
            raise ConfigurationError(
                f"--runs must hold runs as they are declared. Received: {run_dir}, of other flags. "
                "Remove it."
            )
        # The last weights of a run that has ended are gone with its checkpoints.
        if trial.cell.measure.last and not any((run_dir / "checkpoints").glob("*.ckpt")):
            shutil.rmtree(run_dir)
        else:
            config = dataclasses.replace(config, resume=str(run_dir))
    prepared = training.prepare(config)
    if not trial.cell.with_kl:
        prepared.model.kl_weight.assign(0.0)
    training.train(prepared, verbose=2)
    versions = prepared.directory.read_config()[1]["versions"]
    settings = declaration(trial) | {f"versions.{k}": v for k, v in versions.items()}
    rows = measure(trial.cell, prepared)
    archive.record(results, trial.cell.experiment, trial.label, settings, rows)
    prepared.directory.remove_checkpoints()


def shares(jobs: int) -> list[list[int]]:
    """Return the cores of each of `jobs` runs that go on at a time."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = sorted(os.sched_getaffinity(0)) if has_affinity else range(os.cpu_count() or 1)
    size = max(len(cores) // jobs, 1)
    return [[cores[(job * size + i) % len(cores)] for i in range(size)] for job in range(jobs)]


def main(arguments: list[str] | None = None) -> int:
    """Run what is not done yet; return 0, 1 after a failed run, 2 for a usage error, 130 if stopped."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "experiments", nargs="*", help=", ".join(trials.EXPERIMENTS) + " [default: all]"
    )
    parser.add_argument("--quick", action="store_true", help="run a reduced version, in minutes")
    parser.add_argument(
        "--runs", type=Path, help="run directories [default: runs/experiments, or runs/quick]"
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="tables [default: those of the repository, or runs/quick/results]",
    )
    parser.add_argument("--data-dir", help="directory of TensorFlow Datasets")
    parser.add_argument("--jobs", type=int, help="runs at a time [default: one for each core]")
    parser.add_argument("--list", action="store_true", help="list what is done and what is to do")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        selected = trials.select(options.experiments, quick=options.quick)
    except ValueError as error:
        parser.error(str(error))
    if options.jobs is not None and options.jobs < 1:
        parser.error(f"--jobs must be at least 1. Received: {options.jobs}.")
    base = options.runs or Path("runs/quick" if options.quick else "runs/experiments")
    results = options.results or (Path("runs/quick/results") if options.quick else ROOT / "results")
    if options.one:
        if options.cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, options.cores)
        (trial,) = [trial for trial in selected if trial.name == options.one]
        (base / trial.cell.experiment).mkdir(parents=True, exist_ok=True)
        lock = (base / f"{trial.name}.lock").open("w", encoding="utf-8")
        fcntl.flock(lock, fcntl.LOCK_EX)  # what an earlier runner has left running ends first
        if is_done(trial, results):
            return 0
        train_and_measure(trial, base / trial.name, results, options.data_dir)
        return 0

    try:
        for name in sorted({trial.cell.experiment for trial in selected}):
            archive.read(results, name)  # that it can be written to is known before training
        waiting = [trial for trial in selected if not is_done(trial, results)]
    except ValueError as error:
        parser.error(commands.one_line(error))
    except OSError as error:
        parser.error(f"--results must be readable. Received: {error}. Change its permissions.")
    print(f"{len(selected)} runs, {len(waiting)} to do", flush=True)
    if options.list:
        try:
            for trial in selected:
                command = trial.command or "without a KL term, which no command has"
                print(f"{'to do' if trial in waiting else 'done '}  {trial.name}: {command}")
            sys.stdout.flush()
        except BrokenPipeError:  # of `| head`; what is still to be written goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if not waiting:
        return 0
    try:  # known now, rather than after hours
        for directory in (base, results):
            directory.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        parser.error(
            "--runs and --results must be directories that can be written to. "
            f"Received: {error}. Choose others."
        )
    try:  # once, before several processes at a time would prepare the same data
        for name in sorted({resolved(trial).dataset for trial in waiting}):
            datasets.load(name, data_dir=options.data_dir)
    except (ValueError, OSError) as error:
        parser.error(commands.one_line(error))
    words = [sys.executable, "-m", "experiments.run", *options.experiments]
    words += ["--runs", str(base.resolve()), "--results", str(results.resolve())]
    words += ["--quick"] if options.quick else []
    words += ["--data-dir", str(Path(options.data_dir).resolve())] if options.data_dir else []
    shares_left: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    jobs = options.jobs or len(shares(1)[0])
    for cores in shares(jobs):
        shares_left.put(cores)

    def start(trial: trials.Trial) -> bool:
        cores = shares_left.get()
        log = base / f"{trial.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("a", encoding="utf-8") as file:
                command = [*words, "--one", trial.name, "--cores", *map(str, cores)]
                done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
        finally:
            shares_left.put(cores)
        print(f"{trial.name}: " + (f"failed, see {log}" if done.returncode else "done"), flush=True)
        return done.returncode == 0

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            return 0 if all(list(pool.map(start, waiting))) else 1
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            print("stopped: the same command continues", file=sys.stderr)
            return 130


if __name__ == "__main__":
    sys.exit(main())
