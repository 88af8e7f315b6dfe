"""What has been denoised into a folder, so that a second run skips it."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dvae_tf import files

NAME = ".denoised.jsonl"


class Record:
    """A line for each picture that is done, in a hidden file beside the results.

    A line is added when all results of a picture are complete. It holds a key, which identifies the
    picture's content, the model and the settings, and the sizes of the results. A picture is done if
    its newest line has the same key, and its results still have their sizes.

    Args:
        folder: folder of the results, which must exist.
    """

    def __init__(self, folder: Path):
        self._folder, self._path = folder, folder / NAME
        self._lines: dict[str, dict[str, Any]] = {}
        self._is_cut = False
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        self._is_cut = not content.endswith(b"\n")
        for text in content.splitlines():
            try:
                line = json.loads(text)
                self._lines[line["name"]] = {"key": line["key"], "sizes": dict(line["sizes"])}
            except (ValueError, KeyError, TypeError):  # cut, when a process was killed
                continue

    def is_done(self, target: Path, key: str, results: Iterable[Path]) -> bool:
        """Return whether the results of a picture, of which `target` is one, are complete."""
        line = self._lines.get(self._name(target))
        sizes = {self._name(path): _size(path) for path in results}
        return line == {"key": key, "sizes": sizes} and None not in sizes.values()

    def add(self, target: Path, key: str, results: Iterable[Path]) -> None:
        """Add a line for a picture whose results are complete.

        Raises:
            OSError: if it cannot be written.
        """
        name = self._name(target)
        line = {"key": key, "sizes": {self._name(path): _size(path) for path in results}}
        self._lines[name] = line
        with self._path.open("ab") as file:
            # A line that was cut must not swallow this one.
            text = "\n" * self._is_cut + json.dumps({"name": name} | line) + "\n"
            self._is_cut = False
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def key_of(source: Path, *parts: Any) -> str:
    """Return a hash of a file's content and of other parts, which are JSON values.

    Raises:
        OSError: if the file cannot be read.
    """
    content = hashlib.sha256()
    with source.open("rb") as file:
        while block := file.read(2**20):
            content.update(block)
    return hashlib.sha256(json.dumps([content.hexdigest(), *parts]).encode()).hexdigest()


def sweep(results: Iterable[Path]) -> None:
    """Remove what killed processes left beside results of these names."""
    names: dict[Path, set[str]] = {}
    for path in results:
        names.setdefault(path.parent, set()).add(path.name)
    for folder, expected in names.items():
        if folder.is_dir():
            files.sweep(folder, of=expected.__contains__)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
