"""Declaring commands, and reporting their errors and warnings in one line."""

import contextlib
import errno
import io
import os
import re
import resource
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import cyclopts
from cyclopts import Parameter

from dvae_tf.files import printable


def app(name: str, help: str, **kwargs) -> cyclopts.App:
    """Return a command-line application with plain-text help."""
    return cyclopts.App(name=name, help=help, help_format="plaintext", version_flags=(), **kwargs)


def parse_int(type_: Any, tokens) -> int:
    """Parse a whole number; cyclopts' own conversion would round 1.5."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is not a whole number") from None


def whole_number(help: str, **kwargs) -> Parameter:
    """Return the declaration of a flag that takes a whole number."""
    return Parameter(help=help, converter=parse_int, n_tokens=1, **kwargs)


def in_flags(message: str, flags: Mapping[str, str]) -> str:
    """Replace the names of arguments in a message of the library by the names of flags.

    If "num_samples" is a flag, `num_samples` becomes --num-samples. A quoted value is taken along,
    with or without backticks: num_samples='3' becomes --num-samples 3.

    Args:
        message: for example "`num_samples` must be positive".
        flags: argument -> flag, both with underscores.
    """
    names = "|".join(sorted(flags, key=len, reverse=True))
    value = r"""=(?P<quote>["'])(?P<value>.*?)(?P=quote)"""

    def flag(match: re.Match) -> str:
        text = "--" + flags[match["name"]].replace("_", "-")
        return text if match["value"] is None else f"{text} {shlex.quote(match['value'])}"

    if not flags:
        return message
    message = re.sub(rf"`(?P<name>{names})(?:{value})?`", flag, message)
    return re.sub(rf"\b(?P<name>{names}){value}", flag, message)


# Errors of a disk: what it must do, and the remedy.
DISK_ERRORS = {
    errno.ENOSPC: ("have room", "Make room"),
    errno.EDQUOT: ("have room", "Make room"),
    errno.EROFS: ("be writable", "Choose another place"),
    errno.EACCES: ("be readable and writable", "Change its permissions, or choose another place"),
    errno.EPERM: ("be readable and writable", "Change its permissions, or choose another place"),
}


def one_line(error: BaseException) -> str:
    """Return the message of an error in one printable line; of the disk's, with a remedy."""
    text = printable(" ".join(str(error).split()))
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        requirement, remedy = DISK_ERRORS[error.errno]
        return f"The disk must {requirement}. Received: {text}. {remedy}."
    return text


def fail(
    name: str, error: BaseException, remedy: str = "", *, flags: Mapping[str, str] | None = None
) -> int:
    """Print an error in one line to stderr, and return the exit status 2.

    Args:
        name: name of the command.
        error: its message says what is wrong.
        remedy: a sentence to add.
        flags: see `in_flags`.
    """
    text = in_flags(one_line(error), flags or {})
    print(f"{name}: error: {text}{remedy and ' ' + remedy}", file=sys.stderr)
    return 2


class Interruptible:
    """A block that Ctrl-C ends with the exit status 130, which the caller returns after it.

    The first Ctrl-C raises KeyboardInterrupt, so that files are closed and removed. Whoever presses
    it again does not want to wait: the process ends at once, as if it had been killed.

    Attributes:
        hint: a line for the user, printed in both cases; empty prints nothing.
    """

    def __init__(self) -> None:
        self.hint = ""

    def __enter__(self) -> "Interruptible":
        self._before = signal.getsignal(signal.SIGINT)
        try:
            # Some processes run with Ctrl-C ignored, under `nohup` for example.
            if self._before is signal.default_int_handler:
                signal.signal(signal.SIGINT, self._first)
        except ValueError:  # not in the main thread
            pass
        return self

    def _first(self, *_) -> None:
        signal.signal(signal.SIGINT, self._second)
        raise KeyboardInterrupt

    def _second(self, *_) -> None:
        if self.hint:
            os.write(2, f"\n{self.hint}\n".encode())  # `print` may be what was interrupted
        os._exit(130)

    def __exit__(self, kind, *_) -> bool:
        if kind is not None and issubclass(kind, KeyboardInterrupt) and self.hint:
            print(f"\n{self.hint}", file=sys.stderr)
        if signal.getsignal(signal.SIGINT) in (self._first, self._second):
            signal.signal(signal.SIGINT, self._before)
        return kind is not None and issubclass(kind, KeyboardInterrupt)


def warn(text: str) -> None:
    """Print a warning to stderr."""
    print(f"warning: {printable(text)}", file=sys.stderr)


def warn_of_limits() -> None:
    """Warn if the address space is limited: TensorFlow then may end without a message.

    It reserves far more than it uses, and its compiler aborts when a reservation fails.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        warn(
            f"the address space is limited to {limit / 2**30:.1f} GiB (ulimit -v). TensorFlow aborts "
            "without a message if that is too little. Limit resident memory instead."
        )


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """Set up what a command prints: one line a warning, and no character that the locale lacks."""
    warn_of_limits()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: warn(one_line(message))
        yield


def run(app: cyclopts.App, arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status; 2 after a user's error, 130 after Ctrl-C."""
    with terminal(), Interruptible():
        try:
            words = sys.argv[1:] if arguments is None else arguments
            command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
            return command(*bound.args, **bound.kwargs) or 0
        except (cyclopts.CycloptsError, ValueError, TypeError, OSError) as error:
            return fail(app.name[0], error)
    return 130
