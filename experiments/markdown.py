"""Tables of the generated pages."""


def table(*rows: tuple) -> list[str]:
    """Return the lines of a table, the first row its head."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:], ""]
