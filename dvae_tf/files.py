"""Files and directories that appear complete or not at all, and their names in print.

Everything is first written under a temporary name beside its target, then synced to the disk, and
finally renamed. Readers never look at the temporary names, so that a killed process does no harm.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

_MARK = ".unfinished-"
_ASIDE = ".aside-"


@contextlib.contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Yield a temporary path; the file or directory made there becomes `target` at the end.

    A file replaces an existing file.

    Raises:
        OSError: if something cannot be written, or `target` is a directory with content.
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
    """Yield an empty directory that replaces `directory` at the end, if that exists.

    If the process is killed between the two renames, the next call restores the old directory.
    """
    aside = directory.with_name(_ASIDE + directory.name)
    _restore(directory, aside)
    with appearing(directory) as unfinished:
        unfinished.mkdir()
        yield unfinished
        sync_tree(unfinished)
        if directory.exists():
            directory.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def write(target: Path, content: bytes | str) -> None:
    """Write a file. It replaces an existing one, which stays unchanged if writing fails."""
    with appearing(target) as unfinished:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)


def printable(text: str) -> str:
    """Escape unprintable characters, as Python's repr does.

    Names of files and of their members may hold commands for a terminal, marks that reverse the
    direction of a line, and bytes that are not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def sweep(directory: Path, *, of: Callable[[str], bool] = lambda name: True) -> None:
    """Remove what killed processes of this machine left in a directory, or restore it.

    Call it while this process writes nothing there: what bears its number is of an earlier process
    with the same one, as in a container that was started again.

    Args:
        directory: where to look.
        of: whether a target of this name is looked after.
    """
    for path in directory.glob(f"{_MARK}*"):
        number, _, name = path.name.removeprefix(_MARK).partition("-")
        if not of(name):
            continue
        if number.isascii() and number.isdigit() and _is_running(int(number)):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for path in directory.glob(f"{_ASIDE}*"):
        name = path.name.removeprefix(_ASIDE)
        if of(name):
            _restore(path.with_name(name), path)


def _restore(directory: Path, aside: Path) -> None:
    """Put back what was moved aside, or remove it if its successor is there."""
    if directory.exists():
        shutil.rmtree(aside, ignore_errors=True)
    elif aside.exists():
        aside.rename(directory)


def _is_running(process: int) -> bool:
    """Return whether another process has this number."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def sync_tree(path: Path) -> None:
    """Sync a file, or a directory with everything in it, to the disk."""
    for part in [*path.rglob("*"), path]:
        _sync(part)


def _sync(path: Path) -> None:
    """Sync the content of a file, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
