"""The templates of the package's reports, pages and cards."""

import jinja2


def environment(*, autoescape: bool) -> jinja2.Environment:
    """Return Jinja's environment of the package's templates; a name that is not given is an error.

    Args:
        autoescape: whether values are escaped for HTML.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader("dvae_tf"),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
