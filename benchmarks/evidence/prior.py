"""Table 14: what the scales alone say, without any network.

A ridge regression of accuracy on the parameters of the scales, fitted on the runs of the spread and judged on fresh
scales. A score that needs training must rank the fresh scales better than this to be worth its hours.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augscale.evaluation.ridge import ridge_scores
from benchmarks.evidence import markdown as md
from benchmarks.evidence.correlations import DEFAULT, HYPOTHESIS, MAIN_PROTOCOL, Spread
from benchmarks.evidence.records import Evidence, Run

Floats = npt.NDArray[np.float64]


def section(spread: Spread) -> str:
    """Table 14."""
    title = "## 14. Scales alone, without a network\n"
    fresh = Spread.of(spread.evidence, spread.bootstrap, part="fresh")
    if not fresh.runs:
        return title + "No fresh scales to judge it on.\n"
    predicted = [fresh.correlation(_predicted(spread, fresh, dataset), dataset) for dataset in fresh.datasets]
    label = f"ridge on the scales' parameters, fitted on {len(set(spread.names))} scales"
    rows = [[label, *map(md.correlation, predicted)]]
    rows += [
        [score.label, *(md.correlation(fresh.of_score(score, dataset)) for dataset in fresh.datasets)]
        for score in (DEFAULT, HYPOTHESIS)
    ]
    return (
        f"{title}Spearman's correlation with `{MAIN_PROTOCOL}` over {len(fresh.runs)} fresh scales, which no fit has "
        "seen. The scores in the rows below need a training of each of them.\n\n"
        + md.table(["", *fresh.datasets], rows)
    )


def _predicted(spread: Spread, fresh: Spread, dataset: str) -> Floats:
    """Accuracy of the fresh scales, predicted from those of the spread; differences from each seed's mean."""
    accuracy = spread.evidence.auroc(spread.runs, dataset, MAIN_PROTOCOL)
    seeds = np.array([run.seed for run in spread.runs])
    for seed in np.unique(seeds):
        accuracy[seeds == seed] -= accuracy[seeds == seed].mean()
    known = np.isfinite(accuracy)
    fields = sorted(spread.evidence.scales[spread.runs[0].name])
    train = _parameters(spread.evidence, [run for run, keep in zip(spread.runs, known, strict=True) if keep], fields)
    predicted, _ = ridge_scores(train, accuracy[known][:, None], _parameters(fresh.evidence, fresh.runs, fields))
    return predicted[:, 0]


def _parameters(evidence: Evidence, runs: list[Run], fields: list[str]) -> Floats:
    return np.array([[evidence.scales[run.name][field] for field in fields] for run in runs])
