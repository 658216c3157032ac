"""The results of an evaluation on a terminal, and as plain lines elsewhere."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from augscale.records.evaluation import Cell, Comparison, EvaluationSummary
from augscale.reporting.shared.wording import NOTHING, interval, number, plain, signed

SHOWN = ("auroc", "aupr")


def print_evaluation(summary: EvaluationSummary, out: Path, console: Console) -> None:
    """Prints means and intervals per protocol and dataset, distinguishable pairs, notes, and the files."""
    if console.is_terminal:
        console.print(_rich(summary, out), highlight=False)
    else:
        console.print(plain_evaluation(summary, out), highlight=False, markup=False, soft_wrap=True)


def plain_evaluation(summary: EvaluationSummary, out: Path) -> str:
    """A line per cell and per distinguishable comparison, ASCII only."""
    lines = [
        f"{cell.protocol}, {cell.where}, {cell.checkpoint}: AUROC {_value(cell, 'auroc')}, "
        f"AUPR {_value(cell, 'aupr')} ({len(cell.seeds)} seed{'s' * (len(cell.seeds) > 1)}, {cell.images} test images)"
        for cell in summary.cells
    ]
    lines += [f"comparison: {_sentence(c)}" for c in _decided(summary)]
    lines += [f"not distinguishable by AUROC: {_undecided(summary)}"]
    lines += [f"note: {note}" for note in summary.notes]
    lines += [f"results: {out / 'evaluation.html'}, {out / 'evaluation.json'}, {out / 'tables'}"]
    return plain("\n".join(lines))


def _rich(summary: EvaluationSummary, out: Path) -> RenderableType:
    parts: list[RenderableType] = []
    for protocol in summary.protocols:
        table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", title=protocol, title_justify="left")
        table.add_column("", overflow="fold")
        for checkpoint in summary.checkpoints:
            table.add_column(checkpoint, no_wrap=True)
        places = dict.fromkeys((c.trained_on, c.tested_on) for c in summary.select(protocol))
        for trained_on, tested_on in places:
            for metric in SHOWN:
                cells = summary.row(protocol, trained_on, tested_on)
                where = next(c.where for c in cells if c)
                best = max((c.metrics[metric].mean or 0.0 for c in cells if c), default=0.0)
                row = [
                    Text(_short(c, metric), style="bold" if c and c.metrics[metric].mean == best else "") for c in cells
                ]
                table.add_row(f"{where} {metric.upper()}", *row)
        parts += [table, Text("")]
    parts += [Text(_sentence(c)) for c in _decided(summary)]
    parts += [Text(f"Not distinguishable by AUROC: {_undecided(summary)}", style="dim"), Text("")]
    parts += [Text(f"- {note}", style="dim") for note in summary.notes]
    parts += [Text.assemble("See: ", (str(out / "evaluation.html"), "bold"))]
    return Group(*parts)


def _value(cell: Cell, metric: str) -> str:
    measured = cell.metrics[metric]
    if measured.mean is None:
        return f"{NOTHING} ({measured.reason})"
    bounds = interval(measured.test_images)
    return f"{number(measured.mean)} ({bounds})" if bounds else number(measured.mean)


def _short(cell: Cell | None, metric: str) -> str:
    return NOTHING if cell is None else number(cell.metrics[metric].mean)


def _decided(summary: EvaluationSummary) -> list[Comparison]:
    return [c for c in summary.comparisons if c.metric == "auroc" and c.distinguishable]


def _undecided(summary: EvaluationSummary) -> str:
    by_auroc = [c for c in summary.comparisons if c.metric == "auroc"]
    return f"{sum(not c.distinguishable for c in by_auroc)} of {len(by_auroc)} comparisons (Holm-adjusted)"


def _sentence(c: Comparison) -> str:
    bounds = f" ({interval(c.interval, sign=True)})" if c.interval else ""
    return f"{c.protocol}, {c.where}: {c.first} {c.verdict} than {c.second}, AUROC {signed(c.difference)}{bounds}"
