"""The served version: the newest one in a directory that the server watches."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from dvae_tf import corruptions
from dvae_tf.kinds import KINDS, Kind, kind_of_shape
from dvae_tf.kinds.kind import AnyKind
from dvae_tf.serving.version import versions

_log = logging.getLogger(__name__)


class Version(NamedTuple):
    """A loaded version."""

    number: int
    model: Any  # the loaded SavedModel, which keeps its variables alive
    kind: Kind  # kind of data
    corruption: Mapping[str, Any] | None  # {"name", "level"} of the training noise

    @property
    def signatures(self) -> Mapping[str, Any]:
        """The concrete functions, by name."""
        return self.model.signatures

    @property
    def example_spec(self):
        """`tf.TensorSpec` of a batch of examples, or a dict of specs by the names of its parts."""
        specs = _inputs(self.model)
        return specs[self.kind.field] if set(specs) == {self.kind.field} else dict(specs)


class ModelDirectory:
    """The newest version of a directory of versions.

    Args:
        path: directory that holds a sub-directory for each version, as `export.export` writes it.

    Raises:
        ValueError: if there is no version, or the newest one cannot be loaded.
    """

    def __init__(self, path: Path):
        self._path = path
        self._failed: dict[int, int] = {}  # version -> when its file was written
        found = versions(path)
        if not found:
            raise ValueError(
                "EXPORT_DIR must hold a version, a directory named by a number. "
                f"Received: {path}. Name the export directory of a run, for example RUN_DIR/export."
            )
        self._newest = self._load(found[-1])

    @property
    def newest(self) -> Version:
        return self._newest

    def refresh(self) -> None:
        """Load the newest version in the directory, if it is not served already.

        A version that cannot be loaded is skipped; the served one stays.
        """
        for number in reversed(versions(self._path)):
            if number == self._newest.number:
                return
            if self._failed.get(number) == self._written(number):
                continue
            try:
                self._newest = self._load(number)
                _log.warning("serving version %d", number)
                return
            except ValueError as error:
                self._failed[number] = self._written(number)
                _log.warning("%s", error)

    def _written(self, number: int) -> int:
        """Return when the files of a version were last written, to try it again after a repair."""
        path = self._path / str(number)
        try:
            return max(file.stat().st_mtime_ns for file in [path, *path.rglob("*")])
        except OSError:  # it is being replaced
            return -1

    def _load(self, number: int) -> Version:
        path = self._path / str(number)
        try:
            loaded = tf.saved_model.load(str(path))
            content = json.loads((path / "signature.json").read_text(encoding="utf-8"))
            corruption = content["corruption"]
            if corruption is not None:
                corruptions.from_name(corruption["name"], corruption["level"])
            return Version(number, loaded, _kind(content, loaded), corruption)
        except Exception as error:  # TensorFlow raises many types on a damaged file
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{path} must be a version that dvae_tf exported ({reason}). Export it again."
            ) from error


def _kind(content: Mapping[str, Any], loaded) -> Kind:
    """Return the kind that signature.json names; files of dvae_tf 0.1 need a guess by shape."""
    if "kind" in content:
        return KINDS.get(content["kind"], AnyKind)()
    (spec,) = _inputs(loaded).values()
    return kind_of_shape(tuple(spec.shape))


def _inputs(loaded) -> Mapping[str, tf.TensorSpec]:
    return loaded.signatures["denoise"].structured_input_signature[1]
