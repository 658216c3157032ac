"""The opening of a page: the tables and notes of the terminal's screen, so that both say the same."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from augscale.reporting.shared.screen import MOST_NOTES, Screen
from augscale.reporting.shared.templates import render

_KINDS = {"bold": "best", "dim": "clear"}
"""CSS class of a row by its style on a terminal."""


def screen_html(screen: Screen, more: Sequence[str] = ()) -> Markup:
    """HTML of a screen without its headline, commands and files.

    Args:
        screen: as a command prints it.
        more: further notes; like those that the terminal leaves out, they are collapsed.
    """
    notes = [str(note) for note in screen.notes]
    tables = [
        {
            "title": table.title,
            "heads": table.heads,
            "rows": [(_KINDS.get(row.style, ""), [str(cell) for cell in row.cells]) for row in table.rows],
            "legend": table.legend,
        }
        for table in screen.tables
    ]
    rest = [*notes[MOST_NOTES:], *more]
    return render("shared/screen.html", tables=tables, notes=notes[:MOST_NOTES], rest=rest)
