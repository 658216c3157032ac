"""Computes correlations and regrets from measured networks. Reads no file and trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.records.evaluation import Interval
from augscale.records.validation import STUDY_KEY, CorrelationCell, MetricColumn, OutcomeColumn, Regret, RegretRow
from augscale.statistics.arrays import Floats
from augscale.statistics.correlation_table import correlation_table
from augscale.statistics.ranking import rank_correlation
from augscale.statistics.regret import regret
from augscale.validation.network_results import NetworkResults
from augscale.validation.outcomes import Outcome, OutcomeName, reliability

NO_INTERVAL = "no interval: in too many resamples of trials and images all values are equal"


class Comparison:
    """The trials that count, as arrays.

    Args:
        measured: results of each trial that is compared; at least one.
        names: names of these trials.
        references: measured networks that trials have to beat, by name.
        metrics: the columns of scores; those that no trial has are left out.
        bootstrap: resamples of trials for the intervals.
        seed: of the resamples.
    """

    def __init__(
        self,
        measured: Sequence[NetworkResults],
        names: Sequence[str],
        references: dict[str, NetworkResults],
        metrics: Sequence[MetricColumn],
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
        self.table = correlation_table(self.scores, self.values, self.draws, bootstrap=bootstrap, seed=seed)

    def outcome_columns(self, test_images: dict[str, int]) -> list[OutcomeColumn]:
        """The outcomes, with the number of trials that beat each reference.

        Args:
            test_images: by dataset.
        """
        return [
            OutcomeColumn(
                key=name.key,
                dataset=name.dataset,
                protocol=name.protocol,
                metric=name.metric,
                label=name.label,
                test_images=test_images.get(name.dataset, sum(test_images.values())),
                reliability=reliability(values, draws),
                above={
                    reference: int((values > found.outcomes[name].value).sum())
                    for reference, found in self.references.items()
                },
            )
            for name, values, draws in zip(self.outcome_names, self.values, self.draws, strict=True)
        ]

    def cells(self) -> list[CorrelationCell]:
        """One cell for each pair of metric and outcome."""
        return [self._cell(k, d) for k in range(len(self.metrics)) for d in range(len(self.outcome_names))]

    def regret(self, outcome: OutcomeName) -> Regret:
        """Regret of the study's score in one outcome."""
        index = self.outcome_names.index(outcome)
        score = self.scores[[metric.key for metric in self.metrics].index(STUDY_KEY)]
        return regret(
            score,
            self.values[index],
            names=self.names,
            outcome_draws=self.draws[index] if self.draws.shape[1] else None,
            outcome_halves=_halves(self.outcomes[index]),
            bootstrap=self.bootstrap,
            seed=self.seed,
        )

    def regret_rows(self) -> list[RegretRow]:
        return [RegretRow(outcome=name.key, values=self.regret(name)) for name in self.outcome_names]

    def _cell(self, k: int, d: int) -> CorrelationCell:
        known = np.isfinite(self.scores[k])
        cost = None
        if known.any():
            values = self.values[d]
            cost = float(values[known].max() - values[np.argmax(np.where(known, self.scores[k], -np.inf))])
        inside = known.all() and np.isfinite(self.table.spearman[k, d])
        return CorrelationCell(
            score=self.metrics[k].key,
            outcome=self.outcome_names[d].key,
            n=int(known.sum()),
            regret=cost,
            **(self._from_table(k, d) if inside else self._without_missing(k, d, known)),
        )

    def _from_table(self, k: int, d: int) -> dict[str, Any]:
        table = self.table
        bounds = _pair(table.spearman_low[k, d], table.spearman_high[k, d])
        return {
            "spearman": float(table.spearman[k, d]),
            "spearman_interval": bounds,
            "kendall": float(table.kendall[k, d]),
            "kendall_interval": _pair(table.kendall_low[k, d], table.kendall_high[k, d]),
            "p_value": float(table.p_values[k, d]),
            "note": "" if bounds or not self.bootstrap else NO_INTERVAL,
        }

    def _without_missing(self, k: int, d: int, known: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """A cell that the table lacks, because a column is constant or some trials have no value and are skipped."""
        draws = self.draws[d][:, known] if self.draws.shape[1] else None
        scores, values = self.scores[k][known], self.values[d][known]
        options: dict[str, Any] = {"outcome_draws": draws, "bootstrap": self.bootstrap, "seed": self.seed}
        rho = rank_correlation(scores, values, **options)
        tau = rank_correlation(scores, values, kind="kendall", **options)
        missing = "" if known.all() else f"{int((~known).sum())} trials have no value"
        return {
            "spearman": rho.value,
            "spearman_interval": rho.interval,
            "kendall": tau.value,
            "kendall_interval": tau.interval,
            "note": "; ".join(part for part in (missing, rho.note) if part),
        }


def _halves(column: Sequence[Outcome]) -> Floats | None:
    """(S, 2, n), or None where the test set cannot be halved."""
    known = [outcome.halves for outcome in column if outcome.halves is not None]
    return np.stack(known, axis=2) if len(known) == len(column) else None


def _pair(low: float, high: float) -> Interval | None:
    return (float(low), float(high)) if np.isfinite(low) and np.isfinite(high) else None
