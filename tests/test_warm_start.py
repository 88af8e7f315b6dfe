"""Runs that start from the weights of another one."""

import dataclasses
import json
import re
import shlex

import numpy as np
import pytest

import train
from dvae_tf import commands, datasets
from dvae_tf.runs import building, command_line, defaults, resuming, training
from dvae_tf.runs.configuration import ConfigurationError
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.options import Options

SOURCE = Options(
    hidden=(5,), latent_dim=3, noise="gaussian", epochs=7, limit=50, strategy="none", seed=4
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run with a model whose weights no initialiser draws."""
    path = tmp_path_factory.mktemp("runs") / "source"
    config = defaults.resolve(SOURCE)
    directory = RunDirectory.create(
        dataclasses.replace(config, run_dir=str(path)), datasets.load("digits"), "noise"
    )
    model = building.build_model(config, (8, 8, 1))
    building.compile_model(model, config, steps_per_epoch=2)
    model.optimizer.build(model.trainable_variables)
    for number, weight in enumerate(weights_of(model)):
        weight.assign(np.full(weight.shape, number + 0.5))
    directory.save_model(model)
    return directory


def weights_of(model):
    return [*model.encoder.weights, *model.decoder.weights]


def prepare(source, tmp_path, *words):
    line = ["--init-from", str(source), "--run-dir", str(tmp_path / "new"), *words]
    return training.prepare(defaults.resolve(command_line.parse(line)))


def test_flags_that_are_left_out_are_those_of_the_other_run(source):
    given = command_line.parse(
        ["--init-from", str(source), "--epochs", "3", "--strategy", "auto", "--noise", "none"]
    )
    saved, _ = source.read_config()
    assert (given.init_from, given.epochs, given.noise) == (str(source), 3, "none")
    for name in ("hidden", "latent_dim", "limit", "seed", "learning_rate", "dataset", "schedule"):
        assert getattr(given, name) == getattr(saved, name)
    assert command_line.parse(["--init-from", str(source)]).strategy == "auto"  # its machine's own
    assert given.run_dir is None


def test_a_run_starts_from_the_weights_and_records_it(source, tmp_path, monkeypatch):
    monkeypatch.chdir(source.path.parent)
    run = prepare("source", tmp_path, "--epochs", "2", "--learning-rate", "0.5")
    for number, weight in enumerate(weights_of(run.model)):
        np.testing.assert_array_equal(weight, np.full(weight.shape, number + 0.5))
    assert run.model.optimizer.iterations == 0
    assert float(run.model.optimizer.learning_rate) == 0.5
    content = json.loads((tmp_path / "new" / "config.json").read_text(encoding="utf-8"))
    assert content["configuration"]["init_from"] == str(source)
    assert content["configuration"]["epochs"] == 2
    assert content["configuration"]["run_dir"] == str(tmp_path / "new")
    # Stopped before its first checkpoint and resumed elsewhere, it starts from them again.
    run.directory.unlock()
    monkeypatch.chdir(tmp_path)
    again = training.prepare(resuming.read_configuration("new"))
    for ours, theirs in zip(weights_of(again.model), weights_of(run.model), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--hidden 6", r"--hidden must be \(5,\), as in .*source, .* Received: \(6,\)\."),
        ("--latent-dim 2", "--latent-dim must be 3, as in .* Received: 2"),
        ("--activation relu", "--activation must be swish, .* Received: relu"),
        ("--likelihood gaussian", "--likelihood must be .* Received: gaussian"),
        ("--network conv --hidden 5", "--network must be mlp"),
        ("--dataset small.npy", r"of the shape \(8, 8, 1\).* Received: \(4, 4, 1\)\."),
    ],
)
def test_another_network_or_shape_is_refused(words, message, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("small.npy", np.zeros((60, 4, 4, 1), np.uint8))
    with pytest.raises(ConfigurationError) as caught:
        prepare(source, tmp_path, *shlex.split(words))
    shown = commands.in_flags(str(caught.value), command_line.FLAGS)
    assert re.search(message, shown), shown
    assert not (tmp_path / "new").exists()


def test_a_run_without_a_model_is_refused(source, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_bytes((source.path / "config.json").read_bytes())
    with pytest.raises(ConfigurationError, match=r"empty must hold model\.keras"):
        prepare(tmp_path / "empty", tmp_path)


@pytest.mark.slow
def test_an_ended_run_trains_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "--limit 300 --hidden 32 --latent-dim 2 --epochs 4 --run-dir"
    assert train.main([*words.split(), "first"]) == 0
    capsys.readouterr()
    assert train.main(["--resume", "first"]) == 2
    remedy = "--init-from first."
    assert capsys.readouterr().err.endswith(f"from its weights with {remedy}\n")
    assert train.main([*remedy.rstrip(".").split(), "--run-dir", "second"]) == 0
    first, second = (RunDirectory(name).read_history()["val_bound"] for name in ("first", "second"))
    assert min(second) > max(first)
