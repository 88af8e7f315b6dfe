"""The command that evaluates, on small runs; and what it writes."""

import html.parser
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

import evaluate
import train
from dvae_tf import datasets, figures, likelihood
from dvae_tf.evaluation import captions, projector
from dvae_tf.kinds import KINDS
from dvae_tf.runs import building
from dvae_tf.runs.directory import RunDirectory

pytestmark = pytest.mark.slow

SMALL = ["--num-importance-samples", "20", "--limit", "40", "--noise-levels", "0", "0.2"]
FAST = [*SMALL, "--num-annealed", "0"]
SECTIONS = captions.sections(KINDS["image"]())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that differ in their noise, and one on other test images."""
    root = tmp_path_factory.mktemp("some runs")
    for name, arguments in (
        ("dvae", ["--noise", "salt_pepper"]),
        ("vae", ["--noise", "none"]),
        ("bernoulli", ["--likelihood", "bernoulli"]),
    ):
        words = ["--epochs", "2", "--hidden", "16", "--latent-dim", "3", *arguments]
        assert train.main([*words, "--run-dir", str(root / name)]) == 0
    return root


@pytest.fixture(scope="module")
def evaluated(runs):
    assert evaluate.main([str(runs / "dvae"), *SMALL]) == 0
    return runs / "dvae" / "evaluation"


@pytest.fixture
def measured(evaluated):
    return json.loads((evaluated / "metrics.json").read_text(encoding="utf-8"))


def test_keys_are_documented(measured):
    documented = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for key in measured:
        assert f"`{key}`" in documented


def test_annealed_images_are_spread_over_the_test_split(runs, measured):
    model = RunDirectory(runs / "dvae").load_model()
    config, _ = RunDirectory(runs / "dvae").read_config()
    images = datasets.as_float(building.load_dataset(config).test.images[:40])
    sampled = likelihood.importance_sampling(
        model.encoder, model.decoder, images, num_samples=20, seed=0
    ).log_likelihood
    places = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39]
    same = measured["annealed"]["importance_sampling_on_the_same_images"]
    assert same["mean"] == pytest.approx(sampled[places].mean(), abs=1e-3)


class Page(html.parser.HTMLParser):
    """Collects the addresses a page refers to, and whether its tags close."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.text = [], [], text
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.sources += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_holds_every_figure_and_loads_nothing(evaluated):
    page = Page((evaluated / "report.html").read_text(encoding="utf-8"))
    names = {path.stem for path in evaluated.glob("*.png")}
    assert names == {name for section in SECTIONS.values() for name in section}
    assert len(page.sources) == len(names)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not re.search(r"https?://|@import|url\(", page.text)
    assert "salt_pepper" in page.text
    assert tf.__version__ in page.text


def test_projector_files(evaluated):
    latents = np.loadtxt(evaluated / "projector" / "latents.tsv", delimiter="\t")
    labels = (evaluated / "projector" / "labels.tsv").read_text(encoding="utf-8").split()
    assert latents.shape == (40, 3)
    assert len(labels) == 40


def hidden(run):
    return [path.name for path in run.iterdir() if path.name.startswith(".")]


def test_killed_and_resumed_in_other_processes_without_a_locale(runs, evaluated):
    """The same seed gives the same metrics, to the last byte, and text files are UTF-8."""
    before = (evaluated / "metrics.json").read_bytes()
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, str(ROOT / "evaluate.py"), "dvae", *SMALL]
    kwargs = {"cwd": runs, "text": True, "env": os.environ | ascii_only}
    with subprocess.Popen(command, stdout=subprocess.PIPE, **kwargs) as process:
        for line in process.stdout:
            if line.strip() == "adversarial noise":
                process.kill()
    assert process.returncode == -signal.SIGKILL
    assert ".measured.npz" in hidden(runs / "dvae")
    assert (evaluated / "metrics.json").read_bytes() == before
    page = (evaluated / "report.html").read_bytes()
    (evaluated / "report.html").unlink()
    result = subprocess.run(command, capture_output=True, **kwargs)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("measured before the stop") == 4
    assert (evaluated / "metrics.json").read_bytes() == before
    assert (evaluated / "report.html").read_bytes() == page
    assert "±" in page.decode("utf-8")
    assert ".measured.npz" not in hidden(runs / "dvae")


