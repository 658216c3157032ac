"""Methods of pre-training compared on the same scales, networks, images and seeds.

The folder of the study's CSVs holds those of DINO; its folder `methods` holds a folder of CSVs for each further method,
and one more for runs of DINO that the study itself lacks. A scale's value is its mean over the seeds that both methods
have.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from augscale.config import StudyConfig, load_study
from augscale.errors import DataError
from augscale.seeding import derive_seed
from augscale.statistics.ranking import Correlation, rank_correlation
from benchmarks.evidence.correlations import Spread
from benchmarks.evidence.plan import HARD, METHODS_SEEDS, PlannedRun, methods_plan
from benchmarks.evidence.question import Mean, student
from benchmarks.evidence.records import Evidence, Run, Score, read_evidence
from benchmarks.evidence.settings import load_settings

Floats = npt.NDArray[np.float64]
ValueOf = Callable[[Evidence, Sequence[Run]], Floats]
"""One value per run; NaN where there is none."""

FOLDER = "methods"
PERMUTATIONS = 5000
SEEDS = tuple(range(METHODS_SEEDS))


@dataclass(frozen=True, kw_only=True, eq=False)
class Methods:
    """The runs of all methods.

    evidence: by name of the method, DINO first. plan: what each method was to run. bootstrap: resamples of scales.
    """

    evidence: dict[str, Evidence]
    plan: list[PlannedRun]
    bootstrap: int

    @property
    def scales(self) -> tuple[str, ...]:
        """Names of the scales that methods are compared on."""
        return tuple(dict.fromkeys(run.name for run in self.plan if "methods" in run.parts))

    @property
    def weighed(self) -> tuple[str, ...]:
        """Names of the scales that are also run with weighed pairs."""
        return tuple(dict.fromkeys(run.name.removeprefix(HARD) for run in self.plan if "hard" in run.parts))

    @property
    def datasets(self) -> tuple[str, ...]:
        return next(iter(self.evidence.values())).datasets

    def missing(self, method: str) -> list[str]:
        """Planned runs that are not there, or failed."""
        known = self.evidence[method].runs
        return [run.run_id for run in self.plan if run.run_id not in known or known[run.run_id].state != "complete"]

    def spread(self, method: str) -> Spread:
        """A method's plain runs of the compared scales and seeds."""
        evidence = self.evidence[method]
        runs = [run for row in self.runs(method) for run in row if run is not None]
        return Spread(evidence=evidence, runs=runs, bootstrap=self.bootstrap)

    def runs(self, method: str) -> list[list[Run | None]]:
        """The complete plain runs by seed and, in the order of `scales`, by scale."""
        known = self.evidence[method].runs
        found = [[known.get(f"{name}-s{seed}") for name in self.scales] for seed in SEEDS]
        return [[run if run is not None and run.state == "complete" else None for run in row] for row in found]

    def values(self, method: str, value: ValueOf) -> Floats:
        """One value by seed and scale, shape (seeds, scales)."""
        table = np.full((len(SEEDS), len(self.scales)), np.nan)
        for row, runs in enumerate(self.runs(method)):
            places = [place for place, run in enumerate(runs) if run is not None]
            if places:
                table[row, places] = value(self.evidence[method], [run for run in runs if run is not None])
        return table


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Whether two methods rank scales alike."""

    means: Correlation
    """Of the means over seeds."""
    p: float | None
    """Share of shuffles of the scales whose correlation is at least as far from 0."""
    other_seed: float | None
    """Mean correlation of one seed of a method with another seed of the other one."""
    ceiling: float | None
    """About the largest correlation of the means that the noise of seeds allows."""


def read_methods(folder: Path, bootstrap: int) -> Methods:
    """Reads the study's CSVs and those of all methods in its folder `methods`.

    Raises:
        DataError: a CSV is missing; there is one method only; a folder's runs cannot be compared with the study's; or
            two folders hold the same run.
    """
    folders = [folder, *sorted(path.parent for path in (folder / FOLDER).glob("*/runs.csv"))]
    study, settings = load_study(str(folder / "study.toml")), load_settings(folder / "measure.toml")
    found: dict[str, list[Evidence]] = {}
    for one in folders:
        other = load_study(str(one / "study.toml"))
        if load_settings(one / "measure.toml") != settings:
            raise DataError(f"{one}: was measured with other settings than {folder}; expected the same measure.toml")
        if different := incomparable(study, other):
            raise DataError(f"{one}: {different} differs from {folder}; expected runs that differ in their method only")
        found.setdefault(other.pretrain.method, []).append(read_evidence(one))
    if len(found) < 2:
        raise DataError(f"{folder / FOLDER}: no runs of another method than {study.pretrain.method}; expected CSVs")
    evidence = {method: merged(parts) for method, parts in found.items()}
    return Methods(evidence=evidence, plan=methods_plan(study.space), bootstrap=bootstrap)


def incomparable(a: StudyConfig, b: StudyConfig) -> str:
    """Names the first part besides method, recipe and local views in which two studies differ; empty: none."""
    for name in ("data", "backbone", "probe", "space"):
        if getattr(a, name) != getattr(b, name):
            return name
    if a.crops.global_size != b.crops.global_size:
        return "crops.global_size"
    return next(
        (
            f"pretrain.{name}"
            for name in ("steps", "batch_size")
            if getattr(a.pretrain, name) != getattr(b.pretrain, name)
        ),
        "",
    )


def merged(parts: Sequence[Evidence]) -> Evidence:
    """Several folders' runs as one.

    Raises:
        DataError: two hold a run of the same name.
    """
    first = parts[0]
    for part in parts[1:]:
        if both := sorted(first.runs.keys() & part.runs.keys()):
            raise DataError(f"{len(both)} runs are in two folders of one method, e.g. {both[0]}; expected each once")
        first = dataclasses.replace(
            first,
            **{
                name: getattr(first, name) | getattr(part, name)
                for name in ("runs", "scores", "training", "outcomes", "draws", "scales", "labels")
            },
        )
    return first


def accuracy(dataset: str, protocol: str) -> ValueOf:
    return lambda evidence, runs: evidence.auroc(runs, dataset, protocol)


def panel(score: Score) -> ValueOf:
    return lambda evidence, runs: evidence.score(runs, score)


def agreement(methods: Methods, a: str, b: str, value: ValueOf) -> Agreement:
    """Compares how two methods rank the scales by a value."""
    first, second = methods.values(a, value), methods.values(b, value)
    both = np.isfinite(first) & np.isfinite(second)
    known = both.any(axis=0)
    x, y = (_means(table, both)[known] for table in (first, second))
    crossed = [_plain(first[i], second[j]) for i in SEEDS for j in SEEDS if i != j]
    noise = [between_seeds(methods, method, value).value for method in (a, b)]
    return Agreement(
        means=rank_correlation(x, y, bootstrap=methods.bootstrap),
        p=permutation_p(x, y),
        other_seed=_mean_of(crossed),
        ceiling=_ceiling(noise),
    )


def between_seeds(methods: Methods, method: str, value: ValueOf) -> Correlation:
    """Correlation of the first two seeds of a method: what noise leaves of a ranking."""
    first, second = methods.values(method, value)[:2]
    known = np.isfinite(first) & np.isfinite(second)
    return rank_correlation(first[known], second[known], bootstrap=methods.bootstrap)


def permutation_p(x: Floats, y: Floats) -> float | None:
    """Two-sided p of Spearman's correlation, by shuffling; None where the correlation is undefined."""
    value = rank_correlation(x, y, bootstrap=0).value
    if value is None:
        return None
    shuffled = np.abs(shuffled_correlations(x, y))
    return float((1 + np.sum(shuffled >= abs(value) - 1e-12)) / (1 + len(shuffled)))


