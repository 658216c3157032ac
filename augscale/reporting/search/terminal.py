"""The answer of a search for the terminal, and as plain text for logs and pipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from augscale.records.answer import AnswerRecord, ContenderRecord, UntrainedComparison
from augscale.reporting.shared.wording import (
    NOTHING,
    UNTRAINED,
    field_value,
    interval,
    next_command,
    number,
    plain,
    score_label,
    short_scales,
    signed,
)


def answer_lines(answer: AnswerRecord, run_dir: Path | None = None) -> RenderableType:
    """The answer as rich text: headline, a table of the contenders, caveats, the next command.

    Args:
        answer: of the search.
        run_dir: the run folder, for the next command.
    """
    parts: list[RenderableType] = [Text(answer.headline, style="bold")]
    if answer.best_contender is not None:
        parts += [Text(""), _table(answer, score_label(answer.score_name))]
    parts += [Text(""), *(_bullet(caveat) for caveat in answer.caveats)]
    if answer.best_contender is not None:
        parts += [Text(""), Text.assemble("Next:    ", (next_command(answer, run_dir), "bold"))]
        if run_dir is not None:
            parts.append(Text.assemble("See why: ", (str(run_dir / "report.html"), "bold")))
    return Group(*parts)


def plain_answer(answer: AnswerRecord, run_dir: Path | None = None) -> str:
    """The answer as lines without styles, boxes, wrapping or typographic signs, one contender per line."""
    label = score_label(answer.score_name)
    lines = [answer.headline]
    lines += [_plain_row(contender, answer, label) for contender in _ordered(answer)] if answer.best_contender else []
    if answer.best_contender and answer.untrained:
        words, numbers = _versus_untrained(answer.untrained, digits=3)
        lines.append(f"{UNTRAINED}: {label} {number(answer.untrained.score)}, {words} than the best {numbers}")
    if answer.best_contender and answer.null and answer.null.still:
        lines.append(f"null: {answer.null_sentence}")
    lines += [f"note: {caveat}" for caveat in answer.caveats]
    if answer.best_contender is not None:
        lines.append(f"next: {next_command(answer, run_dir)}")
        lines += [f"report: {run_dir / 'report.html'}"] if run_dir is not None else []
    return plain("\n".join(lines))


def print_answer(answer: AnswerRecord, run_dir: Path, console: Console) -> None:
    """Prints the answer as a table on a terminal, as plain lines elsewhere."""
    if console.is_terminal:
        console.print()
        console.print(answer_lines(answer, run_dir), highlight=False)
    else:
        console.print(plain_answer(answer, run_dir), highlight=False, markup=False, soft_wrap=True)


def _bullet(line: str) -> Table:
    bullet = Table.grid(padding=(0, 1, 0, 0))
    bullet.add_row("-", Text(line), style="dim")
    return bullet


def _table(answer: AnswerRecord, label: str) -> Table:
    """Values above, their intervals below, so that the table fits 80 columns."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    table.add_column("", overflow="fold")
    for head in ("global %", "local %", "jitter", "search", "fresh seeds", f"versus best ({label})"):
        table.add_column(head, no_wrap=True)
    for contender in _ordered(answer):
        scales = contender.scales
        areas = [_area(scales.get(name)) for name in ("global_crops_scale", "local_crops_scale")]
        jitter, search = field_value("brightness", scales.get("brightness")), number(contender.search_score, 2)
        fresh = _two_lines(number(contender.confirm_mean, 2), interval(contender.confirm_interval, digits=2))
        cells = [contender.name, *areas, jitter, search, fresh, _two_lines(*_versus(contender, answer))]
        table.add_row(*map(Text, cells), style="bold" if contender is answer.best_contender else None)
    if answer.untrained:
        numbers = _two_lines(*_versus_untrained(answer.untrained))
        table.add_row(UNTRAINED, "", "", "", number(answer.untrained.score, 2), "", numbers)
    for null in answer.null.runs if answer.null else ():
        if null.score is not None:
            table.add_row(f"{null.name}, no learning", "", "", "", number(null.score, 2), "", NOTHING)
    return table


def _versus_untrained(untrained: UntrainedComparison, digits: int = 2) -> tuple[str, str]:
    """The untrained network minus the best: the answer's difference with its sign reversed."""
    numbers = signed(-untrained.difference, digits)
    if untrained.interval:
        low, high = untrained.interval
        numbers += f" ({interval((-high, -low), sign=True, digits=digits)})"
    return "worse" if untrained.beaten else "not worse", numbers


def _plain_row(contender: ContenderRecord, answer: AnswerRecord, label: str) -> str:
    parts = [short_scales(contender.scales), f"{label} {number(contender.search_score)} in the search"]
    if contender.confirm_mean is not None:
        bounds = f" ({interval(contender.confirm_interval)})" if contender.confirm_interval else ""
        parts.append(f"{number(contender.confirm_mean)}{bounds} on fresh seeds")
    words, numbers = _versus(contender, answer, digits=3)
    if words != NOTHING:
        parts.append(f"{words}{' than the best' if words in ('worse', 'better') else ''} {numbers}".rstrip())
    return f"{contender.name}: {', '.join(parts)}"


def _versus(contender: ContenderRecord, answer: AnswerRecord, digits: int = 2) -> tuple[str, str]:
    """The verdict of comparing the contender with the best, and its numbers."""
    versus = contender.versus_best
    if contender is answer.best_contender:
        return "best", ""
    if versus is None:
        return NOTHING, ""
    numbers = f"{signed(versus.difference, digits)} ({interval(versus.interval, sign=True, digits=digits)})"
    return versus.verdict, numbers


def _ordered(answer: AnswerRecord) -> list[ContenderRecord]:
    """The best first, then as in the file."""
    return sorted(answer.contenders, key=lambda c: c is not answer.best_contender)


def _area(value: Any) -> str:
    return field_value("global_crops_scale", value).replace(" to ", "–")


def _two_lines(first: str, second: str) -> str:
    return f"{first}\n{second}" if second else first
