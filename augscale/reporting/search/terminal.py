"""The answer of a search for the terminal, and as plain text for logs and pipes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from augscale.reporting.search.records import Answer, Contender, VersusUntrained
from augscale.reporting.search.results import parse_answer
from augscale.reporting.shared.wording import (
    NOTHING,
    UNTRAINED,
    field_value,
    interval,
    next_command,
    number,
    score_label,
    short_scales,
    signed,
)

_TO_ASCII = str.maketrans({"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{PRIME}": "'"})
"""A log or pipe may have an encoding without these."""


def answer_lines(answer: Mapping[str, Any], run_dir: Path | None = None) -> RenderableType:
    """The answer as rich text: headline, a table of the contenders, caveats, the next command.

    Args:
        answer: the content of answer.json.
        run_dir: the run folder, for the next command.
    """
    parsed = parse_answer(answer)
    parts: list[RenderableType] = [Text(parsed.headline, style="bold")]
    if parsed.best is not None:
        parts += [Text(""), _table(parsed, score_label(str(answer.get("score_name"))))]
    parts += [Text(""), *(_bullet(caveat) for caveat in parsed.caveats)]
    if parsed.best is not None:
        parts += [Text(""), Text.assemble("Next:    ", (next_command(parsed, run_dir), "bold"))]
        if run_dir is not None:
            parts.append(Text.assemble("See why: ", (str(run_dir / "report.html"), "bold")))
    return Group(*parts)


def plain_answer(answer: Mapping[str, Any], run_dir: Path | None = None) -> str:
    """The answer as lines without styles, boxes, wrapping or typographic signs, one contender per line."""
    parsed = parse_answer(answer)
    label = score_label(str(answer.get("score_name")))
    lines = [parsed.headline]
    lines += [_plain_row(contender, parsed, label) for contender in _ordered(parsed)] if parsed.best else []
    if parsed.best and parsed.untrained:
        words, numbers = _versus_untrained(parsed.untrained, digits=3)
        lines.append(f"{UNTRAINED}: {label} {number(parsed.untrained.score)}, {words} than the best {numbers}")
    if parsed.best and parsed.null and parsed.null.still:
        lines.append(f"null: {parsed.null.sentence}")
    lines += [f"note: {caveat}" for caveat in parsed.caveats]
    if parsed.best is not None:
        lines.append(f"next: {next_command(parsed, run_dir)}")
        lines += [f"report: {run_dir / 'report.html'}"] if run_dir is not None else []
    return "\n".join(lines).translate(_TO_ASCII)


def print_answer(answer: Mapping[str, Any], run_dir: Path, console: Console) -> None:
    """Prints the answer in the form that suits where it goes."""
    if console.is_terminal:
        console.print()
        console.print(answer_lines(answer, run_dir), highlight=False)
    else:
        console.print(plain_answer(answer, run_dir), highlight=False, markup=False, soft_wrap=True)


def _bullet(line: str) -> Table:
    bullet = Table.grid(padding=(0, 1, 0, 0))
    bullet.add_row("-", Text(line), style="dim")
    return bullet


def _table(parsed: Answer, label: str) -> Table:
    """Values above, their intervals below, so that the table fits 80 columns."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    table.add_column("", overflow="fold")
    for head in ("global %", "local %", "jitter", "search", "fresh seeds", f"versus best ({label})"):
        table.add_column(head, no_wrap=True)
    for contender in _ordered(parsed):
        scales = contender.scales
        areas = [_area(scales.get(name)) for name in ("global_crops_scale", "local_crops_scale")]
        jitter, search = field_value("brightness", scales.get("brightness")), number(contender.search_score, 2)
        fresh = _two_lines(number(contender.confirm_mean, 2), interval(contender.confirm_interval, digits=2))
        cells = [contender.name, *areas, jitter, search, fresh, _two_lines(*_versus(contender, parsed))]
        table.add_row(*map(Text, cells), style="bold" if contender is parsed.best else None)
    if parsed.untrained:
        numbers = _two_lines(*_versus_untrained(parsed.untrained))
        table.add_row(UNTRAINED, "", "", "", number(parsed.untrained.score, 2), "", numbers)
    for name, score in parsed.null.scores.items() if parsed.null else ():
        table.add_row(f"{name}, no learning", "", "", "", number(score, 2), "", NOTHING)
    return table


def _versus_untrained(untrained: VersusUntrained, digits: int = 2) -> tuple[str, str]:
    """The untrained network beside the best: what the answer has, with its sign turned."""
    numbers = signed(-untrained.difference, digits)
    if untrained.interval:
        low, high = untrained.interval
        numbers += f" ({interval((-high, -low), sign=True, digits=digits)})"
    return "worse" if untrained.beaten else "not worse", numbers


def _plain_row(contender: Contender, parsed: Answer, label: str) -> str:
    parts = [short_scales(contender.scales), f"{label} {number(contender.search_score)} in the search"]
    if contender.confirm_mean is not None:
        bounds = f" ({interval(contender.confirm_interval)})" if contender.confirm_interval else ""
        parts.append(f"{number(contender.confirm_mean)}{bounds} on fresh seeds")
    words, numbers = _versus(contender, parsed, digits=3)
    if words != NOTHING:
        parts.append(f"{words}{' than the best' if words in ('worse', 'better') else ''} {numbers}".rstrip())
    return f"{contender.name}: {', '.join(parts)}"


def _versus(contender: Contender, parsed: Answer, digits: int = 2) -> tuple[str, str]:
    """A verdict on the contender beside the best, and its numbers."""
    versus = contender.versus_best
    if contender is parsed.best:
        return "best", ""
    if versus is None:
        return NOTHING, ""
    numbers = f"{signed(versus.difference, digits)} ({interval(versus.interval, sign=True, digits=digits)})"
    if not versus.distinguishable:
        return "not distinguishable", numbers
    return "better" if versus.difference > 0 else "worse", numbers


def _ordered(parsed: Answer) -> list[Contender]:
    """The best first, then as in the file."""
    return sorted(parsed.contenders, key=lambda c: c is not parsed.best)


def _area(value: Any) -> str:
    return field_value("global_crops_scale", value).replace(" to ", "–")


def _two_lines(first: str, second: str) -> str:
    return f"{first}\n{second}" if second else first
