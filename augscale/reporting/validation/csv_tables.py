"""The tables of a validation as CSV text: correlations, networks and regrets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from augscale.records.evaluation import Interval
from augscale.records.validation import CorrelationCell, NetworkRow, RegretRow, ValidationRecord


def csv_tables(validation: ValidationRecord) -> dict[str, str]:
    """Text by file name."""
    return {
        "correlations.csv": _correlations(validation.correlations),
        "networks.csv": _networks(validation.rows),
        "regrets.csv": _regrets(validation.regrets),
    }


def _correlations(cells: Sequence[CorrelationCell]) -> str:
    """A row per metric and outcome."""
    names = ["score", "outcome", "n", "spearman", "spearman_low", "spearman_high"]
    names += ["kendall", "kendall_low", "kendall_high", "p_value", "regret", "note"]
    return _csv(
        names,
        [
            dict(cell)
            | _bounds("spearman", cell.spearman_interval, separator="_")
            | _bounds("kendall", cell.kendall_interval, separator="_")
            for cell in cells
        ],
    )


def _networks(rows: Sequence[NetworkRow]) -> str:
    """A row per trial and reference: its metrics (higher is better) and outcomes with intervals."""
    outcomes = list(dict.fromkeys(key for row in rows for key in row.outcomes))
    names = ["name", "kind", "number", "state", "used", "reason"]
    names += dict.fromkeys(key for row in rows for key in row.scores)
    names += [f"{key}{suffix}" for key in outcomes for suffix in ("", " low", " high")]
    lines = []
    for row in rows:
        line = dict(row) | dict(row.scores) | dict(row.outcomes)
        for key in row.outcomes:
            line |= _bounds(key, row.outcome_intervals[key], separator=" ")
        lines.append(line)
    return _csv(names, lines)


def _regrets(rows: Sequence[RegretRow]) -> str:
    """A row per outcome and selection rule."""
    names = ["outcome", "choice", "name", "value", "regret", "regret_low", "regret_high"]
    names += ["gain", "gain_low", "gain_high"]
    lines: list[dict[str, Any]] = []
    for row in rows:
        v = row.values
        own = {"choice": "score", "name": v.pick, "value": v.pick_outcome, "regret": v.regret}
        found = [own | _bounds("regret", v.interval, separator="_")]
        found += [
            {"choice": "labels", "name": v.best, "value": v.best_outcome},
            {"choice": "labels corrected", "name": v.best, "value": v.best_corrected},
            {"choice": "labels cross-fitted", "name": v.best, "value": v.best_crossfitted},
        ]
        for other in v.alternatives:
            line = {"choice": other.name, "name": other.name, "value": other.outcome}
            line |= {"regret": other.regret} | _bounds("regret", other.regret_interval, separator="_")
            line |= {"gain": other.gain} | _bounds("gain", other.gain_interval, separator="_")
            found.append(line)
        lines += [{"outcome": row.outcome} | line for line in found]
    return _csv(names, lines)


def _bounds(name: str, interval: Interval | None, *, separator: str) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {f"{name}{separator}low": low, f"{name}{separator}high": high}


def _csv(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n", restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
