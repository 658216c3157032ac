"""Tables 16 to 18: what a score says beyond what needs no training, whether it ranks better, and on later scales.

A score that only repeats how large crops are, or how little the network has moved, ranks scales without being worth its
training. Its partial rank correlation with accuracy holds these fixed: the correlation of what is left of both ranks
when the best linear function of the ranks held fixed is taken away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from augscale.seeding import derive_seed
from augscale.statistics.ranking import Correlation, rank_correlation
from benchmarks.evidence import markdown as md
from benchmarks.evidence.correlations import DEFAULT, HYPOTHESIS, MAIN_PROTOCOL, Spread, paired_difference
from benchmarks.evidence.plan import NUM_SPREAD
from benchmarks.evidence.records import CROP_LADDER_LEVEL, SCALES_LEVEL, Score

Floats = npt.NDArray[np.float64]

CROP_AREA = Score(metric="crop_area", level=SCALES_LEVEL)
LIKENESS = Score(metric="cka_to_start", level="clean")
HELD: dict[str, tuple[Score, ...]] = {
    "crop size": (CROP_AREA,),
    "likeness to the start": (LIKENESS,),
    "both": (CROP_AREA, LIKENESS),
}
SCORES = (
    DEFAULT,
    Score(metric="dprime"),
    HYPOTHESIS,
    Score(metric="lidar"),
    Score(metric="pair_auroc", level="natural:srahim_dr"),
    Score(metric="dprime", level=CROP_LADDER_LEVEL),
    Score(metric="pair_auroc", level=CROP_LADDER_LEVEL),
    Score(metric="retrieval_error", level="crops"),
    Score(metric="pair_auroc", level="own"),
    Score(metric="jitter", level=SCALES_LEVEL),
)
"""The default, those named before the study began, those that looked best over the first scales from ImageNet weights,
and two that are to show nothing."""
SECOND_HALF = tuple(f"sobol-{number:02d}" for number in range(NUM_SPREAD // 2, NUM_SPREAD))
"""Scales that `pretrained_plan` runs last."""
SHUFFLES = 300
_SMALLEST_PIVOT = 1e-9


def section(spread: Spread) -> str:
    """Table 16, within a seed."""
    title = "## 16. What a score says beyond crop size and likeness to the start\n"
    within = spread.within()
    known = [score for score in (*SCORES, CROP_AREA, LIKENESS) if _has(within, score)]
    held = {name: scores for name, scores in HELD.items() if all(score in known for score in scores)}
    scores = [score for score in SCORES if score in known]
    if not held:
        return title + "The sizes of crops are not known.\n"
    parts = [
        f"{title}Partial rank correlations with `{MAIN_PROTOCOL}` AUROC, within a seed: the ranks of what the column ",
        "names are held fixed. The first column is table 13's, with nothing held fixed. `shuffled`: 95 % of ",
        f"{SHUFFLES} shuffled rankings of {DEFAULT.label} lie so near 0.\n",
    ]
    for dataset in within.datasets:
        rows = []
        for score in scores:
            values = within.evidence.score(within.runs, score)
            cells = [md.correlation(within.correlation(values, dataset))]
            for fixed in held.values():
                if score in fixed:
                    cells.append(md.MISSING)
                    continue
                columns = [within.evidence.score(within.runs, other) for other in fixed]
                cells.append(md.correlation_difference(partial_correlation(within, values, columns, dataset)))
            rows.append([score.label, *cells])
        columns = [[within.evidence.score(within.runs, other) for other in fixed] for fixed in ((), *held.values())]
        rows.append(["shuffled", *(f"within {_chance(within, dataset, fixed)}" for fixed in columns)])
        parts.append(f"\n{dataset}:\n\n" + md.table(["score", "nothing", *held], rows))
    return "".join(parts)


def differences_section(spread: Spread) -> str:
    """Table 17, within a seed."""
    within = spread.within()
    rows = []
    for score in (CROP_AREA, LIKENESS, *SCORES[1:]):
        if not _has(within, score):
            continue
        sign = -1 if score == CROP_AREA else 1
        values = sign * within.evidence.score(within.runs, score)
        found = (
            paired_difference(within.of_score(DEFAULT, dataset), within.correlation(values, dataset))
            for dataset in within.datasets
        )
        label = "smaller global crops" if score == CROP_AREA else score.label
        rows.append([label, *map(md.correlation_difference, found)])
    return (
        f"## 17. Does {DEFAULT.label} rank better?\n"
        f"Rank correlation of {DEFAULT.label} minus that of the row, `{MAIN_PROTOCOL}`, within a seed, over the same "
        "resamples. Crops are turned so that smaller ones count as better.\n\n"
        + md.table(["minus", *within.datasets], rows)
    )


def later_section(spread: Spread) -> str:
    """Table 18, within a seed; empty for a study whose scales were not run in two halves."""
    if not spread.evidence.of_part("gate"):
        return ""
    later = replace(spread, runs=[run for run in spread.runs if run.name in SECOND_HALF]).within()
    first = replace(spread, runs=[run for run in spread.runs if run.name not in SECOND_HALF]).within()
    rows = [
        [f"{score.label}, {name}", *(md.correlation(part.of_score(score, dataset)) for dataset in part.datasets)]
        for score in (*SCORES[:-1], LIKENESS, CROP_AREA)
        if _has(spread, score)
        for name, part in (("first", first), ("later", later))
    ]
    return (
        "## 18. Scales that were run after the first were reported\n"
        f"Table 13's correlations (`{MAIN_PROTOCOL}`) over the {len(set(first.names))} scales of the first report, and "
        f"over the {len(set(later.names))} that were run afterwards, with the same weights, order and draws.\n\n"
        + md.table(["score, scales", *spread.datasets], rows)
    )


def partial_correlation(
    spread: Spread, values: Floats, held: Sequence[Floats], dataset: str, protocol: str = MAIN_PROTOCOL
) -> tuple[float, tuple[float, float] | None] | None:
    """Partial Spearman correlation of a value with the accuracy at the end, and its 95 % interval.

    From the matrix of all pairs' correlations, as `scipy` has none; over two columns it equals the textbook's
    (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2)). Replicate k of every pair has the same scales and images.

    Args:
        spread: the runs; with `within_seeds`, differences from each seed's mean are ranked.
        values: float64, shape (runs,).
        held: columns to hold fixed, each float64, shape (runs,). Runs that lack any of these or the outcome are left
            out.
    Returns:
        None where it is undefined: a column is constant, or determined by those held fixed.
    """
    given = np.stack([values, *held, spread.evidence.auroc(spread.runs, dataset, protocol)])
    known = np.isfinite(given).all(axis=0)
    spread = replace(spread, runs=[run for run, keep in zip(spread.runs, known, strict=True) if keep])
    outcome = [spread.correlation(column, dataset, protocol) for column in given[:-1, known]]
    columns = [spread.compared(column) for column in given[:-1, known]]
    size = len(columns) + 1
    found: dict[tuple[int, int], Correlation] = {(0, place + 1): pair for place, pair in enumerate(outcome)}
    for left in range(len(columns)):
        for right in range(left + 1, len(columns)):
            found[left + 1, right + 1] = rank_correlation(
                columns[left], columns[right], groups=spread.groups, bootstrap=spread.bootstrap
            )
    if any(pair.value is None for pair in found.values()):
        return None
    single = _partial(_matrices({place: np.array([pair.value]) for place, pair in found.items()}, size))
    if not np.isfinite(single[0]):
        return None
    replicates = {place: pair.replicates for place, pair in found.items()}
    if not all(map(len, replicates.values())):
        return float(single[0]), None
    drawn = _partial(_matrices(replicates, size))
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):  # few scales: a resample of them determines one column by the others
        return float(single[0]), None
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(single[0]), (float(low), float(high))


def _has(spread: Spread, score: Score) -> bool:
    return bool(np.isfinite(spread.evidence.score(spread.runs, score)).any())


def _matrices(pairs: dict[tuple[int, int], Floats], size: int) -> Floats:
    """Symmetric matrices with ones on the diagonal, shape (B, size, size), from the pairs above it."""
    matrices = np.tile(np.eye(size), (len(next(iter(pairs.values()))), 1, 1))
    for (row, column), values in pairs.items():
        matrices[:, row, column] = matrices[:, column, row] = values
    return matrices


def _partial(matrices: Floats) -> Floats:
    """Partial correlation of the first two variables, all others held fixed: shape (B,); NaN where it is undefined."""
    result = np.full(len(matrices), np.nan)
    known = np.isfinite(matrices).all(axis=(1, 2))
    known[known] = np.linalg.det(matrices[known]) > _SMALLEST_PIVOT
    inverse = np.linalg.inv(matrices[known])
    result[known] = -inverse[:, 0, 1] / np.sqrt(inverse[:, 0, 0] * inverse[:, 1, 1])
    return result


def _chance(spread: Spread, dataset: str, held: Sequence[Floats]) -> str:
    """The null: how far from 0 the default score's correlation lies where its scales are shuffled, ".44".

    Args:
        held: columns to hold fixed, each float64, shape (runs,); none: the plain correlation.
    """
    rng = np.random.default_rng(derive_seed(0, "shuffled scales"))
    values = spread.evidence.score(spread.runs, DEFAULT)
    quick = replace(spread, bootstrap=0)
    found = []
    for _ in range(SHUFFLES):
        mixed = shuffled(quick, values, rng)
        value = partial_correlation(quick, mixed, held, dataset)
        if value is not None:
            found.append(abs(value[0]))
    return md.area(float(np.percentile(found, 95))) if found else md.MISSING


def shuffled(spread: Spread, values: Floats, rng: np.random.Generator) -> Floats:
    """The values with each scales' taken from other scales of the same seed; the same exchange in all seeds.

    Scales that lack a seed keep their own values.
    """
    rows: dict[str, dict[int, int]] = {}
    for place, run in enumerate(spread.runs):
        rows.setdefault(run.name, {})[run.seed] = place
    seeds = {run.seed for run in spread.runs}
    names = [name for name, places in rows.items() if places.keys() == seeds]
    result = values.copy()
    for name, other in zip(names, rng.permutation(names).tolist(), strict=True):
        for seed in seeds:
            result[rows[name][seed]] = values[rows[other][seed]]
    return result
