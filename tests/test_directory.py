"""Run directories: who may work on them, what is left in them, and what their files may hold."""

import json
import os
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT

import evaluate
import train
from dvae_tf import datasets, export, files
from dvae_tf.runs import defaults
from dvae_tf.runs.configuration import ConfigurationError
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.options import Options

COMMANDS = {
    "train.py --resume": (train.main, ["--resume"]),
    "evaluate.py": (evaluate.main, []),
    "python -m dvae_tf.export": (export.main, []),
}

# Another process that works on a run. It reads the module alone, because TensorFlow is slow.
HOLDER = """
import runpy, sys, time
from pathlib import Path
lock = runpy.run_path("dvae_tf/runs/lock.py")["Lock"]
locks = [lock(Path(sys.argv[1], name)) for name in ("config.json", "")]
print(*[lock.acquire() for lock in locks], flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def create(digits, run_dir=None):
    config = defaults.resolve(Options(run_dir=run_dir and str(run_dir)))
    return RunDirectory.create(config, digits, "noise")


@pytest.fixture
def directory(digits, tmp_path):
    """A run that has just begun."""
    return create(digits, tmp_path / "run")


def snapshot(path):
    return {p: p.read_bytes() if p.is_file() else None for p in path.rglob("*")}


def test_another_process_keeps_commands_out_until_it_is_killed(directory, capsys):
    before = snapshot(directory.path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, directory.path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "True True\n"
        for name, (main, words) in COMMANDS.items():
            assert main([*words, str(directory)]) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith(f"{name.split(' --')[0]}: error: {directory} must not be in use")
        assert snapshot(directory.path) == before
        holder.kill()
    with directory.locked(), RunDirectory(directory.path).locked(only_results=True):
        assert snapshot(directory.path) == before


def test_a_run_can_be_evaluated_while_it_trains(directory, capsys):
    trains, evaluates = (RunDirectory(directory.path) for _ in range(2))
    half = [
        directory.path / f".unfinished-{10**30}-{name}" for name in ("model.keras", "evaluation")
    ]
    with trains.locked():
        for path in half:
            path.write_text("half", encoding="utf-8")
        with evaluates.locked(only_results=True):
            assert [path.exists() for path in half] == [True, False]
            with pytest.raises(ConfigurationError, match="is evaluating or exporting"):
                RunDirectory(directory.path).lock(only_results=True)
        assert evaluate.main([str(directory)]) == 2
        assert "must hold model.keras" in capsys.readouterr().err


def test_a_lock_ends_with_its_block_or_its_owner(directory):
    others = [RunDirectory(directory.path) for _ in range(3)]
    with others[0].locked(), pytest.raises(ConfigurationError, match="must not be in use"):
        others[1].lock()
    others.pop(1).lock()  # and is forgotten
    with others[-1].locked():
        pass
    others[-1].unlock()  # once more does no harm


def test_who_locks_a_run_sweeps_it(directory):
    before = snapshot(directory.path)
    for part in ("", "checkpoints", "export", "figures", "evaluation"):
        place = directory.path / part
        place.mkdir(exist_ok=True)
        before[place] = None
        (place / f".unfinished-{10**30}-a").mkdir()
        (place / f".unfinished-{10**30}-b").write_text("half", encoding="utf-8")
    del before[directory.path]
    with directory.locked(), RunDirectory(directory.path).locked(only_results=True):
        assert snapshot(directory.path) == before


def test_commands_give_the_lock_back(directory, capsys):
    """They fail here for want of a model; two paths of one run are one lock."""
    for name, expected in (
        ("evaluate.py", "must hold model.keras"),
        ("python -m dvae_tf.export", "must be the history"),
        ("train.py --resume", "all are damaged"),
    ):
        if "train" in name:
            (directory.path / "checkpoints").mkdir()
            (directory.path / "checkpoints" / "step-000000000000.ckpt").write_text(
                "cut", encoding="utf-8"
            )
        main, words = COMMANDS[name]
        assert main([*words, str(directory)]) == 2
        assert expected in capsys.readouterr().err
        with directory.locked(), RunDirectory(directory.path).locked(only_results=True):
            pass
    also = directory.path.parent / ".." / directory.path.parent.name / "run"
    assert evaluate.main([str(directory), str(also)]) == 2
    assert "must hold model.keras" in capsys.readouterr().err


def test_of_two_runs_begun_at_once_the_second_takes_the_next_number(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    appearing = files.appearing

    def overtaken(path):
        """Another run has the name by the time that this one is renamed."""
        if path.name in ("digits-salt_pepper-1", "mine"):
            path.mkdir()
            (path / "config.json").write_text("other", encoding="utf-8")
        return appearing(path)

    monkeypatch.setattr(files, "appearing", overtaken)
    assert str(create(digits)) == "runs/digits-salt_pepper-2"
    assert sorted(os.listdir("runs")) == ["digits-salt_pepper-1", "digits-salt_pepper-2"]
    with pytest.raises(ConfigurationError, match=r"must not exist yet. Received: mine. .*--resume"):
        create(digits, "mine")
    for name in ("runs/digits-salt_pepper-1", "mine"):
        assert (tmp_path / name / "config.json").read_text(encoding="utf-8") == "other"


def test_the_next_number_is_one_more_than_the_highest(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("digits-salt_pepper-9", "digits-salt_pepper-10", "digits-gaussian-40"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert str(create(digits)) == "runs/digits-salt_pepper-11"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"versions": ["2.21"]}, r"`versions` must hold .*\['2.21'\]"),
        ({"versions": {"keras": 3}}, r"`versions` must hold .*\{'keras': 3\}"),
        ({"configuration": []}, "must be a run directory with a config.json"),
    ],
)
def test_a_config_of_other_types_is_refused(change, message, directory):
    path = directory.path / "config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8"
    )
    with pytest.raises(ConfigurationError, match=message):
        directory.read_config()


def test_a_config_that_is_too_deep_is_refused(directory):
    (directory.path / "config.json").write_text("[" * 10**6, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"must be a run directory with a config\.json"):
        directory.read_config()


def test_a_run_whose_name_is_not_utf8_is_refused(directory):
    path = directory.path.rename(os.fsdecode(bytes(directory.path) + b"\xe9"))
    with pytest.raises(ConfigurationError, match=r"name in UTF-8.*run\\udce9'. Rename it."):
        RunDirectory(path).read_config()


@pytest.mark.slow
def test_of_two_processes_that_resume_one_run_one_does(tmp_path):
    words = shlex.split("--limit 200 --hidden 8 --latent-dim 2 --epochs 300 --checkpoint-seconds 0")
    run = [sys.executable, str(ROOT / "train.py")]
    first = subprocess.Popen([*run, *words, "--run-dir", "run"], cwd=tmp_path)
    while len(list(tmp_path.glob("run/checkpoints/*.ckpt"))) < 3:
        assert first.poll() is None
    first.kill()
    first.wait()
    pair = [
        subprocess.Popen([*run, "--resume", "run"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate()[1] for process in pair]
    assert sorted(process.returncode for process in pair) == [0, 2]
    assert sum("must not be in use" in text for text in errors) == 1
    rows = (tmp_path / "run" / "history.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", *map(str, range(300))]
