"""Jinja templates for the pages of an evaluation, with filters that format measured numbers."""

import base64
from collections.abc import Mapping
from typing import Any

import jinja2

from dvae_tf import templating


def number(value: Mapping[str, Any] | None, digits: int = 2) -> str:
    """Format a measured number: the mean, and the standard error if there is one."""
    if value is None or value["mean"] is None:
        return "-"
    error = value["standard_error"]
    suffix = "" if error is None else f" ± {error:.{digits}f}"
    return f"{value['mean']:.{digits}f}{suffix}"


def template(name: str) -> jinja2.Template:
    """Return a template from this folder's `templates`; it escapes values for HTML."""
    environment = templating.environment("dvae_tf.evaluation", autoescape=True)
    environment.filters["number"] = number
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    return environment.get_template(name)
