"""Writes docs/cli.md, the reference of the command line, from the Typer app.

    python docs/make_cli.py

tests/test_generated_pages.py compares the committed page with the generated one.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from augscale.cli.app import app

PAGE = Path(__file__).with_name("cli.md")

_INTRODUCTION = """# Command line

This page is generated: `python docs/make_cli.py`. The texts are those of each command's own help.

An option that "may be repeated" is given once for each value. `--debug` is accepted anywhere on the line and shows the
traceback of an error.
"""
_TYPES = {int: "integer", float: "number", str: "text", Path: "path"}


def cli_page() -> str:
    """The whole page."""
    sections = [_section(name, callback) for name, callback in _commands(app)]
    return "\n".join([_INTRODUCTION, _exit_codes(app.info.epilog or ""), *sections])


def _exit_codes(epilog: str) -> str:
    codes = [code.partition(" ") for code in epilog.removeprefix("Exit codes: ").rstrip(".").split(", ")]
    return (
        "\n".join(["| exit code | meaning |", "|---|---|", *(f"| {code} | {text} |" for code, _, text in codes)]) + "\n"
    )


def _commands(group: typer.Typer, prefix: str = "augscale") -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every command that `--help` shows, by its full name."""
    for command in group.registered_commands:
        if not command.hidden and command.callback:
            yield f"{prefix} {command.name or command.callback.__name__.replace('_', '-')}", command.callback
    for inner in group.registered_groups:
        if not inner.hidden and inner.typer_instance:
            yield from _commands(inner.typer_instance, f"{prefix} {inner.name}")


def _section(name: str, callback: Callable[..., Any]) -> str:
    hints = get_type_hints(callback, include_extras=True)
    arguments, options = [], []
    for parameter in inspect.signature(callback).parameters.values():
        kind, info = get_args(hints[parameter.name])[:2]
        if isinstance(info, ArgumentInfo):
            arguments.append((parameter, kind, info))
        elif isinstance(info, OptionInfo) and not info.hidden:
            options.append((parameter, kind, info))
    usage = " ".join([name, *(_usage(*argument) for argument in arguments), "[OPTIONS]"])
    lines = [f"## {name}", "", _one_line(callback.__doc__), "", f"```text\n{usage}\n```", ""]
    described = [(parameter, info) for parameter, _, info in arguments if info.help]
    if described:
        lines += ["| argument | meaning |", "|---|---|"]
        lines += [f"| `{_metavar(parameter, info)}` | {_cell(info.help)} |" for parameter, info in described] + [""]
    lines += ["| option | value | meaning | default |", "|---|---|---|---|"]
    return "\n".join([*lines, *(_row(*option) for option in options)]) + "\n"


def _metavar(parameter: inspect.Parameter, info: ArgumentInfo) -> str:
    return str(info.metavar or parameter.name.upper())


def _usage(parameter: inspect.Parameter, kind: Any, info: ArgumentInfo) -> str:
    text = _metavar(parameter, info)
    text += "..." if _repeated(kind) and not text.endswith("...") else ""
    return text if parameter.default is parameter.empty else f"[{text}]"


def _row(parameter: inspect.Parameter, kind: Any, info: OptionInfo) -> str:
    flags = [flag for declared in _declared(parameter, kind, info) for flag in declared.split("/")]
    meaning = _cell(info.help)
    if _repeated(kind) and "more than once" not in meaning and "repeatable" not in meaning:
        meaning += " May be repeated."
    shown = ", ".join(f"`{flag}`" for flag in flags)
    return f"| {shown} | {_value(kind, info)} | {meaning} | {_default(parameter, kind)} |"


def _declared(parameter: inspect.Parameter, kind: Any, info: OptionInfo) -> list[str]:
    """The flags as declared, or those that Typer makes from the name of the parameter."""
    # Within Annotated, the first flag is given where Typer expects the default.
    first = [info.default] if isinstance(info.default, str) else []
    flag = parameter.name.strip("_").replace("_", "-")
    made = [f"--{flag}", f"--no-{flag}"] if _bare(kind) is bool else [f"--{flag}"]
    return [*first, *(info.param_decls or ())] or made


def _bare(kind: Any) -> Any:
    """The type of one value, without `None` and `list`."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return _bare(next(part for part in get_args(kind) if part is not type(None)))
    return _bare(get_args(kind)[0]) if get_origin(kind) is list else kind


def _repeated(kind: Any) -> bool:
    return get_origin(kind) is list or any(get_origin(part) is list for part in get_args(kind))


def _value(kind: Any, info: OptionInfo) -> str:
    """The type of the value and its limits; nothing for a flag."""
    bare = _bare(kind)
    if bare is bool:
        return ""
    if info.metavar:
        return f"`{info.metavar}`"
    low, high = info.min, info.max
    limits = [f"at least {low:g}"] if low is not None else []
    limits += [f"at most {high:g}"] if high is not None else []
    return ", ".join([_TYPES[bare], *limits])


def _default(parameter: inspect.Parameter, kind: Any) -> str:
    value = parameter.default
    if _bare(kind) is bool or value is None or value is parameter.empty:
        return ""
    return f"`{value}`"


def _cell(text: str | None) -> str:
    return _one_line(text).replace("|", "\\|")


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    PAGE.write_text(cli_page(), encoding="utf-8")
