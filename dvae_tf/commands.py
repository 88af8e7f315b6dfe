"""What all commands share: how they are declared, and how they say what is wrong."""

import errno
import sys
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


def fail(name: str, error: BaseException, remedy: str = "") -> int:
    """Print what a user can do about an error, in one line; return the exit status 2."""
    print(f"{name}: error: {one_line(error)}{remedy and ' ' + remedy}", file=sys.stderr)
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
