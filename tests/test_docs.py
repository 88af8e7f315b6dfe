"""Every block of code in README.md and docs/ runs, in order, in a directory as a user would have it.

Shell and Python run as they are, but that train.py and evaluate.py are told to do little, that MNIST
and Frey Faces become digits where they are not at hand, and that `make` only says what it would do.
Scripts for clusters (bash) are parsed. Transcripts (console) are what only a user can do.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tables
import yaml
from conftest import ROOT

import denoise
from dvae_tf.corruptions import CORRUPTIONS
from dvae_tf.kinds import KINDS
from dvae_tf.likelihoods import LIKELIHOODS
from dvae_tf.networks import NETWORKS
from dvae_tf.priors import PRIORS
from dvae_tf.runs import command_line, defaults

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# What a page takes for granted.
NAMES = {"README.md": lambda: {"images": np.zeros((200, 28, 28, 1), np.float32)}}

# What `python` does, as the pages call it.
PYTHON = """
import os, sys

LITTLE = {{
    "train.py": {{"--epochs": "1", "--limit": "200"}},
    "evaluate.py": {{
        "--num-importance-samples": "5", "--limit": "40", "--num-annealed": "0", "--noise-levels": "0.1"
    }},
}}
words = sys.argv[1:]
flags = LITTLE.get(words[0], {{}})
for flag, value in flags.items():
    if flag in words:
        place = words.index(flag)
        del words[place : place + 2]
    words += [flag, value]
if "--dataset" in words and not {has_data}:
    place = words.index("--dataset") + 1
    words[place] = "digits" if words[place] in ("mnist", "frey") else words[place]
