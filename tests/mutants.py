"""Run the tests on copies of the package with one mistake each: `python tests/mutants.py --help`.

mutants.txt lists the mistakes. Each works on a copy of the repository in a temporary directory. The
test files that mirror the module run first; a mutant that they miss meets the other tests that are not
slow, and with --slow these too. A mutant is killed when a test fails, a test file cannot be imported, or
the time limit of a stage runs out. The exit status is 0 if enough are killed (see `REQUIRED`), else 1.

This process imports the large libraries once and runs none of their code. Each mutant gets a fork of it.
"""

import argparse
import contextlib
import fnmatch
import importlib
import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_name("mutants.txt")
# The shares that must be killed by the tests that are not slow, and by all.
REQUIRED = {"fast": 0.90, "slow": 0.97}

# Where files begin with this -> the tests that probably see a mistake there, `tests/test_NAME.py`.
LIKELY = {
    "dvae_tf/bounds.py": ("bounds", "model", "model_bounds", "likelihood"),
    "dvae_tf/randomness.py": ("randomness", "corruptions"),
    "dvae_tf/latents.py": ("latents", "layers", "likelihood"),
    "dvae_tf/densities.py": ("model_bounds", "likelihood", "model", "latents", "signatures"),
    "dvae_tf/model.py": (
        *("model", "model_bounds", "state", "model_steps", "model_phases", "model_precision"),
        *("compatibility", "kinds", "fields"),
    ),
    "dvae_tf/generative_model.py": ("model", "model_bounds", "likelihood", "ladder"),
    "dvae_tf/denoised.py": ("model", "ladder", "serving_any_size"),
    "dvae_tf/fit_arguments.py": ("model", "compatibility"),
    "dvae_tf/keras_model.py": ("model", "state", "compatibility"),
    "dvae_tf/layers/": ("layers", "discretized_logistic", "latents", "model_precision"),
    "dvae_tf/likelihoods/": ("likelihoods", "networks", "configuration", "metrics_json"),
    "dvae_tf/priors/": ("priors", "latents", "figures"),
    "dvae_tf/corruptions/": ("corruptions", "properties"),
    "dvae_tf/observations/": ("observations", "layers"),
    "dvae_tf/networks/": ("networks", "model_precision", "ladder"),
    "dvae_tf/evidence/": ("likelihood", "priors", "latents"),
    "dvae_tf/data": ("datasets", "splits", "images", "patches", "properties", "fields"),
    "dvae_tf/streamed.py": ("streamed", "datasets", "images"),
    "dvae_tf/files.py": ("files", "faults"),
    "dvae_tf/nests.py": ("latents", "model_bounds", "kinds"),
    "dvae_tf/kinds/kind.py": ("kinds",),
    "dvae_tf/kinds/image/": (
        *("pixels", "images", "measures", "baselines", "figures", "datasets", "callbacks"),
        *("image_files", "png", "intervals", "spectrum"),
    ),
    "dvae_tf/figures.py": ("figures",),
    "dvae_tf/runs/": (
        *("configuration", "checkpoints", "history", "callbacks", "directory", "outcome", "state"),
        *("resuming", "fields", "old_runs", "kinds", "train"),
    ),
    "dvae_tf/evaluation/": ("evaluation", "attacks", "metrics_json", "evaluate"),
    "dvae_tf/serving/": (
        *("signatures", "purity", "model_card", "export", "serve", "serve_limits", "serve_page"),
    ),
    "serving/": ("check", "serve", "serving_loaders", "export"),
    "dvae_tf/denoising/": ("denoise",),
    "train.py": ("configuration", "fields", "train"),
    "evaluate.py": ("kinds", "metrics_json", "evaluate"),
}

# What tests import and what takes long to import.
_LIBRARIES = (
    *("tensorflow", "keras", "tensorflow_probability.python.distributions", "hypothesis", "pytest"),
    *("scipy.stats", "sklearn.linear_model", "sklearn.neighbors", "sklearn.datasets"),
    *("skimage.metrics", "skimage.restoration", "skimage.morphology", "skimage.filters"),
    *("matplotlib.figure", "pydantic", "cyclopts", "jinja2", "PIL.Image"),
)


