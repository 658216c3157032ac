"""The reference of all settings: the committed page is the generated one, and every setting explains itself."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from augscale.config import StudyConfig
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.settings import Settings

DOCS = Path(__file__).parents[1] / "docs"


def _settings(config: type[Settings], prefix: str = "") -> Iterator[tuple[str, str | None]]:
    """Each setting by dotted key, with its description."""
    for name, field in config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from _settings(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field.description


def test_the_committed_page_is_the_generated_one():
    generated = runpy.run_path(str(DOCS / "make_settings.py"))["settings_page"]()
    committed = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert committed == generated, "python docs/make_settings.py writes the page again"


@pytest.mark.parametrize("config", [StudyConfig, ProtocolConfig])
def test_every_setting_has_a_description_that_is_a_sentence(config):
    described = dict(_settings(config))
    assert {key: text for key, text in described.items() if not text or not text.endswith(".")} == {}
    # Questions in disguise explain nothing.
    assert [key for key, text in described.items() if text.split()[0] in ("What", "Whether", "Of", "By", "How")] == []