os.execv(sys.executable, [sys.executable, *words])
"""


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def pages_with(*kinds: str):
    pages = [page for page in PAGES if any(kind in kinds for kind, _ in blocks(page))]
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.name)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, data_directory):
    """The repository's commands, a trained run, a folder of photos and a noisy image."""
    path = tmp_path_factory.mktemp("user")
    for name in (
        "train.py",
        "evaluate.py",
        "dvae_tf",
        "serving",
        "experiments",
        "benchmarks",
        "Makefile",
        "results",
        "requirements.txt",
    ):
        (path / name).symlink_to(ROOT / name)
    (path / "tests").symlink_to(ROOT / "tests")
    commands = path / "bin"
    commands.mkdir()
    script = path / "do_little.py"
    script.write_text(PYTHON.format(has_data=data_directory is not None), encoding="utf-8")
    for name, words in {
        "python": [sys.executable, str(script)],
        "make": ["/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "make", "-n"],
    }.items():
        (commands / name).write_text(
            f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8"
        )
        (commands / name).chmod(0o755)
    done = subprocess.run(
        [commands / "python", "train.py", "--run-dir", "RUN_DIR"],
        cwd=path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in "ABC":
        shutil.copytree(path / "RUN_DIR", path / f"RUN_{name}")
    rng = np.random.default_rng(0)
    (path / "photos").mkdir()
    for index in range(40):
        image = rng.integers(0, 256, (16, 16, 3), np.uint8)
        PIL.Image.fromarray(image).save(path / "photos" / f"{index}.png")
    PIL.Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path / "noisy.png")
    return path


@pytest.mark.slow
@pages_with("sh", "python")
def test_code_of_a_page_runs(page, workspace, data_directory, monkeypatch):
    monkeypatch.chdir(workspace)
    for registry in (CORRUPTIONS, KINDS, LIKELIHOODS, NETWORKS, PRIORS):
        # What a page registers is gone afterwards.
        monkeypatch.setattr(registry, "_entries", dict(registry))
    names = NAMES.get(page.name, dict)()
    environment = os.environ | {"PATH": f"{workspace / 'bin'}:{os.environ['PATH']}"}
    if data_directory is not None:
        environment["TFDS_DATA_DIR"] = str(data_directory)
    for kind, text in blocks(page):
        if kind == "python":
            exec(compile(text, str(page), "exec"), names)
        elif kind == "sh":
            log = workspace / f"{page.name}.log"
            with log.open("w", encoding="utf-8") as file:
                shell = subprocess.Popen(
                    ["bash", "-e", "-c", text], env=environment, stdout=file, stderr=file,
                    start_new_session=True,
                )  # fmt: skip
                try:
                    status = shell.wait(600)
                finally:  # servers that a page leaves running
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(shell.pid, signal.SIGKILL)
            assert status == 0, f"{text}\n{log.read_text(encoding='utf-8')[-2000:]}"


@pages_with("bash", "yaml")
def test_scripts_for_clusters_parse(page):
    for kind, text in blocks(page):
        if kind == "bash":
            done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        elif kind == "yaml":
            assert all(isinstance(part, dict) for part in yaml.safe_load_all(text))


@pages_with("console")
def test_transcripts_have_valid_flags(page, workspace_of_names, monkeypatch):
    """What only a user can do is at least understood: flags, and defaults for what they leave out."""
    monkeypatch.chdir(workspace_of_names)
    for kind, text in blocks(page):
        for line in text.splitlines() if kind == "console" else ():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            is_new = not {"--init-from", "--resume"} & set(words)
            if words[:2] == ["python", "train.py"] and is_new:
                defaults.resolve(command_line.parse(words[2:]))
            elif words[:2] == ["python", "denoise.py"]:
                words = [word.strip("[]") for word in words if word != "...]"]
                words = ["2" if len(word) == 1 else word for word in words]  # S, N
                denoise.app.parse_args(words[2:], exit_on_error=False, print_error=False)


@pytest.fixture
def workspace_of_names(tmp_path):
    """Folders of the names that the pages use."""
    for name in ("photos", "noisy", "clean"):
        (tmp_path / name).mkdir()
    return tmp_path


def anchors(page):
    """The anchors of a page's headings, as GitHub and Sphinx make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_relative_links_lead_somewhere():
    for page in PAGES:
        for target, anchor in re.findall(
            r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")
        ):
            path = page.parent / target if target else page
            assert path.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in anchors(path), f"{page.name}: {target}#{anchor}"


def test_estimate_of_several_machines_is_arithmetic():
    """Of 8 P bytes (W - 1) / W over 10 Gbit/s, and of compute that is divided by W."""
    page = " ".join((ROOT / "docs" / "workers.md").read_text(encoding="utf-8").split())
    measured = json.loads((ROOT / "benchmarks" / "workers.json").read_text(encoding="utf-8"))[
        "rows"
    ]
    size = min(row["parameters"] for row in measured)
    ms = 1e3 * 8 / 10e9  # of a byte
    assert f"P = {size / 1e6:.2f} million weights, {8 * size / 1e6:.1f} MB" in page
    assert f"{8 * size * ms:.1f} ms over 10 Gbit/s" in page
    large = 10e6
    assert f"10 million weights ({8 * large / 1e6:.0f} MB, {8 * large * ms:.0f} ms" in page
    gains = {w: 500 / (500 / w + 8 * large * ms * (w - 1) / w) for w in (2, 4, 8)}
    most = 500 / (8 * large * ms)
    assert (
        f"2 workers are at most {gains[2]:.1f} times as fast as one, 4 at most {gains[4]:.1f} times, "
        f"and 8 at most {gains[8]:.1f} times. No number of workers is more than {most:.1f} times as "
        "fast." in page
    )


def test_kinds_of_blocks_are_known():
    """A block of another kind would not be run."""
    kinds = {kind for page in PAGES for kind, _ in blocks(page)}
    assert kinds <= {"sh", "python", "bash", "yaml", "console"}
    fences = sum(
        len(re.findall(r"^```", page.read_text(encoding="utf-8"), re.MULTILINE)) for page in PAGES
    )
    toctrees = sum(page.read_text(encoding="utf-8").count("```{toctree}") for page in PAGES)
    assert fences == 2 * (sum(len(blocks(page)) for page in PAGES) + toctrees)


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_registries(page):
    assert page.read_text(encoding="utf-8") == tables.update(page.read_text(encoding="utf-8")), (
        "run `python docs/tables.py`"
    )
