"""Files and directories that appear whole or not at all.

What is being written lies beside its place under a name that no reader looks for, is brought to the
disk, and takes its place by one rename. What a killed process leaves behind is never read.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_MARK = ".unfinished-"


@contextlib.contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Yield a path beside `target`; the file or directory made there becomes `target` at the end.

    A file takes the place of an existing one; an existing directory stays an error.
    """
    unfinished = target.with_name(f"{_MARK}{os.getpid()}-{target.name}")
    try:
        yield unfinished
        sync_tree(unfinished)
        unfinished.replace(target)
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)
    _sync(target.parent)


@contextlib.contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """Yield an empty directory that takes the place of an existing one at the end.

    A process killed between the two renames leaves the old one aside; the next call brings it back.
    """
    aside = directory.with_name(f".aside-{directory.name}")
    if aside.exists() and not directory.exists():
        aside.rename(directory)
    with appearing(directory) as unfinished:
        unfinished.mkdir()
        yield unfinished
        sync_tree(unfinished)
        shutil.rmtree(aside, ignore_errors=True)
        if directory.exists():
            directory.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def write(target: Path, content: bytes | str) -> None:
    """Write a file, in place of an existing one; after a failure that one is as it was."""
    with appearing(target) as unfinished:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)


def sweep(directory: Path) -> None:
    """Remove what killed processes of this machine left unfinished in a directory."""
    for path in directory.glob(f"{_MARK}*"):
        if _is_running(int(path.name.split("-")[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def sync_tree(path: Path) -> None:
    """Bring a file, or a directory with all that is in it, to the disk."""
    for part in [*path.rglob("*"), path]:
        _sync(part)


def _sync(path: Path) -> None:
    """Bring a file, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