def test_compares_runs_on_the_same_images_and_noise(runs):
    assert evaluate.main([str(runs / "dvae"), str(runs / "vae"), *FAST]) == 0
    comparison = runs / "dvae" / "evaluation" / "comparison"
    both = json.loads((comparison / "metrics.json").read_text(encoding="utf-8"))
    assert len(both) == 2
    noisy = [
        [r["psnr"] for r in measured["denoising"] if r["method"] == "noisy"]
        for measured in both.values()
    ]
    assert noisy[0] == noisy[1]
    page = Page((comparison / "comparison.html").read_text(encoding="utf-8"))
    assert len(page.sources) == 4
    assert (runs / "vae" / "evaluation" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RUN_DIR must be given"),
        (["nowhere"], "nowhere must be a run directory"),
        (["dvae", "bernoulli"], "must have the same test images"),
        (["dvae", "--limit", "0"], "`limit` must be an integer of at least 1"),
        (["dvae", "--noise-levels", "25"], "give 0.098"),
        (["dvae", "--noise-levels"], "must be one level or more"),
        (["dvae", "--seed", "-1"], "`seed` must be"),
        (["dvae", "--limit", "1.5"], "not a whole number"),
        (["cut"], "model.keras must be a complete model file"),
        (["without"], "without must hold model.keras"),
        (["other"], "must have format 1"),
    ],
)
def test_mistakes_are_one_line_and_leave_the_earlier_evaluation(
    arguments, message, runs, evaluated, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(runs)
    for name in ("cut", "without", "other"):
        if name in arguments:
            shutil.copytree(runs / "dvae", tmp_path / name)
            arguments = [str(tmp_path / name)]
    if (tmp_path / "cut").exists():
        content = (tmp_path / "cut" / "model.keras").read_bytes()
        (tmp_path / "cut" / "model.keras").write_bytes(content[: len(content) // 2])
    if (tmp_path / "without").exists():
        (tmp_path / "without" / "model.keras").unlink()
    if (tmp_path / "other").exists():
        config = json.loads((tmp_path / "other" / "config.json").read_text(encoding="utf-8"))
        (tmp_path / "other" / "config.json").write_text(
            json.dumps(config | {"format": 2}), encoding="utf-8"
        )
    before = {p: p.stat().st_mtime_ns for root in (runs, tmp_path) for p in root.rglob("*")}
    assert evaluate.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("evaluate.py: error: ")
    assert message in line
    after = {p: p.stat().st_mtime_ns for root in (runs, tmp_path) for p in root.rglob("*")}
    assert after == before


def test_failure_half_way_keeps_the_earlier_evaluation(runs, evaluated, monkeypatch, capsys):
    """The disk is full in the second of two runs, which is the one that has an evaluation."""
    before = (evaluated / "metrics.json").read_bytes()
    write = projector.write

    def write_one(directory, *arguments):
        if directory.parent.parent == runs / "dvae":
            raise OSError("No space left on device")
        write(directory, *arguments)

    words = [str(runs / "vae"), str(runs / "dvae"), *FAST, "--seed", "5"]
    monkeypatch.setattr(projector, "write", write_one)
    assert evaluate.main(words) == 2
    assert "No space left" in capsys.readouterr().err
    assert (evaluated / "metrics.json").read_bytes() == before
    assert (runs / "vae" / "evaluation" / "report.html").exists()
    assert not (runs / "vae" / "evaluation" / "comparison").exists()
    assert [hidden(runs / name) for name in ("vae", "dvae")] == [[".measured.npz"]] * 2
    monkeypatch.undo()
    assert evaluate.main(words) == 0
    assert capsys.readouterr().out.count("measured before the stop") == 12
    assert (evaluated / "metrics.json").read_bytes() != before
    assert (runs / "vae" / "evaluation" / "comparison" / "comparison.html").exists()
    assert [hidden(runs / name) for name in ("vae", "dvae")] == [[], []]


def test_figures_that_fail_do_not_end_it(runs, monkeypatch, capsys):
    def fail(*arguments, **kwargs):
        raise FloatingPointError("no ink")

    monkeypatch.setattr(figures, "curves", fail)
    assert evaluate.main([str(runs / "dvae"), str(runs / "vae"), *FAST]) == 0
    lines = capsys.readouterr().err.splitlines()
    names = ["psnr", "ssim", "bound", "error", "probe", "adversarial"]
    compared = ["psnr", "bound", "error", "probe"]
    assert lines == [
        f"warning: the figure {name} could not be drawn: no ink"
        for name in [*names, *names, *compared]
    ]
    evaluation = runs / "dvae" / "evaluation"
    for path in (evaluation / "report.html", evaluation / "comparison" / "comparison.html"):
        page = Page(path.read_text(encoding="utf-8"))
        assert "The figure bound could not be drawn: no ink." in page.text
    assert {path.stem for path in evaluation.glob("*.png")} == {
        *("calibration", "latents", "kl", "attack"),
        *("repeated", "traversal", "interpolation", "samples"),
    }


def test_three_images(tmp_path, rng, monkeypatch):
    """One is for training, one for validation, one for the test."""
    monkeypatch.chdir(tmp_path)
    name = "caf\x9b<b>.npy"  # nor is its name safe in a terminal or in a page
    np.save(name, rng.integers(0, 256, (3, 6, 5)).astype(np.uint8))
    words = ["--dataset", name, "--epochs", "1", "--network", "mlp", "--hidden", "4"]
    assert train.main([*words, "--latent-dim", "3", "--run-dir", "run"]) == 0
    fast = ["--num-importance-samples", "3", "--noise-levels", "0.1", "--num-annealed", "1"]
    assert evaluate.main(["run", *fast]) == 0
    text = (tmp_path / "run" / "evaluation" / "metrics.json").read_text(encoding="utf-8")
    assert set(re.findall(r'"count": (\d+)', text)) == {"1"}
    assert (tmp_path / "run" / "evaluation" / "latents.png").exists()
    page = (tmp_path / "run" / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert r"caf\x9b&lt;b&gt;, gaussian" in page
    card = (tmp_path / "run" / "export" / "1" / "model_card.md").read_text(encoding="utf-8")
    assert r"caf\\x9b&lt;b&gt;, gaussian" in card


def test_colour_images_without_labels(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", rng.integers(0, 256, (30, 6, 5, 3)).astype(np.uint8))
    words = ["--dataset", "x.npy", "--epochs", "1", "--hidden", "4", "--latent-dim", "2"]
    assert train.main([*words, "--run-dir", "run"]) == 0
    fast = ["--num-importance-samples", "3", "--noise-levels", "0.1", "--num-annealed", "0"]
    assert evaluate.main(["run", *fast]) == 0
    measured = json.loads(
        (tmp_path / "run" / "evaluation" / "metrics.json").read_text(encoding="utf-8")
    )
    assert measured["features"]["probes"] == []
    assert "bits_per_dimension" not in measured
    assert not (tmp_path / "run" / "evaluation" / "probe.png").exists()


def test_streamed_images_are_measured_as_those_in_memory(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for index, image in enumerate(rng.integers(0, 256, (40, 8, 8, 1))):
        path = tmp_path / "photos" / "ab"[index % 2] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(path, image, scale=False)
    words = ["--dataset", "photos", "--cache", "none", "--epochs", "1", "--network", "mlp"]
    assert train.main([*words, "--hidden", "4", "--run-dir", "run"]) == 0
    fast = ["--num-importance-samples", "3", "--noise-levels", "0.1", "--num-annealed", "0"]
    metrics = tmp_path / "run" / "evaluation" / "metrics.json"
    assert evaluate.main(["run", *fast]) == 0
    streamed = json.loads(metrics.read_text(encoding="utf-8"))
    config = tmp_path / "run" / "config.json"
    text = config.read_text(encoding="utf-8")
    assert '"cache": "none"' in text
    config.write_text(text.replace('"cache": "none"', '"cache": "memory"'), encoding="utf-8")
    assert evaluate.main(["run", *fast]) == 0
    assert json.loads(metrics.read_text(encoding="utf-8")) == streamed
    assert streamed["features"]["probes"]
