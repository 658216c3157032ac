"""Table 15: how many labels rank scales better than scores without labels do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from benchmarks.evidence import markdown as md
from benchmarks.evidence.correlations import DEFAULT, HYPOTHESIS, Spread
from benchmarks.evidence.records import Run, Score

Floats = npt.NDArray[np.float64]

CLEAN_SLOPE = Score(metric="alpha_req", level="clean")
LIDAR = Score(metric="lidar")


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """How a score ranks the runs as their outcome on the other images does, over the draws of labelled images.

    correlation: mean of Spearman's. between: its 2.5th and 97.5th percentile over the draws. regret: mean of the best
    outcome minus that of the run with the best score.
    """

    correlation: float
    between: tuple[float, float]
    regret: float


def section(spread: Spread) -> str:
    """Table 15."""
    title = "## 15. How many labels does it take?\n"
    evidence = spread.evidence
    sizes = sorted({size for _, _, size, _ in evidence.labels})
    datasets = [name for name in evidence.datasets if any(key[1] == name for key in evidence.labels)]
    if not sizes:
        return title + "This study stored no scores from few labels.\n"
    parts = [
        f"{title}Labelled images are drawn, a score is computed from them, and the outcome (`cv`) from all others. "
        "Values are less their seed's mean. Mean rank correlation over the draws [95 % of the draws], and mean regret, "
        "AUROC. `labels`: mean rank of ridge regression and nearest neighbors on the drawn images.\n"
    ]
    for size in sizes:
        rows = [
            [name, *(_cell(ranked(spread, name, dataset, size)) for dataset in datasets)]
            for name in ("labels", "cv", "knn", *(score.label for score in free_scores(spread)))
        ]
        parts.append(f"\n{size} labelled images:\n\n" + md.table(["score", *datasets], rows))
    return "".join(parts) + _other_seed_table(spread, sizes, datasets)


def _other_seed_table(spread: Spread, sizes: list[int], datasets: list[str]) -> str:
    """The same judged by the other seed; empty where no scales have two."""
    named = {f"{size} labels": ("labels", size) for size in sizes}
    named |= {score.label: (score.label, sizes[-1]) for score in free_scores(spread)}
    found = {
        label: [ranked(spread, name, dataset, size, other_seed=True) for dataset in datasets]
        for label, (name, size) in named.items()
    }
    if not any(any(cells) for cells in found.values()):
        return ""
    return (
        "\nJudged by the run of the same scales and the other of two seeds, which shares no chance with the score; "
        f"scores without labels on the images that {sizes[-1]} labels leave:\n\n"
        + md.table(["score", *datasets], [[label, *map(_cell, cells)] for label, cells in found.items()])
    )


def free_scores(spread: Spread) -> list[Score]:
    """Scores without labels that stand beside those with labels, as far as the study has them."""
    wanted = (DEFAULT, HYPOTHESIS, CLEAN_SLOPE, LIDAR)
    baselines = [score for score in spread.scores if score.label.endswith(("of the scales", "_to_start, clean"))]
    return [score for score in (*wanted, *baselines) if score in spread.scores]


def ranked(spread: Spread, name: str, dataset: str, size: int, *, other_seed: bool = False) -> Ranked | None:
    """Ranks the runs by a score and compares with their outcome.

    Args:
        name: "labels", "cv" or "knn", or the label of a score without labels.
        dataset: of which images are labelled.
        size: number of labelled images.
        other_seed: the outcome is that of the run with the same scales and the other of two seeds. What a network's
            own chance adds to its score and to its outcome does not count then.
    Returns:
        None where fewer than three runs have such values, their ranks are undefined, or the study lacks the score.
    """
    known = [run for run in spread.runs if (run.run, dataset, size, "others") in spread.evidence.labels]
    pairs = _with_other_seed(known) if other_seed else [(run, run) for run in known]
    if len(pairs) < 3:
        return None
    runs = [run for run, _ in pairs]
    outcome = _within(spread, [judge for _, judge in pairs], "others", dataset, size)
    if name == "labels":
        both = [_within(spread, runs, value, dataset, size) for value in ("cv", "knn")]
        scores = np.mean([rankdata(values, axis=0) for values in both], axis=0)
    elif name in ("cv", "knn"):
        scores = _within(spread, runs, name, dataset, size)
    else:
        score = next((score for score in spread.scores if score.label == name), None)
        if score is None:
            return None
        values = _less_seed_mean(spread.evidence.score(runs, score)[:, None], runs)
        scores = np.repeat(values, outcome.shape[1], axis=1)
    places = [rankdata(values, axis=0) for values in (scores, outcome)]
    centered = [values - values.mean(axis=0) for values in places]
    norms = np.prod([np.linalg.norm(values, axis=0) for values in centered], axis=0)
    with np.errstate(invalid="ignore"):
        correlations = (centered[0] * centered[1]).sum(axis=0) / norms
    picks = np.argmax(scores, axis=0)
    if not np.isfinite(correlations).any():  # all runs have one score
        return None
    low, high = np.nanpercentile(correlations, (2.5, 97.5))
    return Ranked(
        correlation=float(np.nanmean(correlations)),
        between=(float(low), float(high)),
        regret=float(np.mean(outcome.max(axis=0) - outcome[picks, np.arange(outcome.shape[1])])),
    )


def _with_other_seed(runs: list[Run]) -> list[tuple[Run, Run]]:
    """Each run with that of the same scales and another seed; runs without one are left out."""
    return [(run, other) for run in runs for other in runs if other.name == run.name and other.seed != run.seed]


def _within(spread: Spread, runs: list[Run], value: str, dataset: str, size: int) -> Floats:
    """Values of the runs less their seed's mean, shape (runs, draws)."""
    return _less_seed_mean(np.stack([spread.evidence.labels[run.run, dataset, size, value] for run in runs]), runs)


def _less_seed_mean(values: Floats, runs: list[Run]) -> Floats:
    seeds = np.array([run.seed for run in runs])
    result = values.copy()
    for seed in np.unique(seeds):
        result[seeds == seed] -= values[seeds == seed].mean(axis=0)
    return result


def _cell(found: Ranked | None) -> str:
    if found is None:
        return md.MISSING
    return f"{md.signed(found.correlation, 2)}{md.between(found.between, 2)}, {md.area(found.regret)}"
