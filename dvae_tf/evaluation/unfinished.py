"""Measurements of an evaluation that has not ended, in a file, so that it can continue."""

import hashlib
import importlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dvae_tf import datasets, files
from dvae_tf.evaluation.settings import Settings

_PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "scikit-image")


class Part(NamedTuple):
    """The results of one part of an evaluation.

    Attributes:
        metrics: its keys in metrics.json, as JSON values.
        arrays: what figures show, by name: nests of arrays.
    """

    metrics: dict[str, Any]
    arrays: dict[str, Any]


class Measurements:
    """The parts that are measured so far, in an .npz file that is replaced after each of them.

    Args:
        path: the file, which need not exist.
        key: identifies what is measured (see `key`). A file with another key is ignored.
    """

    def __init__(self, path: Path, key: str):
        self._path = path
        self._key = key

    def load(self) -> dict[str, Part]:
        """Return the parts by name; none if there is no intact file with this key."""
        try:
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                text = json.loads(content["parts"].tobytes())
                if text["key"] != self._key:
                    return {}
                return {
                    name: Part(metrics, {k: _inserted(v, content) for k, v in arrays.items()})
                    for name, (metrics, arrays) in text["parts"].items()
                }
        except Exception:  # NumPy raises many types on a damaged file; measuring again mends it
            return {}

    def save(self, parts: Mapping[str, Part]) -> None:
        """Replace the file.

        Raises:
            OSError: if it cannot be written.
        """
        taken: list[np.ndarray] = []
        text = {
            name: (part.metrics, {k: _taken(v, taken) for k, v in part.arrays.items()})
            for name, part in parts.items()
        }
        encoded = json.dumps({"key": self._key, "parts": text}).encode()
        arrays: dict[str, Any] = {str(place): array for place, array in enumerate(taken)}
        with files.appearing(self._path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, parts=np.frombuffer(encoded, np.uint8), **arrays)

    def remove(self) -> None:
        """Remove the file, once the evaluation is complete."""
        self._path.unlink(missing_ok=True)


def key(model: bytes, dataset: datasets.Dataset, settings: Settings) -> str:
    """Return a hash of everything that the numbers of an evaluation depend on.

    Args:
        model: content of the model's file.
        dataset: its data set. The examples that the evaluation reads count.
        settings: settings of the evaluation.
    """
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    versions["dvae_tf"] = importlib.import_module("dvae_tf").__version__
    content = hashlib.sha256(json.dumps([settings.described(), versions]).encode())
    content.update(hashlib.sha256(model).digest())
    splits = [dataset.test.take(slice(settings.limit))]
    if dataset.train.labels is not None:  # otherwise there are no probes
        splits.append(datasets.in_memory(dataset.train, settings.num_probed))
    for split in splits:
        for array in split.arrays():
            content.update(f"{array.dtype} {array.shape}".encode())
            content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def _taken(nest, arrays: list[np.ndarray]) -> Any:
    """Return a nest as JSON values, in which places in `arrays` stand for its arrays."""
    if isinstance(nest, Mapping):
        return {"dict": {name: _taken(part, arrays) for name, part in nest.items()}}
    if isinstance(nest, tuple | list):
        kind = "tuple" if isinstance(nest, tuple) else "list"
        return {kind: [_taken(part, arrays) for part in nest]}
    arrays.append(np.asarray(nest))
    return len(arrays) - 1


def _inserted(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the nest that `_taken` wrote as JSON values."""
    if isinstance(value, int):
        return arrays[str(value)]
    ((kind, parts),) = value.items()
    if kind == "dict":
        return {name: _inserted(part, arrays) for name, part in parts.items()}
    return {"tuple": tuple, "list": list}[kind](_inserted(part, arrays) for part in parts)
