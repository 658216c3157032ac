"""Finished results of an evaluation, as `evaluation.json` keeps them; light to import, computes nothing.

`to_dict` and `from_dict` are the file's two directions. Tuples become lists; numbers are finite or null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from augscale.errors import DataError

FORMAT = 1

METRIC_LABELS: dict[str, str] = {
    "auroc": "AUROC",
    "aupr": "AUPR",
    "paper_sensitivity": "Sensitivity (paper)",
    "sensitivity": "Sensitivity (standard)",
    "f1": "F1",
    "accuracy": "Top-1 accuracy",
    "released_accuracy": "One-vs-rest accuracy (released script)",
    "kappa": "Quadratic weighted kappa",
    "ece": "Calibration error",
}
"""Every metric in the order of tables, with the name that people read."""

METRIC_MEANINGS: dict[str, str] = {
    "auroc": "area under the ROC curve, one class against the rest, mean over classes; 1 best, 0.5 chance",
    "aupr": "average precision, one class against the rest, mean over classes; 1 best, a class's share is chance",
    "paper_sensitivity": "mean recall of the classes after the first, as in the paper's released script: images of "
    "class 0 (normal) do not count; predictions are the class of the highest score",
    "sensitivity": "mean recall over all classes, which is also called balanced accuracy",
    "f1": "mean F1 over classes",
    "accuracy": "share of images whose highest score is their class",
    "released_accuracy": "(TP + TN) / N of each class after the first, averaged: what the paper's released script "
    "calls accuracy; high even for a model that always says normal",
    "kappa": "agreement beyond chance, disagreements weighted by their squared distance; ordered classes only",
    "ece": "mean gap between the highest score and how often it is right, in 15 equal bins (Guo et al. 2017); 0 best",
}

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Images whose highest score lies in (low, high]; the first bin includes its lower edge."""

    low: float
    high: float
    count: int
    confidence: float | None
    """Mean highest score; None for an empty bin."""
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Test:
    """One significance test of a difference."""

    __test__ = False
    """Not for pytest to collect."""

    name: str
    """`combined`, `paired_bootstrap`, `delong` or `paired_t`."""
    p_value: float | None
    interval: Interval | None
    """95 %, of the difference."""
    covers: tuple[str, ...]
    """The kinds of chance it accounts for."""
    reason: str = ""
    """Why there is no p-value."""


@dataclass(frozen=True, kw_only=True)
class MetricSummary:
    """One metric of one cell."""

    mean: float | None
    """Over the seeds where it is defined."""
    per_seed: tuple[float | None, ...]
    seeds_t: Interval | None = None
    """95 %, Student t, of the mean over head seeds; None with fewer than two."""
    seeds_normal: Interval | None = None
    """The same, normal: what the MIDL version of the paper prints; too narrow."""
    test_images: Interval | None = None
    """95 %, stratified bootstrap over test images (patients where known) of the mean over seeds."""
    reason: str = ""
    """Why there is no value."""


