"""model.keras files that others made: nothing in them runs."""

import json
import re
import sys
import zipfile
from pathlib import Path

import keras
import pytest

import evaluate
import train
from dvae_tf import DVAE, datasets, networks
from dvae_tf.runs import defaults, history
from dvae_tf.runs.configuration import ConfigurationError
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.options import Options


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model file."""
    path = tmp_path_factory.mktemp("models") / "model.keras"
    DVAE(*networks.mlp((8, 8, 1), 2, hidden=(4,))).save(path)
    return path


@pytest.fixture
def directory(saved, tmp_path):
    """A run that has ended, but for its export."""
    config = defaults.resolve(
        Options(run_dir=str(tmp_path / "run"), epochs=1, hidden=(4,), latent_dim=2)
    )
    directory = RunDirectory.create(config, datasets.load("digits"), "noise")
    values = ["0", *["1.0"] * (len(history.COLUMNS) - 1)]
    directory.history_path.write_text(
        f"{','.join(history.COLUMNS)}\n{','.join(values)}\n", encoding="utf-8"
    )
    directory.model_path.write_bytes(saved.read_bytes())
    return directory


def lambda_layer(function, arguments):
    config = {"name": "h", "trainable": True, "dtype": "float32", "function": function}
    return {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": config | {"arguments": arguments},
        "registered_name": None,
    }


def python_lambda(witness):
    layer = keras.layers.Lambda(
        lambda x, path: (open(path, "w", encoding="utf-8").close(), x)[1],
        arguments={"path": str(witness)},
    )
    return keras.saving.serialize_keras_object(layer)


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def hostile_layers(witness):
    """Return layers, by name, that create the file `witness` when they are loaded or called."""
    touch = f"touch {witness}"
    return {
        "python lambda": python_lambda(witness),
        "os.system": lambda_layer(function("os", "system"), {"command": touch}),
        "posix.system": lambda_layer(function("posix", "system"), {"command": touch}),
        "exec": lambda_layer(
            function("builtins", "exec"), {"source": f"open({str(witness)!r}, 'w')"}
        ),
        "keras function": lambda_layer(
            function("keras.utils", "get_file"),
            {
                "fname": str(witness),
                "origin": f"file://{__file__}",
                "cache_dir": str(witness.parent),
            },
        ),
        "keras class": lambda_layer(
            {**function("keras.layers", "TFSMLayer")}, {"filepath": str(witness.parent)}
        ),
        "unsafe mode": function("keras.config", "enable_unsafe_deserialization"),
        "os.system as a layer": {
            "module": "os",
            "class_name": "system",
            "config": {"command": touch},
            "registered_name": "system",
        },
        "import": {
            "module": "hostile_module",
            "class_name": "Layer",
            "config": {},
            "registered_name": "Layer",
        },
        "saved model": {
            "module": "keras.layers",
            "class_name": "TFSMLayer",
            "config": {"name": "h", "filepath": str(witness.parent)},
            "registered_name": None,
        },
    }


def put_first(layer, path):
    """Put a layer behind the encoder's input in a model file."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    layers = config["config"]["encoder"]["config"]["layers"]
    flat = next(entry for entry in layers if entry["class_name"] == "Flatten")
    layers[layers.index(flat)] = {
        **layer,
        "name": flat["name"],
        "inbound_nodes": flat["inbound_nodes"],
    }
    content["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def test_the_file_itself_loads(directory, saved):
    assert isinstance(directory.load_model(), DVAE)


@pytest.mark.parametrize("name", hostile_layers(Path("witness")))
def test_a_hostile_layer_is_refused_and_runs_nothing(name, directory, tmp_path, monkeypatch):
    witness = tmp_path / "witness"
    (tmp_path / "hostile_module.py").write_text(
        f"open({str(witness)!r}, 'w').close()", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    put_first(hostile_layers(witness)[name], directory.model_path)
    # Keras' own message for what is no layer.
    runner = re.search("Lambda|TFSMLayer", json.dumps(hostile_layers(witness)[name]))
    message = f"may run any program .*{runner[0]}" if runner else "must be a complete model file"
    with pytest.raises(ConfigurationError, match=message):
        directory.load_model()
    assert not witness.exists()
    assert not list(tmp_path.glob("datasets/*"))  # what get_file would have fetched
    assert "hostile_module" not in sys.modules
    with pytest.raises(ValueError, match="safe_mode"):  # which is still on
        keras.saving.deserialize_keras_object(python_lambda(witness))


def test_commands_refuse_it_in_one_line(directory, tmp_path, capsys):
    witness = tmp_path / "witness"
    put_first(hostile_layers(witness)["os.system"], directory.model_path)
    for main, words in ((evaluate.main, []), (train.main, ["--resume"])):
        assert main([*words, str(directory)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "Received: layers that may run any program (Lambda)" in line
    assert not witness.exists()


def test_a_model_of_another_class_is_refused(directory):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(directory.model_path)
    with pytest.raises(ConfigurationError, match="class Sequential, which is no DVAE"):
        directory.load_model()
