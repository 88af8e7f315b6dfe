"""Markdown of the generated pages: tables, and paragraphs wrapped at 100 columns."""

import textwrap
from collections.abc import Iterable

_WIDTH = 100


def table(*rows: tuple) -> list[str]:
    """Return the lines of a table; the first row is its head."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:], ""]


def page(lines: Iterable[str]) -> str:
    """Return the text of a page; paragraphs and items of lists are wrapped, the rest is not."""
    return "\n".join(map(_wrapped, lines)).rstrip() + "\n"


def _wrapped(line: str) -> str:
    if line.startswith(("|", "#", "![")):
        return line
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(
        line, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
