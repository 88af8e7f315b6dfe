"""Sphinx's configuration: `make docs`."""

import re
import sys
from collections import _tuplegetter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

project = "dvae_tf"
copyright = "the authors of dvae_tf"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Denoising variational auto-encoders", "page_width": "1100px"}
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of Keras are not reST
autodoc_typehints = "description"
napoleon_use_ivar = True
autodoc_default_options = {"members": True, "show-inheritance": True}
myst_heading_anchors = 3
# Links to files of the repository that are no pages.
suppress_warnings = ["myst.xref_missing"]


def _skip(app, what, name, obj, skip, options) -> bool | None:
    """Leave out the fields of named tuples: the class says what they are."""
    return True if isinstance(obj, _tuplegetter) else None


def _escape(app, what, name, obj, options, lines: list[str]) -> None:
    """Escape the star of shapes such as [..., *event_shape], which begins no emphasis."""
    lines[:] = [re.sub(r"(?<=[\[ ])\*(?=\w+[\],])", r"\\*", line) for line in lines]


def setup(app) -> None:
    app.connect("autodoc-process-docstring", _escape)
    app.connect("autodoc-skip-member", _skip)