@dataclass(frozen=True, kw_only=True)
class ClassSummary:
    """One class against the rest, means over seeds; curves at the summary's `grid`, rounded to four digits."""

    name: str
    support: int
    auroc: float | None
    aupr: float | None
    recall: float | None
    true_positive_rate: tuple[float, ...] = ()
    """At false positive rates of the grid; empty for external cells and absent classes."""
    precision: tuple[float, ...] = ()
    """At recalls of the grid."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One checkpoint under one protocol, trained on one dataset and tested on one, over seeds."""

    protocol: str
    checkpoint: str
    trained_on: str
    tested_on: str
    classes: tuple[str, ...]
    images: int
    patients: int | None
    """None where patients are not known: then images count as independent."""
    seeds: tuple[int, ...]
    metrics: Mapping[str, MetricSummary]
    per_class: tuple[ClassSummary, ...]
    reliability: tuple[ReliabilityBin, ...]
    """Over the predictions of all seeds together."""
    selection: tuple[Mapping[str, Any], ...]
    """What each seed chose on validation images."""
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def internal(self) -> bool:
        return self.trained_on == self.tested_on


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two checkpoints under one protocol on one test set, one metric: first minus second."""

    protocol: str
    trained_on: str
    tested_on: str
    metric: str
    first: str
    second: str
    seeds: tuple[int, ...]
    """Seeds that both have."""
    difference: float
    interval: Interval | None
    """95 %, not adjusted; of the combined test."""
    p_value: float | None
    adjusted_p: float | None
    """Holm-adjusted within the family: this protocol and metric, all pairs of checkpoints, all internal (or all
    external) test sets."""
    verdict: str
    """`better`, `worse` (first against second; adjusted p below 0.05) or `not distinguishable`."""
    covers: tuple[str, ...]
    """The kinds of chance that p and the interval account for; pre-training seeds are never among them."""
    tests: tuple[Test, ...]
    """The combined test, which decides, and the others beside it, unadjusted."""
    reason: str = ""

    @property
    def distinguishable(self) -> bool:
        return self.verdict != "not distinguishable"


@dataclass(frozen=True, kw_only=True)
class Side:
    """A protocol's view of one pair of checkpoints."""

    protocol: str
    difference: float
    """First minus second."""
    adjusted_p: float | None
    distinguishable: bool


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """Protocols that order two checkpoints differently on one test set."""

    trained_on: str
    tested_on: str
    metric: str
    first: str
    second: str
    for_first: tuple[Side, ...]
    for_second: tuple[Side, ...]

    @property
    def clear(self) -> bool:
        """Whether both orders are distinguishable: the protocols contradict each other, not only chance."""
        return any(s.distinguishable for s in self.for_first) and any(s.distinguishable for s in self.for_second)


@dataclass(frozen=True, kw_only=True)
class EvaluationSummary:
    """Everything that `evaluation.json`, the tables and the report show."""

    checkpoints: tuple[str, ...]
    protocols: tuple[str, ...]
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    disagreements: tuple[Disagreement, ...]
    """Clear ones first."""
    grid: tuple[float, ...]
    """Abscissae of the curves: false positive rate, or recall."""
    resamples: int
    covered: str
    """What no comparison covers, in words."""
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What it was made with: versions, data fingerprints, settings; plain JSON values."""
    format: int = FORMAT

    @property
    def datasets(self) -> tuple[str, ...]:
        """Internal test sets, in order of appearance."""
        return tuple(dict.fromkeys(c.tested_on for c in self.cells if c.internal))

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """External (trained on, tested on), by training set and then test set, each in order of appearance."""
        order = {
            name: i for i, name in enumerate(dict.fromkeys(n for c in self.cells for n in (c.trained_on, c.tested_on)))
        }
        found = {(c.trained_on, c.tested_on) for c in self.cells if not c.internal}
        return tuple(sorted(found, key=lambda pair: (order[pair[0]], order[pair[1]])))

    def cell(self, protocol: str, checkpoint: str, trained_on: str, tested_on: str) -> Cell | None:
        wanted = (protocol, checkpoint, trained_on, tested_on)
        return next((c for c in self.cells if (c.protocol, c.checkpoint, c.trained_on, c.tested_on) == wanted), None)

    def comparisons_of(self, protocol: str, trained_on: str, tested_on: str, metric: str) -> list[Comparison]:
        wanted = (protocol, trained_on, tested_on, metric)
        return [c for c in self.comparisons if (c.protocol, c.trained_on, c.tested_on, c.metric) == wanted]

    def select(self, protocol: str, checkpoints: Sequence[str] | None = None) -> list[Cell]:
        """Cells of one protocol."""
        return [
            c for c in self.cells if c.protocol == protocol and (checkpoints is None or c.checkpoint in checkpoints)
        ]


def to_dict(summary: EvaluationSummary) -> dict[str, Any]:
    """Plain JSON values."""
    plain: dict[str, Any] = _adapter().dump_python(summary, mode="json")
    return plain


def from_dict(values: Mapping[str, Any], source: str = "evaluation.json") -> EvaluationSummary:
    """Reads what `to_dict` made.

    Raises:
        DataError: another format, or something is missing or of the wrong type.
    """
    found = values.get("format")
    if found != FORMAT:
        raise DataError(f"{source}: format {found!r}; expected {FORMAT}, as augscale evaluate writes it")
    try:
        return _adapter().validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{source}: {where}: {first['msg']}; expected what augscale evaluate writes") from None


@cache
def _adapter() -> TypeAdapter[EvaluationSummary]:
    return TypeAdapter(EvaluationSummary)
