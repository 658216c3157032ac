"""Numbers and tables as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from augscale.statistics.ranking import Correlation
from benchmarks.evidence.question import Mean

MISSING = "–"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" + "--:|" * (len(header) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def area(value: float | None) -> str:
    """An AUROC, ".843"."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:.3f}".removeprefix("0")


def signed(value: float | None, digits: int = 3) -> str:
    """A difference or correlation with its sign, "+.012"."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:+.{digits}f}"
    return text if abs(float(text)) >= 1 else text[0] + text[2:]


def between(interval: tuple[float, float] | None, digits: int = 3, *, sign: bool = True) -> str:
    """An interval, " [+.001, +.023]"; empty where there is none."""
    if interval is None:
        return ""
    low, high = (signed(end, digits) if sign else area(end) for end in interval)
    return f" [{low}, {high}]"


def correlation(found: Correlation) -> str:
    return signed(found.value, 2) + between(found.interval, 2)


def correlation_difference(found: tuple[float, tuple[float, float] | None] | None) -> str:
    return MISSING if found is None else signed(found[0], 2) + between(found[1], 2)


def mean(found: Mean | None) -> str:
    """A mean AUROC with its interval."""
    return MISSING if found is None else area(found.mean) + between(found.interval, sign=False)


def difference(found: Mean | None, adjusted: float | None = None) -> str:
    """A mean difference with its interval and p-values."""
    if found is None:
        return MISSING
    p = "" if found.p is None else f" p {p_value(found.p)}"
    p += "" if adjusted is None else f" ({p_value(adjusted)})"
    return signed(found.mean) + between(found.interval) + p


def p_value(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")
