"""HTML from jinja2 templates, which lie beside the modules that fill them. Every value is escaped."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_SIGNATURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png", b"RIFF": "image/webp"}


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


def image_source(content: bytes) -> str:
    """A JPEG, PNG or WebP file as the address of an image inside the page; empty for other bytes."""
    kind = next((kind for signature, kind in _SIGNATURES.items() if content.startswith(signature)), None)
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}" if kind else ""


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
