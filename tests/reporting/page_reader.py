"""Reads a page as a browser would: its visible text, its tags, and every address in it."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path
from typing import Any


class Page(html.parser.HTMLParser):
    """The visible text, and every attribute that a browser could fetch."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text: list[str] = []
        self.links: list[str | None] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._skip = 0
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.words = re.sub(r"\s+", " ", " ".join(self.text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._skip += tag in ("script", "style")
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_endtag(self, tag: str) -> None:
        self._skip -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.text.append(data)

    def with_class(self, name: str) -> list[dict[str, str | None]]:
        """Attributes of the elements that have a class."""
        return [a for _, a in self.tags if name in (a.get("class") or "").split()]

    def data(self, name: str) -> Any:
        """What a JSON element of the page holds."""
        found = re.search(rf'<script type="application/json" id="{name}-data">(.*?)</script>', self.source, re.DOTALL)
        assert found, name
        return json.loads(found.group(1))
