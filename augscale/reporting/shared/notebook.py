"""Results as small pieces of HTML, which notebooks show for a result object (`_repr_html_`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from augscale.reporting.shared.templates import image_source, render
from augscale.reporting.shared.wording import NOTHING, interval, number


def notebook_html(
    headline: str,
    columns: Sequence[str] = (),
    rows: Sequence[Sequence[str]] = (),
    *,
    picture: Path | None = None,
    notes: Sequence[str] = (),
    page: Path | None = None,
) -> str:
    """A headline, then what is given of: table, picture, notes, link to a page.

    Args:
        picture: a file, which is put into the HTML; a format that browsers do not show is left out.
        page: a file to link to.
    """
    return str(
        render(
            "shared/notebook.html",
            headline=headline,
            columns=columns,
            rows=rows,
            picture=image_source(picture.read_bytes()) if picture and picture.is_file() else "",
            notes=notes,
            page=str(page) if page else "",
        )
    )


def estimate(value: float | None, bounds: tuple[float, float] | None, digits: int = 3) -> str:
    """`0.812 (0.790 to 0.833)`; a dash for no value."""
    if value is None:
        return NOTHING
    return number(value, digits) + (f" ({interval(bounds, digits=digits)})" if bounds else "")