class Mutant(NamedTuple):
    """A mistake: `old` becomes `new` in a file, and the value named by `wrong` is silently wrong."""

    name: str
    file: str
    old: str
    new: str
    wrong: str

    def apply(self, root: Path) -> str:
        """Return the file's text with the mistake.

        Raises:
            ValueError: if `old` does not occur exactly once.
            SyntaxError: if the text with the mistake does not compile.
        """
        text = (root / self.file).read_text(encoding="utf-8")
        count = text.count(self.old)
        if count != 1:
            raise ValueError(
                f"{self.name}: the text taken out must occur once in {self.file}. Received: {count} "
                f"times {self.old!r}. Correct the entry in {LIST.name}."
            )
        text = text.replace(self.old, self.new)
        compile(text, self.file, "exec")
        return text

    def likely_tests(self) -> list[str]:
        """Return the test files to run first."""
        names = next((names for start, names in LIKELY.items() if self.file.startswith(start)), ())
        own = Path(self.file).stem
        mirrored = [own] if (ROOT / f"tests/test_{own}.py").exists() else []
        return [f"tests/test_{name}.py" for name in dict.fromkeys([*mirrored, *names])]


def read(path: Path = LIST) -> list[Mutant]:
    """Return the mutants in the list, whose first lines explain its form."""
    found = []
    for entry in path.read_text(encoding="utf-8").split("\n# ")[1:]:
        name, file, *lines = entry.rstrip("\n").split("\n")
        parts = {
            mark: "\n".join(line[2:] for line in lines if line.startswith(mark)) for mark in "-+!"
        }
        if not all(line == "" or line[0] in parts for line in lines):
            raise ValueError(f"{name}: lines must begin with -, + or !. Received: {lines}.")
        found.append(Mutant(name, file, parts["-"], parts["+"], parts["!"]))
    return found


class _FirstFailure:
    """A plugin of pytest that writes down the first test, or file, that fails."""

    def __init__(self, path: Path):
        self._path = path

    def pytest_configure(self, config):
        # Without shrinking: any failure will do.
        import hypothesis

        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutants", hypothesis.settings(), phases=phases)
        hypothesis.settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report):
        self._note(report)

    def pytest_collectreport(self, report):
        self._note(report)

    def _note(self, report) -> None:
        if report.failed and not self._path.exists():
            self._path.write_text(report.nodeid or "the collection of tests", encoding="utf-8")


def _run_tests(place: Path, arguments: list[str]) -> None:
    """Run pytest in a fork of this process, on the copy in `place`."""
    os.setsid()  # so that processes that tests start end with it
    with open(place / "output.txt", "a", encoding="utf-8") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.chdir(place / "copy")
    sys.path[:] = [path for path in sys.path if Path(path).resolve() not in (ROOT, ROOT / "tests")]
    sys.argv[:] = ["pytest"]
    import pytest

    base = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--basetemp", str(place / "tmp")]
    base += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    status = pytest.main([*base, *arguments], plugins=[_FirstFailure(place / "failed.txt")])
    sys.stdout.flush()
    os._exit(status)


class _Trial:
    """A mutant on its way through the stages: likely tests, other fast tests, slow tests."""

    def __init__(self, mutant: Mutant | None, place: Path, stages: list[str], seconds: float):
        self.mutant, self.place, self.seconds = mutant, place, seconds
        self.started = time.monotonic()
        self.killed_by = ""
        self.stage = ""
        self._stages = list(stages)
        place.mkdir()
        for file in _tracked():
            (place / "copy" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, place / "copy" / file)
        if mutant is not None:
            text = mutant.apply(ROOT)
            (place / "copy" / mutant.file).write_text(text, encoding="utf-8")
        self.process = self._next_stage()

    def _next_stage(self):
        self.stage = self._stages.pop(0)
        every = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests").glob("test_*.py"))
        likely = self.mutant.likely_tests() if self.mutant else []
        arguments = {
            "likely": ["-m", "not slow", *likely],
            "fast": ["-m", "not slow", *(file for file in every if file not in likely)],
            "slow": ["-m", "slow", *likely, *(file for file in every if file not in likely)],
        }[self.stage]
        self._deadline = time.monotonic() + self.seconds
        process = multiprocessing.get_context("fork").Process(
            target=_run_tests, args=(self.place, arguments)
        )
        process.start()
        return process

    def is_over(self) -> bool:
        """Return whether the trial has ended; begin the next stage where one has."""
        if self.process.is_alive() and time.monotonic() < self._deadline:
            return False
        failed, status = self.place / "failed.txt", self.process.exitcode
        if status is None:
            self.killed_by = f"the time limit ({self.stage})"
        elif failed.exists():
            self.killed_by = failed.read_text(encoding="utf-8")
        elif status < 0:
            self.killed_by = f"signal {-status} ({self.stage})"
        elif status not in (0, 5):  # 5: no tests
            output = (self.place / "output.txt").read_text(errors="replace", encoding="utf-8")
            raise RuntimeError(f"pytest could not run, status {status}:\n{output[-3000:]}")
        self.end()
        if self.killed_by or not self._stages:
            return True
        self.process = self._next_stage()
        return False

    def end(self) -> None:
        """End the tests and every process that they have started."""
        self.process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()


