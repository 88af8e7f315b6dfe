"""The served version: the newest one in a directory that the server watches."""

import json
import logging
import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from dvae_tf import corruptions
from dvae_tf.kinds import KINDS, Kind, kind_of_shape
from dvae_tf.kinds.kind import AnyKind
from dvae_tf.serving.description import FORMAT
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
        ValueError: if there is no version, or none can be loaded; the message is about the newest.
    """

    def __init__(self, path: Path):
        self._path = path
        self._failed: dict[int, tuple] = {}  # version -> its fingerprint
        self._newest: Version | None = None
        skipped = self._load_newest()
        if self._newest is None:
            raise next(
                iter(skipped),
                ValueError(
                    "EXPORT_DIR must hold a version, a directory named by a number. Received: "
                    f"{path}. Name the export directory of a run, for example RUN_DIR/export."
                ),
            )
        for error in skipped:
            _log.warning("%s", error)

    @property
    def newest(self) -> Version:
        assert self._newest is not None
        return self._newest

    def refresh(self) -> None:
        """Load the newest version in the directory, if it is not served already.

        A version that cannot be loaded is skipped until its files change; the served one stays.
        """
        before = self._newest
        for error in self._load_newest():
            _log.warning("%s", error)
        if self._newest is not before:
            _log.warning("serving version %d", self.newest.number)

    def _load_newest(self) -> list[ValueError]:
        """Load the newest version that can be loaded; return why newer ones cannot."""
        found = versions(self._path)
        self._failed = {number: self._failed[number] for number in found if number in self._failed}
        skipped = []
        for number in reversed(found):
            if self._newest is not None and number == self._newest.number:
                break
            # Taken before loading: what changes meanwhile is tried again.
            fingerprint = _fingerprint(self._path / str(number))
            if self._failed.get(number) == fingerprint:
                continue
            try:
                self._newest = self._load(number)
                break
            except ValueError as error:
                self._failed[number] = fingerprint
                skipped.append(error)
        return skipped

    def _load(self, number: int) -> Version:
        path = self._path / str(number)
        try:
            _check_files(path)
            content = json.loads((path / "signature.json").read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"signature.json has format {content['format']!r}, not {FORMAT}")
            loaded = tf.saved_model.load(str(path))
            _check_signatures(content["signatures"], loaded.signatures)
            corruption = content["corruption"]
            if corruption is not None:
                corruptions.from_name(corruption["name"], corruption["level"])
            return Version(number, loaded, _kind(content, loaded), corruption)
        except Exception as error:  # TensorFlow raises many types on a damaged file
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise ValueError(
                f"{path} must be a version that dvae_tf exported ({reason}). Export it again."
            ) from error


def _fingerprint(path: Path) -> tuple:
    """Return what changes when the files of a version do, whatever times a copy gives them."""
    result = []
    for part in [path, *(Path(folder, name) for folder, *n in os.walk(path) for name in chain(*n))]:
        try:
            status = part.stat()
        except OSError:  # it is being replaced, or leads nowhere
            continue
        result.append(
            (str(part), status.st_mode, status.st_size, status.st_ino, status.st_ctime_ns)
        )
    return tuple(sorted(result))


def _check_files(path: Path) -> None:
    """Refuse what is neither file nor directory: opening a pipe may never end."""
    for folder, folders, files in os.walk(path, onerror=_raise):
        for part in (Path(folder, name) for name in chain(folders, files)):
            if not (part.is_file() or part.is_dir()):
                raise ValueError(f"{part.name} is neither a file nor a directory")


def _raise(error: OSError) -> None:
    raise error


def _check_signatures(described: Mapping[str, Any], loaded: Mapping[str, Any]) -> None:
    """Refuse a SavedModel whose signatures are not those that signature.json describes."""
    if "denoise" not in loaded or set(described) != set(loaded):
        raise ValueError("signature.json describes other signatures")
    for name, function in loaded.items():
        for side, specs in (
            ("inputs", function.structured_input_signature[1]),
            ("outputs", function.structured_outputs),
        ):
            actual = {key: (spec.shape.as_list(), spec.dtype.name) for key, spec in specs.items()}
            if actual != {k: (d["shape"], d["dtype"]) for k, d in described[name][side].items()}:
                raise ValueError(f"signature.json describes other {side} of {name}")


def _kind(content: Mapping[str, Any], loaded) -> Kind:
    """Return the kind that signature.json names; files of dvae_tf 0.1 need a guess by shape."""
    if "kind" in content:
        return KINDS.get(content["kind"], AnyKind)()
    (spec,) = _inputs(loaded).values()
    return kind_of_shape(tuple(spec.shape))


def _inputs(loaded) -> Mapping[str, tf.TensorSpec]:
    return loaded.signatures["denoise"].structured_input_signature[1]
