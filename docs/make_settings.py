"""Writes docs/settings.md, the reference of all settings, from the fields and their docstrings.

    python docs/make_settings.py

tests/test_settings_page.py compares the committed page with the generated one.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from augscale.config import StudyConfig
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.settings import Settings

PAGE = Path(__file__).with_name("settings.md")

_INTRODUCTION = """# Settings

This page is generated: `python docs/make_settings.py`. The texts are those of `augscale/config.py`,
`augscale/pretrain_config.py` and `augscale/evaluation/protocol_config.py`.

"Not set" means that the study file does not name the setting; Python has `None` there.

## Study

A [study file](study-files.md) has one table for each section, and `--set SECTION.KEY=VALUE` overrides it.
"""
_PROTOCOLS = """## Evaluation protocols

`augscale evaluate`, `promote` and `validate` take these with `--set KEY=VALUE` or `--set SECTION.KEY=VALUE`; what each
protocol does is in [protocols](protocols.md).
"""


def settings_page() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *_tables(StudyConfig), _PROTOCOLS, *_tables(ProtocolConfig)])


def _tables(config: type[Settings]) -> list[str]:
    """One table for the settings outside sections, then one for each section."""
    sections = {
        name: field.annotation
        for name, field in config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
    }
    tables = [_table(config, leave_out=tuple(sections))]
    for name, section in sections.items():
        tables.append(f"### `[{name}]`\n\n{_one_line(section.__doc__)}\n\n{_table(section)}")
    return tables


def _table(config: type[Settings], leave_out: tuple[str, ...] = ()) -> str:
    lines = ["| setting | meaning | accepted | default |", "|---|---|---|---|"]
    for name, schema in config.model_json_schema()["properties"].items():
        if name not in leave_out:
            meaning = _one_line(config.model_fields[name].description)
            default = config.model_fields[name].get_default(call_default_factory=True)
            cells = (f"`{name}`", meaning, _accepted(schema), _default(default))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _accepted(schema: dict[str, Any]) -> str:
    """The values that a JSON schema allows, in words."""
    if "anyOf" in schema:
        options = [_accepted(option) for option in schema["anyOf"] if option.get("type") != "null"]
        return ", ".join(options[:-1]) + (" or " if options[1:] else "") + options[-1]
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "prefixItems" in schema:
        return "[low, high]"
    if schema["type"] == "array":
        return f"list of {_plural(_accepted(schema['items']))}"
    if schema["type"] == "object":
        return f"table of {_accepted(schema['additionalProperties'])}"
    if schema["type"] in ("integer", "number"):
        return schema["type"] + _limits(schema)
    if "pattern" in schema:
        return f"text that matches `{schema['pattern']}`"
    return {"boolean": "boolean", "string": "text"}[schema["type"]]


def _limits(schema: dict[str, Any]) -> str:
    low, above, high = (schema.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    if low is not None and high is not None:
        return f", {low:g} to {high}"
    limits = [f"at least {low:g}"] if low is not None else [f"above {above:g}"] if above is not None else []
    limits += [f"at most {high}"] if high is not None else []
    return "".join(f", {limit}" for limit in limits)


def _plural(words: str) -> str:
    return re.sub(r"^(integer|number)\b", r"\1s", words)


def _default(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, float) and (value != 0 and abs(value) < 1e-3):
        return f"`{value:g}`"
    return f"`{json.dumps(value)}`"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    PAGE.write_text(settings_page(), encoding="utf-8")
