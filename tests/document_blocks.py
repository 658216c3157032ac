"""Code blocks, inline code and links of the Markdown documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
    *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "experiments.md"),
)
"""The log of experiments is history: its commands and paths are those of their day."""

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block."""

    document: Path
    line: int
    language: str
    text: str


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [
        Block(document=document, line=text[: found.start()].count("\n") + 2, language=found[1], text=found[2])
        for found in _FENCED.finditer(text)
    ]


def inline_code(document: Path) -> list[str]:
    """Text between single backticks, on one line even where the document breaks it."""
    prose = _FENCED.sub("", document.read_text(encoding="utf-8"))
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]


def links(document: Path) -> Iterator[tuple[Path, str]]:
    """File and anchor (maybe empty) of every link that is no web address."""
    prose = _FENCED.sub("", document.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not target.startswith(("http:", "https:")):
            path, _, anchor = target.partition("#")
            yield (document.parent / path).resolve() if path else document, anchor


def anchors(document: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
