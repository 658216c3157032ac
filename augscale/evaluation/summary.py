"""Summarizes predictions: means with intervals, comparisons of checkpoints, disagreements of protocols.

Seeds are averaged first. Every checkpoint of one protocol and test set is then scored on the same resamples of the test
images, so that comparisons are paired. The verdict of a comparison comes from the combined test (test images and head
seeds, `intervals.combined_test`) after Holm's correction; paired bootstrap, DeLong and the paired t-test over seeds are
reported with it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from augscale.errors import DataError
from augscale.evaluation.cells import CURVE_GRID, Runs, build_cell, gather
from augscale.evaluation.predictions import Predictions
from augscale.records.evaluation import Cell, Comparison, Disagreement, EvaluationSummary, Side, SignificanceTest
from augscale.statistics.arrays import Floats
from augscale.statistics.delong import AurocParts, auroc_parts, delong_test
from augscale.statistics.intervals import (
    NOT_COVERED,
    TEST_IMAGES,
    combined_test,
    holm,
    paired_t_test,
    verdict,
)
from augscale.statistics.stratified_bootstrap import RESAMPLES, bootstrap_p, percentile_interval, resample_weights

COMPARED = ("auroc", "aupr", "paper_sensitivity", "sensitivity", "f1", "accuracy", "kappa")


def summarize(
    predictions: Sequence[Predictions],
    *,
    checkpoints: Sequence[str] | None = None,
    protocols: Sequence[str] | None = None,
    ordered: Collection[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
    notes: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> EvaluationSummary:
    """All results of an evaluation.

    Args:
        predictions: finished runs in any order; at most one per protocol, checkpoint, datasets and seed.
        checkpoints, protocols: their order; None takes the order of appearance. Unnamed ones come last.
        ordered: test sets whose class numbers are grades, for quadratic weighted kappa.
        resamples: number of resamples of the test images.
        seed: of the resamples.
        notes: for the report, e.g. on datasets that are missing.
        facts: versions, data and settings of the evaluation; plain JSON values.
    Raises:
        DataError: two runs are the same, or seeds of one cell were tested on different images.
    """
    _refuse_doubles(predictions)
    checkpoint_order = tuple(dict.fromkeys([*(checkpoints or ()), *(p.checkpoint for p in predictions)]))
    protocol_order = tuple(dict.fromkeys([*(protocols or ()), *(p.protocol for p in predictions)]))
    by_test_set: dict[tuple[str, str], list[Predictions]] = defaultdict(list)
    for p in predictions:
        by_test_set[p.trained_on, p.tested_on].append(p)
    cells: list[Cell] = []
    comparisons: list[Comparison] = []
    said = list(notes)
    weights = _SharedWeights(resamples, seed)
    for (_, tested_on), members in by_test_set.items():
        for protocol in protocol_order:
            of_checkpoint = [
                [p for p in members if (p.protocol, p.checkpoint) == (protocol, checkpoint)]
                for checkpoint in checkpoint_order
            ]
            group = [gather(runs, weights.of(runs[0]), ordered=tested_on in ordered) for runs in of_checkpoint if runs]
            cells += [build_cell(runs) for runs in group]
            found, problems = compare(group)
            comparisons += found
            said += problems
    comparisons = adjust(comparisons)
    return EvaluationSummary(
        checkpoints=tuple(c for c in checkpoint_order if any(cell.checkpoint == c for cell in cells)),
        protocols=tuple(p for p in protocol_order if any(cell.protocol == p for cell in cells)),
        cells=tuple(cells),
        comparisons=tuple(comparisons),
        disagreements=find_disagreements(comparisons),
        grid=CURVE_GRID,
        resamples=resamples,
        covered=NOT_COVERED,
        notes=tuple(dict.fromkeys(said)),
        facts=dict(facts or {}),
    )


class _SharedWeights:
    """Resamples of the last test set, kept because all its checkpoints share them."""

    def __init__(self, resamples: int, seed: int) -> None:
        self._resamples, self._seed = resamples, seed
        self._last: tuple[bytes, Floats] | None = None

    def of(self, run: Predictions) -> Floats:
        key = run.labels.tobytes() + (b"" if run.groups is None else b"|" + run.groups.tobytes())
        if self._last is None or self._last[0] != key:
            weights = resample_weights(run.labels, run.groups, resamples=self._resamples, seed=self._seed)
            self._last = key, weights
        return self._last[1]


def compare(group: Sequence[Runs]) -> tuple[list[Comparison], list[str]]:
    """Every pair of checkpoints of one protocol on one test set, in every compared metric, p not yet adjusted.

    Returns:
        The comparisons, and a note for each pair that cannot be compared.
    """
    found: list[Comparison] = []
    notes = []
    for first, second in itertools.combinations(group, 2):
        a, b = first.runs[0], second.runs[0]
        same = a.image_ids == b.image_ids and a.classes == b.classes and np.array_equal(a.labels, b.labels)
        if not same:
            notes.append(f"{a.title} and {b.checkpoint} were tested on different images, so they are not compared")
            continue
        seeds = tuple(s for s in first.seeds if s in second.seeds)
        if not seeds:
            notes.append(f"{a.title} and {b.checkpoint} share no seed, so they are not compared")
            continue
        pair = _Pair(first=first, second=second, seeds=seeds)
        found += [comparison for metric in COMPARED if (comparison := pair.compare(metric)) is not None]
    return found, notes


def adjust(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm-adjusted p-values and verdicts.

    A family is all pairs of checkpoints on all internal, or all external, test sets in one protocol and metric.
    """
    families: dict[tuple[str, str, bool], list[int]] = defaultdict(list)
    for index, c in enumerate(comparisons):
        families[c.protocol, c.metric, c.trained_on == c.tested_on].append(index)
    adjusted = list(comparisons)
    for members in families.values():
        for index, p in zip(members, holm([comparisons[i].p_value for i in members]), strict=True):
            c = comparisons[index]
            adjusted[index] = c.model_copy(update={"adjusted_p": p, "verdict": verdict(c.difference, p)})
    return adjusted


