"""Writes docs/api.md, the reference of the public names of `augscale`, from signatures and docstrings.

    python docs/make_api.py

tests/test_generated_pages.py compares the committed page with the generated one.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import augscale

PAGE = Path(__file__).with_name("api.md")

_INTRODUCTION = """# Python functions

This page is generated: `python docs/make_api.py`. It lists the names that `import augscale` offers; [from
Python](python.md) shows them in use. Settings of a `StudyConfig` are in [settings](settings.md).
"""
_SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Attributes):$", re.MULTILINE)


def api_page() -> str:
    """The whole page: functions first, then classes, each in the order of `augscale.__all__`."""
    public = [(name, getattr(augscale, name)) for name in augscale.__all__ if name != "__version__"]
    functions = [_function(name, thing) for name, thing in public if not inspect.isclass(thing)]
    classes = [_class(name, thing) for name, thing in public if inspect.isclass(thing)]
    return "\n".join([_INTRODUCTION, "## Functions\n", *functions, "## Classes\n", *classes])


def _function(name: str, function: Any) -> str:
    return f"### {name}\n\n{_code(_signature(f'augscale.{name}', function))}\n{_docstring(function)}\n"


def _class(name: str, cls: type) -> str:
    parts = [f"### {name}\n", _docstring(cls), _fields(cls)]
    for member, value in vars(cls).items():
        if member.startswith("_") or not (inspect.isfunction(value) or isinstance(value, property)):
            continue
        meaning = _escaped(" ".join((value.__doc__ or "").partition("Args:")[0].split()))
        arguments = "" if isinstance(value, property) else _arguments(value)
        parts += [f"**`{member}{arguments}`**: {meaning}\n"] if meaning else []
    if not dataclasses.is_dataclass(cls) and not issubclass(cls, (BaseModel, Exception)):
        parts.insert(1, _code(_signature(f"augscale.{name}", cls)))
    return "\n".join(part for part in parts if part)


def _signature(name: str, function: Any) -> str:
    """One line if it fits 100 characters, else one argument on each line."""
    signature = inspect.signature(function)
    arguments: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in arguments:
            arguments.append("*")
        arguments.append(_argument(parameter))
    returned = signature.return_annotation
    returns = "" if returned in (inspect.Signature.empty, "None", None) else f" -> {_bare(returned)}"
    one_line = f"{name}({', '.join(arguments)}){returns}"
    if len(one_line) <= 100:
        return one_line
    return "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), f"){returns}"])


def _argument(parameter: inspect.Parameter) -> str:
    text = parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_bare(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += f" = {parameter.default!r}" if ":" in text else f"={parameter.default!r}"
    return text


def _arguments(function: Any) -> str:
    """Names of a method's arguments, without `self`."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return "(" + ", ".join(parameter.name for parameter in parameters) + ")"


def _bare(annotation: Any) -> str:
    """The annotation as written, without the modules of its names."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", text)


def _fields(cls: type) -> str:
    """The fields of a dataclass or of a settings class, with the strings below them."""
    if issubclass(cls, BaseModel):
        texts = {name: field.description for name, field in cls.model_fields.items()}
    elif dataclasses.is_dataclass(cls):
        texts = {field.name: _field_docstrings(cls).get(field.name) for field in dataclasses.fields(cls)}
    else:
        return ""
    annotations = {name: kind for base in reversed(cls.__mro__) for name, kind in _annotations(base).items()}
    lines = ["| field | type | meaning |", "|---|---|---|"]
    for name, text in texts.items():
        cells = (f"`{name}`", f"`{_bare(annotations[name])}`", _escaped(" ".join((text or "").split())))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _annotations(cls: type) -> dict[str, Any]:
    return dict(vars(cls).get("__annotations__", {}))


def _field_docstrings(cls: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    texts = {}
    for field, after in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            texts[field.target.id] = str(after.value.value)  # type: ignore[union-attr]
    return texts


def _docstring(thing: Any) -> str:
    """The docstring as Markdown: text, then one list for each of Args, Returns and Raises."""
    text = inspect.cleandoc(thing.__doc__ or "")
    parts = _SECTION.split(text)
    written = [_escaped(parts[0].strip())]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        body = textwrap.dedent(body.strip("\n"))
        if title in ("Args", "Raises", "Attributes"):
            lines = [_entry(entry) for entry in re.split(r"\n(?=\S)", body) if entry.strip()]
        else:
            lines = [f"- {_escaped(' '.join(body.split()))}"]
        written.append(f"*{title}*\n\n" + "\n".join(lines))
    return "\n\n".join(written) + "\n"


def _entry(entry: str) -> str:
    name, colon, text = " ".join(entry.split()).partition(": ")
    return f"- `{name}`: {_escaped(text)}" if colon else f"- {_escaped(name)}"


def _escaped(text: str) -> str:
    """Angle brackets and underscores outside code would be read as HTML and emphasis."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(piece if piece.startswith("`") else re.sub(r"([<*_\[\]])", r"\\\1", piece) for piece in pieces)


def _code(text: str) -> str:
    return f"```text\n{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(api_page(), encoding="utf-8")
