"""model.keras: the best model of a run. Reading the file runs no code from it."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from dvae_tf.model import DVAE

# Layers that run what their configuration names. Keras' safe mode stops most of them, but it lets a
# Lambda layer call any function of Keras, some of which load programs.
_RUNNERS = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}


def load(path: Path) -> DVAE:
    """Load a model in Keras' safe mode.

    Raises:
        ValueError: if it is not a DVAE, or has a layer that could run something.
        Exception: of many types, if the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    found = _RUNNERS.intersection(_names(config))
    if found:
        raise ValueError(f"layers that may run any program ({', '.join(sorted(found))})")
    model = keras.models.load_model(path, safe_mode=True)
    if not isinstance(model, DVAE):
        raise ValueError(f"a model of class {type(model).__name__}, which is no DVAE")
    return model


def _names(config: Any) -> Iterator[str]:
    """Yield the names of all classes and functions in Keras' JSON."""
    if isinstance(config, dict):
        yield from (str(config.get(key)) for key in ("class_name", "config"))
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            yield from _names(part)
