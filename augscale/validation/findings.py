"""From measured networks to correlations, regrets and sentences. Pure: nothing is read or trained here."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from augscale.statistics.correlation_table import CorrelationTable, correlation_table
from augscale.statistics.ranking import Correlation, Regret, rank_correlation, regret
from augscale.validation.measuring import Measured
from augscale.validation.outcomes import Outcome, OutcomeName, reliability
from augscale.validation.result import CorrelationCell, MetricColumn, NetworkRow, OutcomeColumn, RegretRow
from augscale.validation.score_metrics import ScoreMetric

STUDY_KEY = "study/score"
NO_INTERVAL = "no interval: in too many resamples of trials and images all values are equal"


class Comparison:
    """The trials that count, as arrays.

    Args:
        measured: of each trial that counts; at least one.
        names: of the trials.
        references: measured networks that trials have to beat, by name.
        metrics: the columns of scores.
    """

    def __init__(
        self,
        measured: Sequence[Measured],
        names: Sequence[str],
        references: dict[str, Measured],
        metrics: Sequence[ScoreMetric],
        *,
        bootstrap: int,
        seed: int,
    ) -> None:
        self.names, self.references, self.bootstrap, self.seed = list(names), references, bootstrap, seed
        self.metrics = [metric for metric in metrics if any(m.scores.get(metric.key) is not None for m in measured)]
        self.outcome_names = list(measured[0].outcomes)
        self.outcomes = [[m.outcomes[name] for m in measured] for name in self.outcome_names]
        self.values = np.array([[o.value for o in column] for column in self.outcomes])
        self.draws = np.array([np.stack([o.draws for o in column], axis=1) for column in self.outcomes])
        rows = [[m.scores.get(metric.key) for m in measured] for metric in self.metrics]
        self.scores = np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=np.float64)
        self.table: CorrelationTable = correlation_table(
            self.scores, self.values, self.draws, bootstrap=bootstrap, seed=seed
        )

    def metric_columns(self) -> list[MetricColumn]:
        return [MetricColumn(**asdict(metric)) for metric in self.metrics]

    def outcome_columns(self, test_images: dict[str, int]) -> list[OutcomeColumn]:
        """The outcomes, and how many trials beat each reference in them."""
        columns = []
        for index, name in enumerate(self.outcome_names):
            above = {
                reference: int((self.values[index] > found.outcomes[name].value).sum())
                for reference, found in self.references.items()
            }
            columns.append(
                OutcomeColumn(
                    key=name.key,
                    dataset=name.dataset,
                    protocol=name.protocol,
                    metric=name.metric,
                    label=name.label,
                    test_images=test_images.get(name.dataset, sum(test_images.values())),
                    reliability=reliability(self.values[index], self.draws[index]),
                    above=above,
                )
            )
        return columns

    def cells(self) -> list[CorrelationCell]:
        """Every metric with every outcome."""
        return [
            self._cell(k, d, metric, name)
            for k, metric in enumerate(self.metrics)
            for d, name in enumerate(self.outcome_names)
        ]

    def regret(self, outcome: OutcomeName) -> Regret:
        """Of the study's score in one outcome."""
        index = self.outcome_names.index(outcome)
        column = self.outcomes[index]
        score = self.scores[[metric.key for metric in self.metrics].index(STUDY_KEY)]
        return regret(
            score,
            self.values[index],
            names=self.names,
            outcome_draws=self.draws[index] if self.draws.shape[1] else None,
            outcome_halves=_halves(column),
            bootstrap=self.bootstrap,
            seed=self.seed,
        )

    def regret_rows(self) -> list[RegretRow]:
        return [RegretRow(outcome=name.key, values=asdict(self.regret(name))) for name in self.outcome_names]

    def _cell(self, k: int, d: int, metric: ScoreMetric, name: OutcomeName) -> CorrelationCell:
        scores, values, table = self.scores[k], self.values[d], self.table
        known = np.isfinite(scores)
        note = "" if known.all() else f"{int((~known).sum())} trials have no value"
        cost = None
        if known.any():
            best = int(np.argmax(np.where(known, scores, -np.inf)))
            cost = float(values[known].max() - values[best])
        if known.all() and np.isfinite(table.spearman[k, d]):
            bounds = _pair(table.spearman_low[k, d], table.spearman_high[k, d])
            return CorrelationCell(
                score=metric.key,
                outcome=name.key,
                n=len(values),
                spearman=float(table.spearman[k, d]),
                spearman_interval=bounds,
                kendall=float(table.kendall[k, d]),
                kendall_interval=_pair(table.kendall_low[k, d], table.kendall_high[k, d]),
                p_value=float(table.p_values[k, d]),
                regret=cost,
                note="" if bounds or not self.bootstrap else NO_INTERVAL,
            )
        draws = self.draws[d][:, known] if self.draws.shape[1] else None
        options: dict[str, Any] = {"outcome_draws": draws, "bootstrap": self.bootstrap, "seed": self.seed}
        rho: Correlation = rank_correlation(scores[known], values[known], **options)
        tau: Correlation = rank_correlation(scores[known], values[known], kind="kendall", **options)
        return CorrelationCell(
            score=metric.key,
            outcome=name.key,
            n=int(known.sum()),
            spearman=rho.value,
            spearman_interval=rho.interval,
            kendall=tau.value,
            kendall_interval=tau.interval,
            p_value=None,
            regret=cost,
            note="; ".join(part for part in (note, rho.note) if part),
        )


