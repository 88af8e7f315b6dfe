"""Jinja templates, from the folder `templates` of the package that uses them."""

from collections.abc import Callable
from typing import Any

import jinja2

from dvae_tf.files import printable


def environment(
    package: str, *, autoescape: bool, escape: Callable[[str], str] = printable
) -> jinja2.Environment:
    """Return a Jinja environment for a package's templates, in which undefined names are errors.

    Args:
        package: import name of the package, for example "dvae_tf.evaluation".
        autoescape: whether values are escaped for HTML.
        escape: applied to every value that is plain text, before that.
    """

    def finalize(value: Any) -> Any:
        return escape(value) if type(value) is str else value

    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
