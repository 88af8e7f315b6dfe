"""Jinja's environment of the pages of an evaluation, and how they write measured numbers."""

import base64
from collections.abc import Mapping
from typing import Any

import jinja2

from dvae_tf import templating


def number(value: Mapping[str, Any] | None, digits: int = 2) -> str:
    """Return a measured number as text: mean and, where there is one, standard error."""
    if value is None or value["mean"] is None:
        return "-"
    error = value["standard_error"]
    suffix = "" if error is None else f" ± {error:.{digits}f}"
    return f"{value['mean']:.{digits}f}{suffix}"


def template(name: str) -> jinja2.Template:
    """Return a template of this folder's `templates`, whose values are escaped for HTML."""
    environment = templating.environment("dvae_tf.evaluation", autoescape=True)
    environment.filters["number"] = number
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    return environment.get_template(name)
