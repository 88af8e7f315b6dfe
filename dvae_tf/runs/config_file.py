"""config.json: the configuration of a run, its data, and the versions of the packages."""

import importlib
import importlib.metadata
import json
import platform
from typing import Any

from dvae_tf.datasets import Dataset
from dvae_tf.runs import configuration
from dvae_tf.runs.configuration import Configuration, ConfigurationError

# The number changes when the layout of a run directory changes.
_FORMAT = 1
_PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "tensorflow-datasets", "numpy")


def compose(config: Configuration, dataset: Dataset, corruption: str) -> str:
    """Return the text of config.json.

    Args:
        config: configuration of the run.
        dataset: the data set that the run trains on.
        corruption: the corruption in words, from `Kind.describe_noise`.
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
    """Return the configuration in the text of a config.json, and its complete content.

    Raises:
        ConfigurationError: if the format is another one, or a value cannot be used.
        ValueError, KeyError, TypeError, AttributeError: if the text is not a config.json.
    """
    content = json.loads(text)
    if content["format"] != _FORMAT:
        raise ConfigurationError(
            f"a run directory must have format {_FORMAT}. Received: {content['format']!r}, of "
            "another version of dvae_tf. Use that version, or train again."
        )
    versions = content.setdefault("versions", {})
    if not isinstance(versions, dict) or not all(isinstance(v, str) for v in versions.values()):
        raise ConfigurationError(
            f"`versions` must hold the version of each package. Received: {str(versions)[:200]!r}. "
            "Restore the file."
        )
    if not isinstance(content.get("data"), dict):
        content["data"] = {}  # the earliest runs have no such entry
    return configuration.from_dict(content["configuration"]), content


def describe(dataset: Dataset) -> dict[str, Any]:
    """Describe the data in JSON values, for config.json."""
    return {
        "name": dataset.name,
        **dataset.kind.describe(dataset.train.examples),
        "num_train": len(dataset.train),
        "num_validation": len(dataset.validation),
        "num_test": len(dataset.test),
        "digest": dataset.digest(),
    }
