"""Declaring commands, and reporting their errors in one line."""

import errno
import io
import re
import shlex
import sys
import warnings
from collections.abc import Mapping
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
_DISK = {
    errno.ENOSPC: ("have room", "Make room"),
    errno.EDQUOT: ("have room", "Make room"),
    errno.EROFS: ("be writable", "Choose another place"),
    errno.EACCES: ("be readable and writable", "Change its permissions, or choose another place"),
    errno.EPERM: ("be readable and writable", "Change its permissions, or choose another place"),
}


def one_line(error: BaseException) -> str:
    """Return the message of an error in one printable line; of the disk's, with a remedy."""
    text = printable(" ".join(str(error).split()))
    if isinstance(error, OSError) and error.errno in _DISK:
        requirement, remedy = _DISK[error.errno]
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


def run(app: cyclopts.App, arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status; 2 after a user's error, 130 after Ctrl-C.

    Each warning is one line on stderr.
    """
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        return _run(app, arguments)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"warning: {one_line(message)}", file=sys.stderr)


def _run(app: cyclopts.App, arguments: list[str] | None) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):  # a locale may lack characters of names
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        words = sys.argv[1:] if arguments is None else arguments
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        return command(*bound.args, **bound.kwargs) or 0
    except (cyclopts.CycloptsError, ValueError, TypeError, OSError) as error:
        return fail(app.name[0], error)
    except KeyboardInterrupt:
        return 130