def shuffled_correlations(x: Floats, y: Floats) -> Floats:
    """Spearman's correlation of x with y in `PERMUTATIONS` random orders: the null of no relation."""
    rng = np.random.default_rng(derive_seed(0, "shuffled scales"))
    ranks_x, ranks_y = (_standardised(rankdata(values)) for values in (x, y))
    orders = rng.permuted(np.tile(ranks_y, (PERMUTATIONS, 1)), axis=1)
    found: Floats = orders @ ranks_x / len(ranks_x)
    return found


def learned(methods: Methods, method: str, value: ValueOf, start: ValueOf) -> tuple[Mean | None, float]:
    """What training adds to the network that each seed began with.

    Args:
        value: of the runs.
        start: of the untrained networks.
    Returns:
        Mean over scales, with its interval over scales; and the share of runs above their start.
    """
    evidence = methods.evidence[method]
    untrained = evidence.baselines("untrained")
    before = dict(zip((run.seed for run in untrained), start(evidence, untrained), strict=True))
    gains = methods.values(method, value) - np.array([[before.get(seed, np.nan)] for seed in SEEDS])
    known = np.isfinite(gains)
    by_scale = _means(gains, known)
    return student(by_scale[known.any(axis=0)]), float(np.mean(gains[known] > 0)) if known.any() else math.nan


def weighed_minus_plain(evidence: Evidence, names: Sequence[str], dataset: str, protocol: str) -> Mean | None:
    """What weighing adds: the mean over scales, seed by seed; seeds that lack a run are left out."""
    rows = []
    for seed in sorted({run.seed for run in evidence.runs.values()}):
        pairs = [[evidence.runs.get(f"{prefix}{name}-s{seed}") for name in names] for prefix in (HARD, "")]
        runs = [run for pair in pairs for run in pair if run is not None and run.state == "complete"]
        if len(runs) == 2 * len(names):
            values = evidence.auroc(runs, dataset, protocol)
            rows.append(float(np.mean(values[: len(names)] - values[len(names) :])))
    return student(rows)


def of_other(methods: Methods, method: str, values: Floats) -> Floats:
    """Means over seeds of another method's (seeds, scales) table as one value per run of `spread(method)`."""
    by_scale = dict(zip(methods.scales, _means(values, np.isfinite(values)), strict=True))
    return np.array([by_scale[run.name] for run in methods.spread(method).runs])


def _means(table: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """Means over seeds of the known values; NaN where there is none."""
    count = known.sum(axis=0)
    sums = np.where(known, table, 0.0).sum(axis=0)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)


def _plain(x: Floats, y: Floats) -> float | None:
    known = np.isfinite(x) & np.isfinite(y)
    return rank_correlation(x[known], y[known], bootstrap=0).value


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _ceiling(between: Sequence[float | None]) -> float | None:
    """Square root of the product of the reliabilities of means over two seeds (Spearman-Brown: 2 r / (1 + r))."""
    known = [max(0.0, value) for value in between if value is not None]
    if len(known) < len(between):
        return None
    return math.sqrt(math.prod(2 * value / (1 + value) for value in known))


def _standardised(values: Floats) -> Floats:
    centred = values - values.mean()
    scaled: Floats = centred / centred.std()
    return scaled
