"""Which files are denoised, and where their results go."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dvae_tf.denoising.denoiser import Settings
from dvae_tf.kinds.image import folders, reading


class Work(NamedTuple):
    """A file to denoise.

    Attributes:
        source: the file.
        target: where the mean goes: the same name, and for files of a folder the same path in it.
        stddev: where the standard deviation goes: NAME_stddev.tif; None if it is not wanted.
        draws: where single draws go: NAME_draw1, NAME_draw2, ..., with the suffix of the source.
    """

    source: Path
    target: Path
    stddev: Path | None
    draws: tuple[Path, ...]

    @property
    def results(self) -> tuple[Path, ...]:
        """All files that are written, the mean last."""
        return (*self.draws, *((self.stddev,) if self.stddev else ()), self.target)


def collect(inputs: Sequence[str], out: Path, settings: Settings) -> list[Work]:
    """Return the files that inputs name, each once, in the order of the inputs.

    Args:
        inputs: files, folders, which are searched for pictures with their sub-folders, and patterns
            such as "photos/*.tif". What lies in `out` is no input: it is from an earlier run.
        out: folder of the results.
        settings: say which results there are.

    Raises:
        ValueError: if an input names nothing, two results would be one file, or a result would
            replace an input.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"`out` must be a folder. Received: {out}, a file. Choose another place.")
    works: dict[Path, Work] = {}
    out_real = out.resolve()
    for text in inputs:
        found = 0
        for source, root in _files(text):
            real = source.resolve()
            # Results of an earlier run, if the folder of results lies in the folder of inputs.
            if out_real in real.parents and root.resolve() in out_real.parents:
                continue
            found += 1
            works.setdefault(real, _work(source, out / _name(source, root), settings))
        if not found:
            raise ValueError(
                f"INPUT must be a file, a folder or a pattern. Received: {text}, which names no "
                f"picture. Files in folders must end in {', '.join(reading.SUFFIXES)}."
            )
    _check(works)
    return list(works.values())


def _files(text: str) -> Iterator[tuple[Path, Path]]:
    """Yield the files that an input names, and the folder where it begins; a file is its own."""
    path = Path(text)
    if path.is_dir():
        for file in folders.search(path, reading.SUFFIXES)[0]:
            yield file, path
    elif os.path.lexists(path):
        yield path, path
    elif glob.has_magic(text):
        root = Path(text)
        while glob.has_magic(str(root)):
            root = root.parent
        for name in sorted(glob.glob(text, recursive=True)):
            if not os.path.isdir(name):
                yield Path(name), root


def _name(source: Path, root: Path) -> Path:
    """Return the path below the folder where an input begins, or the name of a single file."""
    return Path(source.name) if source == root else source.relative_to(root)


def _work(source: Path, target: Path, settings: Settings) -> Work:
    draws = (
        target.with_name(f"{target.stem}_draw{number}{target.suffix}")
        for number in range(1, settings.num_draws + 1)
    )
    stddev = target.with_name(f"{target.stem}_stddev.tif") if settings.stddev else None
    return Work(source, target, stddev, tuple(draws))


def _check(works: dict[Path, Work]) -> None:
    """Refuse results that would replace an input or each other."""
    taken: dict[Path, Path] = {}
    for work in works.values():
        for result in work.results:
            real = result.resolve()
            if real in works:
                raise ValueError(
                    f"`out` must not be where inputs are. Received: {result}, which would replace "
                    f"{works[real].source}. Choose another folder."
                )
            if real in taken:
                raise ValueError(
                    f"Every result must have a name of its own. Received: {taken[real]} and "
                    f"{work.source}, both with {result}. Denoise them into two folders."
                )
            taken[real] = work.source
