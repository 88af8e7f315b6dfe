import os
import subprocess
import sys

import pytest

from dvae_tf import files


def _write_half(target):
    with files.appearing(target) as unfinished:
        unfinished.write_text("half")
        raise OSError("No space left on device")


def test_a_failure_leaves_what_was_there(tmp_path):
    target = tmp_path / "config.json"
    files.write(target, "old")
    with pytest.raises(OSError, match="No space left"):
        _write_half(target)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["config.json"]
    files.write(target, b"new")
    assert target.read_bytes() == b"new"


def test_directories_appear_once_and_are_replaced(tmp_path):
    target = tmp_path / "evaluation"
    for content in ("first", "second"):
        with files.replacing(target) as unfinished:
            (unfinished / "metrics.json").write_text(content)
        assert (target / "metrics.json").read_text() == content
        assert os.listdir(tmp_path) == ["evaluation"]
    with pytest.raises(OSError, match="not empty"), files.appearing(target) as unfinished:
        unfinished.mkdir()
    assert (target / "metrics.json").read_text() == "second"


KILLED = """
import os, signal, sys
from pathlib import Path
from dvae_tf import files
target = Path(sys.argv[1])
if sys.argv[2] == "between renames":
    replace = Path.replace
    Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with files.replacing(target) as unfinished:
    (unfinished / "metrics.json").write_text("second")
    if sys.argv[2] == "writing":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["writing", "between renames"])
def test_nothing_is_lost_when_a_process_is_killed(when, tmp_path):
    target = tmp_path / "evaluation"
    target.mkdir()
    (target / "metrics.json").write_text("first")
    subprocess.run(
        [sys.executable, "-c", KILLED, target, when], cwd=os.path.dirname(__file__) + "/.."
    )
    assert len(os.listdir(tmp_path)) == 2
    with pytest.raises(RuntimeError), files.replacing(target):
        raise RuntimeError
    assert (target / "metrics.json").read_text() == "first"
    files.sweep(tmp_path)
    assert os.listdir(tmp_path) == ["evaluation"]


def test_sweeps_only_what_no_other_process_writes(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    # The last process with our number wrote in an earlier life of this container.
    for number in (os.getppid(), ended.pid, os.getpid(), 10**30, "odd"):
        (tmp_path / f".unfinished-{number}-a").mkdir()
    for name in ("b", ".aside-b", ".aside-c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
    files.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f".unfinished-{os.getppid()}-a",
        "b",
        "c",
    }
    assert (tmp_path / "b" / "name").read_text() == "b"
    assert (tmp_path / "c" / "name").read_text() == ".aside-c"
