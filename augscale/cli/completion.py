"""What the shell proposes for options: studies, scales, settings, metrics, protocols, datasets.

A shell calls these at every press of Tab, so they import no heavy library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

Complete = Callable[[str], list[str]]


def studies(incomplete: str) -> list[str]:
    """Built-in studies."""
    from augscale.config import studies_dir

    return _beginning(incomplete, (path.stem for path in sorted(studies_dir().glob("*.toml"))))


def scales(incomplete: str) -> list[str]:
    """Presets, after a comma too."""
    from augscale.augmentation.scales import PRESETS

    return _after_comma(incomplete, PRESETS)


def protocols(incomplete: str) -> list[str]:
    """Evaluation protocols, after a comma too."""
    from augscale.evaluation.protocol_config import ProtocolConfig

    return _after_comma(incomplete, _sections(ProtocolConfig.model_fields))


def datasets(incomplete: str) -> list[str]:
    """The paper's datasets, after a comma too."""
    from augscale.data.retinal.registry import NAMES

    return _after_comma(incomplete, ("all", *NAMES))


def study_settings(incomplete: str) -> list[str]:
    """Keys of a study's settings; after the equals sign, the words that a setting takes, such as names of metrics."""
    from augscale.config import StudyConfig

    return _settings(incomplete, StudyConfig.model_fields)


def protocol_settings(incomplete: str) -> list[str]:
    """The same for settings of the protocols."""
    from augscale.evaluation.protocol_config import ProtocolConfig

    return _settings(incomplete, ProtocolConfig.model_fields)


def words(*known: str) -> Complete:
    """A function that completes one of some words."""
    return lambda incomplete: _beginning(incomplete, known)


def _settings(incomplete: str, fields: Mapping[str, Any]) -> list[str]:
    found = dict(_flat(fields))
    key, equals, _ = incomplete.partition("=")
    if equals:
        return _beginning(incomplete, (f"{key}={value}" for value in found.get(key, ())))
    return _beginning(incomplete, (f"{key}=" for key in found))


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, tuple[str, ...]]]:
    """Dotted keys, and the words that each accepts; none for numbers and free text."""
    for name, field in fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        if inner is not None:
            yield from _flat(inner, f"{prefix}{name}.")
        elif field.annotation is bool:
            yield prefix + name, ("true", "false")
        else:
            yield prefix + name, tuple(word for word in get_args(field.annotation) if isinstance(word, str))


def _sections(fields: Mapping[str, Any]) -> list[str]:
    return [name for name, field in fields.items() if hasattr(field.annotation, "model_fields")]


def _after_comma(incomplete: str, known: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _beginning(last, known)]


def _beginning(incomplete: str, known: Iterable[str]) -> list[str]:
    return [name for name in known if name.startswith(incomplete)]
