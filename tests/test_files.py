import ast
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import PIL.Image
import pytest
from conftest import ROOT

import train
from dvae_tf import commands, datasets, files


def _write_half(target):
    with files.appearing(target) as unfinished:
        unfinished.write_text("half", encoding="utf-8")
        raise OSError("No space left on device")


def test_a_failure_leaves_what_was_there(tmp_path):
    target = tmp_path / "config.json"
    files.write(target, "old")
    with pytest.raises(OSError, match="No space left"):
        _write_half(target)
    assert target.read_text(encoding="utf-8") == "old"
    assert os.listdir(tmp_path) == ["config.json"]
    files.write(target, b"new")
    assert target.read_bytes() == b"new"


def test_directories_appear_once_and_are_replaced(tmp_path):
    target = tmp_path / "evaluation"
    for content in ("first", "second"):
        with files.replacing(target) as unfinished:
            (unfinished / "metrics.json").write_text(content, encoding="utf-8")
        assert (target / "metrics.json").read_text(encoding="utf-8") == content
        assert os.listdir(tmp_path) == ["evaluation"]
    with pytest.raises(OSError, match="not empty"), files.appearing(target) as unfinished:
        unfinished.mkdir()
    assert (target / "metrics.json").read_text(encoding="utf-8") == "second"


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
    (target / "metrics.json").write_text("first", encoding="utf-8")
    subprocess.run(
        [sys.executable, "-c", KILLED, target, when], cwd=os.path.dirname(__file__) + "/.."
    )
    assert len(os.listdir(tmp_path)) == 2
    with pytest.raises(RuntimeError), files.replacing(target):
        raise RuntimeError
    assert (target / "metrics.json").read_text(encoding="utf-8") == "first"
    files.sweep(tmp_path)
    assert os.listdir(tmp_path) == ["evaluation"]


def test_names_cannot_command_a_terminal(tmp_path, capsys):
    """ESC, BEL, the one-byte CSI, and the mark that turns a line round."""
    path = tmp_path / "x\x1b[2J\u202e.npz"
    np.savez(path, **{"pic\x07\x9btures": np.zeros(3)})
    assert train.main(["--dataset", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    assert r"x\x1b[2J\u202e.npz must hold" in line
    assert r"Received: pic\x07\x9btures." in line
    assert train.main(["--\x1b[2J"]) == 2
    assert r"--\x1b[2J" in capsys.readouterr().err
    assert files.printable("größe 😀 \\x1b") == "größe 😀 \\x1b"


def test_names_that_are_not_utf_8(tmp_path):
    """Whatever is written of a data set can be encoded: figures, the report, the model card."""
    path = tmp_path / os.fsdecode(b"caf\xe9.npy")
    np.save(path, np.zeros((5, 2, 2)))
    assert datasets.load(str(path)).name == r"caf\udce9"


@pytest.mark.filterwarnings("default")
def test_warnings_of_commands_are_one_line(capsys):
    app = commands.app("x.py", "Warns.")

    @app.default
    def _warn() -> int:
        warnings.warn("one\n  line\x1b", stacklevel=1)
        return 3

    assert commands.run(app, []) == 3
    assert capsys.readouterr().err == "warning: one line\\x1b\n"


@pytest.mark.filterwarnings("default::UserWarning")
def test_warnings_of_training_are_one_line(tmp_path, capsys):
    for index in range(3):
        PIL.Image.new("L", (4, 4)).save(tmp_path / f"{index}.png")
    (tmp_path / "notes.txt").touch()
    words = ["--dataset", str(tmp_path), "--network", "mlp", "--hidden", "2", "--latent-dim", "2"]
    assert train.main([*words, "--run-dir", str(tmp_path)]) == 2  # it exists
    warning, error = capsys.readouterr().err.splitlines()
    assert warning == f"warning: {tmp_path}: 3 images are read; passed over: 1 .txt"
    assert error.startswith("train.py: error: --run-dir must not exist yet")


def test_sweeps_only_what_no_other_process_writes(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    # The last process with our number wrote in an earlier life of this container.
    for number in (os.getppid(), ended.pid, os.getpid(), 10**30, "odd"):
        (tmp_path / f".unfinished-{number}-a").mkdir()
    for name in ("b", ".aside-b", ".aside-c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name, encoding="utf-8")
    files.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f".unfinished-{os.getppid()}-a",
        "b",
        "c",
    }
    assert (tmp_path / "b" / "name").read_text(encoding="utf-8") == "b"
    assert (tmp_path / "c" / "name").read_text(encoding="utf-8") == ".aside-c"


def lacks_encoding(call: ast.Call) -> bool:
    """Return whether a call reads or writes text in the encoding of the locale."""
    function = call.func
    is_method = isinstance(function, ast.Attribute)
    name = function.attr if is_method else getattr(function, "id", "")
    if any(keyword.arg in ("encoding", None) for keyword in call.keywords):
        return False
    if name in ("read_text", "write_text"):
        return len(call.args) == (name == "write_text")
    if name != "open":
        return False
    place = 0 if is_method else 1  # of the mode; other methods than a path's take a name there
    modes = [*call.args[place : place + 1], *(k.value for k in call.keywords if k.arg == "mode")]
    if not modes:
        return len(call.args) == place
    return bool(re.fullmatch(r"[rwax]\+?t?", str(getattr(modes[0], "value", ""))))


def test_every_text_file_has_an_encoding():
    """Ruff's PLW1514 sees only paths whose type it can infer."""
    paths = [*ROOT.glob("*.py")]
    for folder in ("dvae_tf", "experiments", "benchmarks", "serving", "tests", "docs"):
        paths += (ROOT / folder).rglob("*.py")
    assert len(paths) > 200
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call) and lacks_encoding(node)
    ]
    assert found == []
