"""Jinja templates, from the folder `templates` of the package that uses them."""

import jinja2


def environment(package: str, *, autoescape: bool) -> jinja2.Environment:
    """Return a Jinja environment for a package's templates, in which undefined names are errors.

    Args:
        package: import name of the package, for example "dvae_tf.evaluation".
        autoescape: whether values are escaped for HTML.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
