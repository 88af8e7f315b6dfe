"""config.json: what a run is, its data, and the versions that it was made with."""

import importlib
import importlib.metadata
import json
import platform
from typing import Any

from dvae_tf.datasets import Dataset
from dvae_tf.runs import configuration
from dvae_tf.runs.configuration import Configuration, ConfigurationError

# Another number says that a run directory has another form.
_FORMAT = 1
_PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "tensorflow-datasets", "numpy")


def compose(config: Configuration, dataset: Dataset, corruption: str) -> str:
    """Return the text of config.json.

    Args:
        config: of the run.
        dataset: as trained on.
        corruption: what `Corruption.describe` says.
    """
    content = {
        "format": _FORMAT,
        "configuration": configuration.to_dict(config),
        "seed": config.seed,
        "corruption": corruption,
        "data": describe(dataset),
        "versions": {
            "dvae_tf": importlib.import_module("dvae_tf").__version__,
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in _PACKAGES},
        },
    }
    return json.dumps(content, indent=2) + "\n"


def parse(text: str) -> tuple[Configuration, dict[str, Any]]:
    """Return the configuration in a config.json, and all of its content.

    Raises:
        ConfigurationError: if it is of another format, or a value in it cannot be used.
        ValueError, KeyError, TypeError, AttributeError: if it is no config.json.
    """
    content = json.loads(text)
    if content["format"] != _FORMAT:
        raise ConfigurationError(
            f"a run directory must have format {_FORMAT}. Received: {content['format']!r}, of "
            "another version of dvae_tf. Use that version, or train again."
        )
    return configuration.from_dict(content["configuration"]), content


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return what config.json says of the data."""
    return {
        "name": dataset.name,
        **dataset.kind.describe(dataset.train.examples),
        "num_train": len(dataset.train),
        "num_validation": len(dataset.validation),
        "num_test": len(dataset.test),
        "digest": dataset.digest(),
    }