def correlations_csv(cells: Sequence[CorrelationCell]) -> str:
    """A row per metric and outcome."""
    names = ["score", "outcome", "n", "spearman", "spearman_low", "spearman_high"]
    names += ["kendall", "kendall_low", "kendall_high", "p_value", "regret", "note"]
    rows = []
    for cell in cells:
        values = asdict(cell)
        for kind in ("spearman", "kendall"):
            low, high = values.pop(f"{kind}_interval") or (None, None)
            values |= {f"{kind}_low": low, f"{kind}_high": high}
        rows.append(values)
    return _csv(names, rows)


def networks_csv(rows: Sequence[NetworkRow]) -> str:
    """A row per trial and reference: its metrics (higher is better) and outcomes with intervals."""
    keys = list(dict.fromkeys(key for row in rows for key in row.scores))
    outcomes = list(dict.fromkeys(key for row in rows for key in row.outcomes))
    names = ["name", "kind", "number", "state", "used", "reason", *keys]
    names += [f"{key}{suffix}" for key in outcomes for suffix in ("", " low", " high")]
    lines = []
    for row in rows:
        values: dict[str, Any] = {name: getattr(row, name) for name in names[:6]} | dict(row.scores)
        for key in row.outcomes:
            low, high = row.outcome_intervals[key] or (None, None)
            values |= {key: row.outcomes[key], f"{key} low": low, f"{key} high": high}
        lines.append(values)
    return _csv(names, lines)


def regrets_csv(rows: Sequence[RegretRow]) -> str:
    """A row per outcome and way to choose."""
    names = ["outcome", "choice", "name", "value", "regret", "regret_low", "regret_high"]
    names += ["gain", "gain_low", "gain_high"]
    lines: list[dict[str, Any]] = []
    for row in rows:
        v = row.values
        low, high = v["interval"] or (None, None)
        own = {"choice": "score", "name": v["pick"], "value": v["pick_outcome"], "regret": v["regret"]}
        lines.append({"outcome": row.outcome, **own, "regret_low": low, "regret_high": high})
        for choice, value in (("labels", "best_outcome"), ("labels corrected", "best_corrected"),
                              ("labels cross-fitted", "best_crossfitted")):  # fmt: skip
            lines.append({"outcome": row.outcome, "choice": choice, "name": v["best"], "value": v[value]})
        for other in v["alternatives"]:
            line = {"outcome": row.outcome, "choice": other["name"], "name": other["name"], "value": other["outcome"]}
            for kind in ("regret", "gain"):
                low, high = other[f"{kind}_interval"] or (None, None)
                line |= {kind: other[kind], f"{kind}_low": low, f"{kind}_high": high}
            lines.append(line)
    return _csv(names, lines)


def _csv(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _halves(column: Sequence[Outcome]) -> np.ndarray | None:
    """(S, 2, n), or None where the test set cannot be halved."""
    found = [outcome.halves for outcome in column]
    known = [half for half in found if half is not None]
    return np.stack(known, axis=2) if len(known) == len(found) else None


def _pair(low: float, high: float) -> tuple[float, float] | None:
    return (float(low), float(high)) if np.isfinite(low) and np.isfinite(high) else None
