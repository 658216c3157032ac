"""One screen of results: answer first, tables second, notes last; drawn for a terminal, or as plain text elsewhere.

Every command ends with a `Screen`. Details that do not fit on it are in the report that it names.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from augscale.doc_pages import DocPage
from augscale.reporting.shared.wording import plain

WIDTH = 100
"""Largest width on a terminal, columns."""
PLAIN_WIDTH = 80
MOST_NOTES = 3
_INDENT = "  "


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table."""

    cells: tuple[str | Text, ...]
    style: str = ""


@dataclass(frozen=True, kw_only=True)
class ScreenTable:
    """A table."""

    heads: tuple[str, ...]
    rows: Sequence[Row]
    title: str = ""
    legend: str = ""
    """How to read the table, shown below it."""
    wraps: int = 1
    """Number of columns, from the left, that wrap if the terminal is narrow."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """One line, and the section of the documentation that explains it."""

    text: str
    page: DocPage | None = None

    def __str__(self) -> str:
        return f"{self.text} ({self.page})" if self.page else self.text


@dataclass(frozen=True, kw_only=True)
class Screen:
    """What a command prints at its end."""

    headline: str
    tables: tuple[ScreenTable, ...] = ()
    notes: tuple[Note, ...] = ()
    """At most `MOST_NOTES` are shown."""
    commands: tuple[tuple[str, ...], ...] = ()
    """Next commands, as words."""
    commands_note: str = ""
    """What the first command is for."""
    files: tuple[tuple[str, Path], ...] = ()
    """What a file is, and where it is."""


def print_screen(screen: Screen, console: Console) -> None:
    """Prints a panel on a terminal, and plain lines elsewhere."""
    if not console.is_terminal:
        console.print(plain_screen(screen), highlight=False, markup=False, soft_wrap=True)
        return
    width = min(console.width, WIDTH)
    rule = Text(f" {'─' * (width - 2)}", style="dim")
    console.print("", rule, Padding(_answer(screen), (0, 1)), sep="\n", width=width, highlight=False)
    # The terminal wraps what is still too wide, so that commands and paths can be copied.
    for line in _last_lines(screen, width - 2):
        console.print(Text.assemble(" ", line), soft_wrap=True, highlight=False)
    console.print(rule)


def _answer(screen: Screen) -> RenderableType:
    """Headline, tables and notes."""
    parts: list[RenderableType] = [Text(screen.headline, style="bold")]
    for table in screen.tables:
        parts += [Text(""), *([Text(table.title)] if table.title else []), _rich_table(table)]
        parts += [Text(table.legend, style="dim")] if table.legend else []
    parts += [Text("")] if screen.notes else []
    return Group(*parts, *(_bullet(note) for note in _shown(screen)))


def _last_lines(screen: Screen, width: int) -> list[Text]:
    """The next commands, and the files."""
    lines = [Text(""), Text(_next(screen))] if screen.commands else []
    lines += [Text(line, style="bold") for line in _command_lines(screen, width)]
    lines += [Text("")] if screen.files else []
    return lines + [Text.assemble(f"{what}: ", (str(path), "bold")) for what, path in screen.files]


def plain_screen(screen: Screen) -> str:
    """Lines without styles, boxes and typographic signs; only tables, commands and paths may exceed 80 columns."""
    lines = _wrapped(screen.headline)
    for table in screen.tables:
        lines += ["", *([table.title] if table.title else []), *_plain_table(table), *_wrapped(table.legend)]
    lines += [""] if screen.notes else []
    lines += [line for note in _shown(screen) for line in _wrapped(str(note), "- ", _INDENT)]
    lines = [plain(line) for line in lines]
    # Paths keep their signs.
    lines += ["", _next(screen), *_command_lines(screen, PLAIN_WIDTH)] if screen.commands else []
    lines += [""] if screen.files else []
    lines += [f"{what}: {path}" for what, path in screen.files]
    return "\n".join(lines)


def more_words(what: str, count: int) -> str:
    """`, with 3 more notes`; empty if there are none."""
    return f", with {count} more {what}{'s' * (count > 1)}" if count > 0 else ""


def _shown(screen: Screen) -> tuple[Note, ...]:
    return screen.notes[:MOST_NOTES]


def _next(screen: Screen) -> str:
    return f"Next: {screen.commands_note}".rstrip()


def _wrapped(text: str, first: str = "", later: str = "") -> list[str]:
    """Lines of at most 80 columns; words with hyphens, such as pointers and paths, stay whole."""
    return textwrap.wrap(
        " ".join(text.split()),
        PLAIN_WIDTH,
        initial_indent=first,
        subsequent_indent=later,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _command_lines(screen: Screen, width: int) -> list[str]:
    """The commands, indented; one that is too wide is continued after a backslash, as a shell reads it."""
    lines = []
    for words in screen.commands:
        line, *parts = _parts(words)
        line = _INDENT + line
        for index, part in enumerate(parts):
            end = "" if index == len(parts) - 1 else " \\"
            if cell_len(f"{line} {part}{end}") > width:
                lines.append(f"{line} \\")
                line = 2 * _INDENT + part
            else:
                line += f" {part}"
        lines.append(line)
    return lines


def _parts(words: Sequence[str]) -> list[str]:
    """Quoted words; the program with its command, and each option with its value, stay on one line."""
    quoted = [shlex.quote(word) for word in words]
    parts = [" ".join(quoted[:2])]
    for word in quoted[2:]:
        is_value = parts[-1].startswith("--") and " " not in parts[-1] and not word.startswith("--")
        parts = [*parts[:-1], f"{parts[-1]} {word}"] if is_value else [*parts, word]
    return parts


def _rich_table(table: ScreenTable) -> Table:
    drawn = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False, show_header=any(table.heads))
    for index, head in enumerate(table.heads):
        drawn.add_column(head, no_wrap=index >= table.wraps, overflow="fold" if index < table.wraps else "ellipsis")
    for row in table.rows:
        drawn.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row.cells), style=row.style)
    return drawn


def _plain_table(table: ScreenTable) -> list[str]:
    heads = [table.heads] if any(table.heads) else []
    rows = [[plain(str(cell)) for cell in cells] for cells in (*heads, *(row.cells for row in table.rows))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _bullet(note: Note) -> Table:
    bullet = Table.grid(padding=(0, 1, 0, 0))
    bullet.add_row("-", Text(str(note), overflow="fold"), style="dim")
    return bullet
