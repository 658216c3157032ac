"""HTML from jinja2 templates, which lie beside the modules that fill them. Every value is escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(name: str, **values: Any) -> Markup:
    """Fills a template.

    Args:
        name: path below `augscale/reporting`, e.g. "search/answer.html".
        values: what the template uses. Text is escaped; `Markup` is taken as HTML.
    Returns:
        HTML that other templates take as it is.
    Raises:
        jinja2.UndefinedError: the template uses a name that is not among the values.
    """
    return Markup(_environment().get_template(name).render(**values))


def parts() -> Any:
    """The macros of `shared/parts.html`, which are called like functions and return HTML."""
    return _environment().get_template("shared/parts.html").module


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("augscale", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
