"""What all commands share: how they are declared, and how they say what is wrong."""

import errno
import re
import shlex
import sys
from collections.abc import Mapping
from typing import Any

import cyclopts
from cyclopts import Parameter


def app(name: str, help: str, **kwargs) -> cyclopts.App:
    """Return a command line of this name, whose help is plain text."""
    return cyclopts.App(name=name, help=help, help_format="plaintext", version_flags=(), **kwargs)


def parse_int(type_: Any, tokens) -> int:
    """Parse a whole number; the library's own conversion would round 1.5."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is not a whole number") from None


def whole_number(help: str, **kwargs) -> Parameter:
    """Return the declaration of a flag that takes a whole number."""
    return Parameter(help=help, converter=parse_int, n_tokens=1, **kwargs)


def in_flags(message: str, flags: Mapping[str, str]) -> str:
    """Return a message of the library, which speaks of arguments, as one that speaks of flags.

    Where "num_samples" is a flag, `num_samples` becomes --num-samples, and num_samples='3', with or
    without backticks, becomes --num-samples 3.

    Args:
        message: for example "`num_samples` must be positive".
        flags: the name of the flag for each argument, with underscores.
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


# What the system says of a disk, and what then helps.
_DISK = {
    errno.ENOSPC: ("have room", "Make room"),
    errno.EDQUOT: ("have room", "Make room"),
    errno.EROFS: ("be writable", "Choose another place"),
    errno.EACCES: ("be readable and writable", "Change its permissions, or choose another place"),
    errno.EPERM: ("be readable and writable", "Change its permissions, or choose another place"),
}


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line; of the system's own with what helps."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _DISK:
        requirement, remedy = _DISK[error.errno]
        return f"The disk must {requirement}. Received: {text}. {remedy}."
    return text


def fail(
    name: str, error: BaseException, remedy: str = "", *, flags: Mapping[str, str] | None = None
) -> int:
    """Print what a user can do about an error, in one line; return the exit status 2.

    Args:
        name: of the command.
        error: whose message says what is wrong.
        remedy: what else to say.
        flags: as `in_flags` takes them.
    """
    text = in_flags(one_line(error), flags or {})
    print(f"{name}: error: {text}{remedy and ' ' + remedy}", file=sys.stderr)
    return 2


def run(app: cyclopts.App, arguments: list[str] | None = None) -> int:
    """Run a command; return its exit status: its own, 2 after a user's error, 130 after Ctrl-C."""
    try:
        words = sys.argv[1:] if arguments is None else arguments
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        return command(*bound.args, **bound.kwargs) or 0
    except (cyclopts.CycloptsError, ValueError, TypeError, OSError) as error:
        return fail(app.name[0], error)
    except KeyboardInterrupt:
        return 130
