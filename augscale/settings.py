"""Base class of every config, with error messages that name the nearest known key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from augscale.errors import ConfigError

M = TypeVar("M", bound="Settings")

_CHANGES_SHOWN = 3


class Settings(BaseModel):
    """Immutable keyword-only settings that refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def parse_settings(model: type[M], values: dict[str, Any], source: str) -> M:
    """Checks plain values against a settings class.

    Args:
        model: the class to build.
        values: nested plain values, e.g. from a TOML file.
        source: beginning of the error message, e.g. the file.
    Raises:
        ConfigError: one line per problem found: the key, the value found and what is accepted.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_describe(model, problem) for problem in error.errors()]
        raise ConfigError("\n".join(f"{source}: {problem}" for problem in problems)) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file ({error})") from None


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key, e.g. {"pretrain.steps": 240}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def changes(
    before: Mapping[str, Any], after: Mapping[str, Any], defaults: Mapping[str, Any], free: Collection[str] = ()
) -> str:
    """Differences between the settings of an earlier run and those given now, in one phrase; empty if there are none.

    Args:
        before: earlier settings by dotted key. A missing one was added after that run and counts as its default, which
            is the behavior before it existed.
        after: settings given now, by dotted key.
        defaults: defaults by dotted key.
        free: settings that may differ.
    """
    changed = []
    for key in sorted({*before, *after} - {*free}):
        old, new = before.get(key, defaults.get(key)), after.get(key)
        if old != new:
            changed.append(f"{key}: {old!r}, now {new!r}")
    more = len(changed) - _CHANGES_SHOWN
    return "; ".join(changed[:_CHANGES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def joined(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`; at least one name."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def nearest(word: str, known: list[str]) -> str:
    """` (did you mean X?)` for a misspelled word, whatever its case; an empty string if no known word is near."""
    written = {name.casefold(): name for name in reversed(known)}
    match = difflib.get_close_matches(word.casefold(), list(written), n=1, cutoff=0.6)
    return f" (did you mean {written[match[0]]}?)" if match else ""


def _describe(model: type[BaseModel], problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        parents, known = _known_keys(model, location[:-1])
        hint = nearest(location[-1], known).replace("mean ", f"mean {parents}", 1)
        return f"unknown key {key}{hint}" + ("" if hint else f"; known keys: {', '.join(known)}")
    if problem["type"] == "missing":
        return f"{key} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key} = {problem['input']!r} is not accepted: {message[0].lower()}{message[1:]}"


def _known_keys(model: type[BaseModel], parents: list[str]) -> tuple[str, list[str]]:
    for part in parents:
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return "", []
        model = annotation
    prefix = ".".join(parents) + "." if parents else ""
    return prefix, list(model.model_fields)
