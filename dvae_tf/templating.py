"""Jinja's templates, which lie in the folder `templates` of the package that uses them."""

import jinja2


def environment(package: str, *, autoescape: bool) -> jinja2.Environment:
    """Return Jinja's environment of a package's templates; a name that is not given is an error.

    Args:
        package: its import name, for example "dvae_tf.evaluation".
        autoescape: whether values are escaped for HTML.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