def find_disagreements(comparisons: Sequence[Comparison]) -> tuple[Disagreement, ...]:
    """Pairs of checkpoints that two protocols rank in opposite order; disagreements beyond chance come first."""
    by_question: dict[tuple[str, str, str, str, str], list[Comparison]] = defaultdict(list)
    for c in comparisons:
        by_question[c.trained_on, c.tested_on, c.metric, c.first, c.second].append(c)
    found = []
    for (trained_on, tested_on, metric, first, second), answers in by_question.items():
        sides = [
            Side(
                protocol=c.protocol, difference=c.difference, adjusted_p=c.adjusted_p, distinguishable=c.distinguishable
            )
            for c in answers
        ]
        for_first = tuple(s for s in sides if s.difference > 0)
        for_second = tuple(s for s in sides if s.difference < 0)
        if for_first and for_second:
            found.append(
                Disagreement(
                    trained_on=trained_on,
                    tested_on=tested_on,
                    metric=metric,
                    first=first,
                    second=second,
                    for_first=for_first,
                    for_second=for_second,
                )
            )
    return tuple(sorted(found, key=lambda d: not d.clear))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pair:
    first: Runs
    second: Runs
    seeds: tuple[int, ...]

    def compare(self, metric: str) -> Comparison | None:
        """The comparison in one metric; None if either checkpoint has no value."""
        values = [self._values(runs, metric) for runs in (self.first, self.second)]
        if any(v is None for column in values for v in column):
            return None
        a, b = ([float(v) for v in column if v is not None] for column in values)
        seed_differences = [x - y for x, y in zip(a, b, strict=True)]
        images = self._replicates(self.first, metric) - self._replicates(self.second, metric)
        decisive = combined_test(seed_differences, images)
        tests = [decisive, _bootstrap(images)]
        if metric == "auroc":
            labels, groups = self.first.runs[0].labels, self.first.runs[0].groups
            tests.append(delong_test(labels, self._parts(self.first), self._parts(self.second), groups))
        tests.append(paired_t_test(a, b))
        one = self.first.runs[0]
        return Comparison(
            protocol=one.protocol,
            trained_on=one.trained_on,
            tested_on=one.tested_on,
            metric=metric,
            first=one.checkpoint,
            second=self.second.runs[0].checkpoint,
            seeds=self.seeds,
            difference=float(np.mean(seed_differences)),
            interval=decisive.interval,
            p_value=decisive.p_value,
            covers=decisive.covers,
            tests=tuple(tests),
            reason=decisive.reason,
        )

    def _values(self, runs: Runs, metric: str) -> list[float | None]:
        return [runs.measured[runs.seeds.index(s)].values[metric] for s in self.seeds]

    def _replicates(self, runs: Runs, metric: str) -> Floats:
        means: Floats = np.mean([runs.replicates[runs.seeds.index(s)][metric] for s in self.seeds], axis=0)
        return means

    def _parts(self, runs: Runs) -> AurocParts | None:
        return auroc_parts(runs.runs[0].labels, [runs.runs[runs.seeds.index(s)].scores for s in self.seeds])


def _bootstrap(differences: Floats) -> SignificanceTest:
    return SignificanceTest(
        name="paired_bootstrap",
        p_value=bootstrap_p(differences),
        interval=percentile_interval(differences),
        covers=(TEST_IMAGES,),
    )


def _refuse_doubles(predictions: Sequence[Predictions]) -> None:
    seen = set()
    for p in predictions:
        key = (p.protocol, p.checkpoint, p.trained_on, p.tested_on, p.seed)
        if key in seen:
            raise DataError(f"{p.title}: two runs; expected one for each protocol, checkpoint, dataset and seed")
        seen.add(key)
