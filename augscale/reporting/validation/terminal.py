"""A validation on a terminal, and as plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from augscale.reporting.shared.wording import NOTHING, interval, number, signed

SHOWN_LEVELS = ("study", "ladder", "clean", "training")


def print_validation(values: Mapping[str, Any], out: Path, console: Console) -> None:
    """The verdict, every metric against the outcome of the headline, the notes, and where the files are."""
    if console.is_terminal:
        console.print(_rich(values, out), highlight=False)
    else:
        console.print(plain_validation(values, out), highlight=False, markup=False, soft_wrap=True)


def plain_validation(values: Mapping[str, Any], out: Path) -> str:
    """A line per sentence, metric, network and note, ASCII only."""
    lines = [values["headline"], *values["sentences"]]
    lines += [f"{label}: Spearman {rho} ({bounds}), Kendall {tau}" for label, rho, bounds, tau in _cells(values)]
    lines += [f"{row['name']}: score {_score(row)}, {_outcome(values, row)}" for row in _measured(values)]
    lines += [f"note: {note}" for note in values["notes"]]
    lines += [f"results: {out / 'validation.html'}, {out / 'validation.json'}"]
    return "\n".join(lines).replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-").replace("′", "'")


def _rich(values: Mapping[str, Any], out: Path) -> RenderableType:
    metrics = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for name in ("metric", "Spearman", "95 %", "Kendall"):
        metrics.add_column(name, justify="left" if name == "metric" else "right", no_wrap=True)
    for line in _cells(values):
        metrics.add_row(*line)
    networks = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for name in ("", "score", _primary(values)["label"]):
        networks.add_column(name, justify="left" if not name else "right")
    for row in _measured(values):
        style = "" if row["used"] else "dim"
        networks.add_row(Text(row["name"], style=style), _score(row), _outcome(values, row, label=False))
    parts: list[RenderableType] = [Text(values["headline"], style="bold"), Text("")]
    parts += [Text(sentence) for sentence in values["sentences"]]
    parts += [Text(""), metrics, Text(""), networks, Text("")]
    parts += [Text(f"- {note}", style="dim") for note in values["notes"]]
    parts.append(Text.assemble("See: ", (str(out / "validation.html"), "bold")))
    return Group(*parts)


def _cells(values: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Label, rho, interval, tau of each metric against the primary outcome."""
    cells = {c["score"]: c for c in values["correlations"] if c["outcome"] == values["primary"]}
    found = []
    for metric in values["metrics"]:
        if metric["level"] in SHOWN_LEVELS:
            cell = cells[metric["key"]]
            rho, tau = (NOTHING if cell[kind] is None else signed(cell[kind], 2) for kind in ("spearman", "kendall"))
            bounds = interval(cell["spearman_interval"], sign=True, digits=2) or "no interval"
            found.append((f"{metric['label']}{' (turned round)' if metric['turned'] else ''}", rho, bounds, tau))
    return found


def _measured(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Trials and references, best outcome first."""
    rows = [row for row in values["rows"] if values["primary"] in row["outcomes"]]
    return sorted(rows, key=lambda row: -row["outcomes"][values["primary"]])


def _primary(values: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(o for o in values["outcomes"] if o["key"] == values["primary"])
    return found


def _score(row: Mapping[str, Any]) -> str:
    return number(row["scores"].get("study/score"))


def _outcome(values: Mapping[str, Any], row: Mapping[str, Any], *, label: bool = True) -> str:
    key = values["primary"]
    bounds = interval(row["outcome_intervals"][key])
    shown = number(row["outcomes"][key]) + (f" ({bounds})" if bounds else "")
    return f"{_primary(values)['label']} {shown}" if label else shown