def _tracked() -> list[str]:
    """Return the files of the repository, with those that are new and not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    return [file for file in found.decode().split("\0") if file and (ROOT / file).is_file()]


def _import_libraries() -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)
    from tensorflow.python.eager import context

    assert context.context()._context_handle is None, "a fork needs TensorFlow before it has begun"
    assert "dvae_tf" not in sys.modules
    # Tests find the data of record beside the repository; the copies lie elsewhere.
    data = ROOT.parent / "shared" / "tensorflow_datasets"
    if data.is_dir():
        os.environ.setdefault("TFDS_DATA_DIR", str(data))


def run(
    mutants: list[Mutant | None], stages: list[str], *, jobs: int, seconds: float
) -> list[dict]:
    """Try mutants, print a line for each, and return these results; None stands for no mistake."""
    waiting, running, results = list(mutants), [], []
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    mutant = waiting.pop(0)
                    place = Path(temporary) / (mutant.name if mutant else "unchanged")
                    running.append(_Trial(mutant, place, stages, seconds))
                multiprocessing.connection.wait([t.process.sentinel for t in running], timeout=1)
                for trial in [trial for trial in running if trial.is_over()]:
                    running.remove(trial)
                    results.append(_result(trial))
                    shutil.rmtree(trial.place)
        finally:
            for trial in running:
                trial.end()
    return results


def _result(trial: _Trial) -> dict:
    name = trial.mutant.name if trial.mutant else "unchanged"
    seconds = time.monotonic() - trial.started
    outcome = f"killed by {trial.killed_by}" if trial.killed_by else "SURVIVED"
    print(f"{name:36} {seconds:5.0f} s  {outcome}", flush=True)
    if not trial.mutant:
        print(
            (trial.place / "output.txt").read_text(errors="replace", encoding="utf-8")[-2000:],
            flush=True,
        )
    return {
        "name": name,
        "file": trial.mutant.file if trial.mutant else "",
        "wrong": trial.mutant.wrong if trial.mutant else "",
        "killed_by": trial.killed_by or None,
        "stage": trial.stage,
        "seconds": round(seconds, 1),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description="Run the tests on mutants of the package.")
    parser.add_argument(
        "--only", metavar="PATTERN", nargs="+", default=["*"], help="names of mutants: bounds-*"
    )
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument("--likely", action="store_true", help="only the tests of likely files")
    parser.add_argument("--slow", action="store_true", help="survivors meet the slow tests, too")
    parser.add_argument("--control", action="store_true", help="try the unchanged package first")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="file for the results")
    parser.add_argument(
        "--seconds", type=float, default=3600, help="limit for one stage of one mutant"
    )
    given = parser.parse_args(arguments)
    chosen = [m for m in read() if any(fnmatch.fnmatch(m.name, p) for p in given.only)]
    for mutant in chosen:
        mutant.apply(ROOT)  # raises before any test runs
    if not chosen:
        parser.error(f"--only must match a name in {LIST.name}. Received: {given.only}.")
    stages = ["likely"] if given.likely else ["likely", "fast"]
    stages += ["slow"] if given.slow else []
    _import_libraries()
    if given.control:
        control = run([None], [s for s in stages if s != "likely"], jobs=1, seconds=given.seconds)
        if control[0]["killed_by"]:
            print("the unchanged package fails its tests", file=sys.stderr)
            return 1
    results = run([*chosen], stages, jobs=given.jobs, seconds=given.seconds)
    survivors = [result for result in results if result["killed_by"] is None]
    for result in survivors:
        print(f"survived: {result['name']} ({result['file']}): {result['wrong']}")
    share = 1 - len(survivors) / len(results)
    print(f"killed {len(results) - len(survivors)} of {len(results)}: {share:.1%}")
    if given.report:
        given.report.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if share >= REQUIRED[stages[-1] if stages[-1] == "slow" else "fast"] else 1


if __name__ == "__main__":
    sys.exit(main())
