"""A validation on a terminal, and as plain lines elsewhere."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from augscale.records.validation import STUDY_KEY, NetworkRow, ValidationRecord
from augscale.reporting.shared.wording import NOTHING, interval, number, plain, signed
from augscale.reporting.validation.section import FIRST_LEVELS


def print_validation(values: ValidationRecord, out: Path, console: Console) -> None:
    """Prints the verdict, every metric against the outcome of the headline, the notes, and the files."""
    if console.is_terminal:
        console.print(_rich(values, out), highlight=False)
    else:
        console.print(plain_validation(values, out), highlight=False, markup=False, soft_wrap=True)


def plain_validation(values: ValidationRecord, out: Path) -> str:
    """A line per sentence, metric, network and note, ASCII only."""
    label = values.primary_outcome.label
    lines = [values.headline, *values.sentences]
    lines += [f"{metric}: Spearman {rho} ({bounds}), Kendall {tau}" for metric, rho, bounds, tau in _cells(values)]
    lines += [f"{row.name}: score {_score(row)}, {label} {_outcome(values, row)}" for row in _measured(values)]
    lines += [f"note: {note}" for note in values.notes]
    lines += [f"results: {out / 'validation.html'}, {out / 'validation.json'}"]
    return plain("\n".join(lines))


def _rich(values: ValidationRecord, out: Path) -> RenderableType:
    metrics = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for name in ("metric", "Spearman", "95 %", "Kendall"):
        metrics.add_column(name, justify="left" if name == "metric" else "right", no_wrap=True)
    for line in _cells(values):
        metrics.add_row(*line)
    networks = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for name in ("", "score", values.primary_outcome.label):
        networks.add_column(name, justify="left" if not name else "right")
    for row in _measured(values):
        networks.add_row(Text(row.name, style="" if row.used else "dim"), _score(row), _outcome(values, row))
    parts: list[RenderableType] = [Text(values.headline, style="bold"), Text("")]
    parts += [Text(sentence) for sentence in values.sentences]
    parts += [Text(""), metrics, Text(""), networks, Text("")]
    parts += [Text(f"- {note}", style="dim") for note in values.notes]
    parts.append(Text.assemble("See: ", (str(out / "validation.html"), "bold")))
    return Group(*parts)


def _cells(values: ValidationRecord) -> list[tuple[str, str, str, str]]:
    """Label, rho, interval, tau of each metric against the primary outcome."""
    found = []
    for metric in values.metrics:
        if metric.level in FIRST_LEVELS:
            cell = values.correlation(metric.key, values.primary)
            rho, tau = (NOTHING if value is None else signed(value, 2) for value in (cell.spearman, cell.kendall))
            bounds = interval(cell.spearman_interval, sign=True, digits=2) or "no interval"
            found.append((f"{metric.label}{' (sign reversed)' if metric.turned else ''}", rho, bounds, tau))
    return found


def _measured(values: ValidationRecord) -> list[NetworkRow]:
    """Trials and references, best outcome first."""
    rows = [row for row in values.rows if values.primary in row.outcomes]
    return sorted(rows, key=lambda row: -row.outcomes[values.primary])


def _score(row: NetworkRow) -> str:
    return number(row.scores.get(STUDY_KEY))


def _outcome(values: ValidationRecord, row: NetworkRow) -> str:
    bounds = interval(row.outcome_intervals[values.primary])
    return number(row.outcomes[values.primary]) + (f" ({bounds})" if bounds else "")
