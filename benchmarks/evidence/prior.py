"""Table 14: what the scales alone say, without any network.

A ridge regression of accuracy on the parameters of the scales, fitted on the runs of the spread and judged on fresh
scales. A score that needs training must rank the fresh scales better than this to be worth its hours.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from augscale.evaluation.ridge import ridge_scores
from benchmarks.evidence import markdown as md
from benchmarks.evidence.correlations import DEFAULT, HYPOTHESIS, MAIN_PROTOCOL, Spread
from benchmarks.evidence.records import SCALES_LEVEL, Evidence, Run, Score

Floats = npt.NDArray[np.float64]

PROTOCOLS = (MAIN_PROTOCOL, "knn")
JITTER = Score(metric="jitter", level=SCALES_LEVEL)


def section(spread: Spread) -> str:
    """Table 14.

    The ridge is also fitted on each seed alone. Fresh scales share their seed, and so the network before training, with
    one of the two; what is learned about scales, and not about that network, must hold from the other one, too.
    """
    title = "## 14. Scales alone, without a network\n"
    fresh = Spread.of(spread.evidence, spread.bootstrap, part="fresh")
    if not fresh.runs:
        return title + "No fresh scales to judge it on.\n"
    label = f"ridge on the scales' parameters, fitted on {len(set(spread.names))} scales"
    fits = {label: spread} | {
        f"the same, fitted on seed {seed} alone": spread.of_seed(seed) for seed in sorted({r.seed for r in spread.runs})
    }
    intro = (
        f"{title}Spearman's correlation over {len(fresh.runs)} fresh scales (seed {fresh.runs[0].seed}), in no fit. "
        "The first rows and jitter's strength times its probability need no training; the scores below them need "
        "one of each scale."
    )
    return "\n".join([intro, *(_table(fits, fresh, protocol) for protocol in PROTOCOLS)])


def _table(fits: Mapping[str, Spread], fresh: Spread, protocol: str) -> str:
    rows = []
    for label, spread in fits.items():
        predicted = {dataset: _predicted(spread, fresh, dataset, protocol) for dataset in fresh.datasets}
        rows.append([label, *(md.correlation(fresh.correlation(v, d, protocol)) for d, v in predicted.items())])
    for score in (JITTER, DEFAULT, HYPOTHESIS):
        found = (fresh.of_score(score, dataset, protocol) for dataset in fresh.datasets)
        rows.append([score.label, *map(md.correlation, found)])
    return f"\nProtocol `{protocol}`:\n\n" + md.table(["", *fresh.datasets], rows)


def _predicted(spread: Spread, fresh: Spread, dataset: str, protocol: str) -> Floats:
    """Accuracy of the fresh scales, predicted from those of the spread; differences from each seed's mean."""
    accuracy = spread.evidence.auroc(spread.runs, dataset, protocol)
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
