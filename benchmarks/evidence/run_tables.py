"""Tables 0, 1 and 9 to 11: what runs are worth, how noisy they are, what choosing costs, and the paper's question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from augscale.statistics.arrays import Floats
from benchmarks.evidence import markdown as md
from benchmarks.evidence.correlations import DEFAULT, HYPOTHESIS, MAIN_PROTOCOL, MAIN_SCORES, Noise, Spread, seed_noise
from benchmarks.evidence.outcomes import PROTOCOLS
from benchmarks.evidence.question import (
    COMPARISONS,
    LEARNING_COMPARISONS,
    SINGLE_COMPARISONS,
    by_seed,
    holm,
    paired,
    seed_mean,
    student,
    trained_names,
)
from benchmarks.evidence.question import PROTOCOLS as QUESTION_PROTOCOLS
from benchmarks.evidence.records import MEAN, SCALES_LEVEL, TRAINING_LEVEL, Evidence, Score

PRIMARY = (("aptos2019", "linear"), ("aptos2019", "cv"), ("odir3", "linear"), ("odir3", "cv"))
"""Outcomes that were named before the study began."""
REACH = 0.5
"""Correlation that a score has to reach on at least two datasets to be recommended."""
BASELINES = ("colour", "pixels8", "pixels16", "untrained")


def summary_section(spread: Spread) -> str:
    """What was to be decided, first."""
    rows = [
        [f"{dataset}, {protocol}", md.correlation(spread.of_score(DEFAULT, dataset, protocol))]
        for dataset, protocol in PRIMARY
        if dataset in spread.datasets
    ]
    quick = Spread(evidence=spread.evidence, runs=spread.runs, bootstrap=0)
    reached = []
    for score in spread.scores:
        values = [quick.of_score(score, dataset).value for dataset in spread.evidence.real_datasets]
        count = sum(value is not None and value >= REACH for value in values)
        reached.append([score.label, f"{count} of {len(values)}", *(md.signed(value, 2) for value in values)])
    reached.sort(key=lambda row: -int(row[1].split()[0]))
    return (
        "## 0. In short\n"
        f"The default score ({DEFAULT.label}, mean over the ladder) with the outcomes that were named before the study "
        "began:\n\n"
        + md.table(["outcome", "Spearman"], rows)
        + f"\nReal datasets on which a label-free score reaches Spearman {REACH} (`{MAIN_PROTOCOL}`); chosen after the "
        "fact, so too good:\n\n" + md.table(["score", f"at least {REACH}", *spread.evidence.real_datasets], reached)
    )


def baselines_section(spread: Spread) -> str:
    """Table 1."""
    evidence = spread.evidence
    parts = [
        "## 1. Does pre-training beat what needs none?\n",
        "AUROC. `over untrained`: mean over the runs of the spread of the difference to the untrained network of the ",
        "same seed; the interval is over scales. `above`: share of the runs above the untrained network of their seed ",
        "and above the best pixels.\n",
    ]
    for protocol in PROTOCOLS:
        rows = []
        for dataset in spread.datasets:
            fixed = {kind: evidence.auroc(evidence.baselines(kind), dataset, protocol) for kind in BASELINES}
            values = evidence.auroc(spread.runs, dataset, protocol)
            untrained = by_seed(evidence, "untrained", dataset, protocol)
            gains = values - np.array([untrained.get(run.seed, np.nan) for run in spread.runs])
            best_pixels = max((*fixed["pixels8"], *fixed["pixels16"]), default=np.nan)
            by_scale = [np.mean(gains[spread.groups == group]) for group in np.unique(spread.groups)]
            rows.append(
                [
                    dataset,
                    *(md.area(float(np.mean(fixed[kind])) if len(fixed[kind]) else None) for kind in BASELINES),
                    md.area(float(np.mean(values)) if len(values) else None),
                    md.area(float(np.max(values)) if len(values) else None),
                    md.difference(student(by_scale)),
                    _share(gains > 0, np.isfinite(gains)),
                    _share(values > best_pixels, np.isfinite(values)),
                ]
            )
        header = ["dataset", *BASELINES, "spread mean", "spread best", "over untrained", "above", "above pixels"]
        parts += [f"\nProtocol `{protocol}`:\n\n", md.table(header, rows)]
    return "".join(parts) + null_lines(evidence)


def null_lines(evidence: Evidence) -> str:
    """How far the runs with learning rate 0 ended from the networks that they began with: it must be nowhere."""
    untrained = {run.seed: run for run in evidence.baselines("untrained")}
    pairs = [
        (null, untrained[null.seed])
        for null in evidence.baselines("null")
        if null.state == "complete" and null.seed in untrained
    ]
    if not pairs:
        return "\nNo run with learning rate 0: what moves outcomes and scores besides learning is not known.\n"
    nulls, starts = [[pair[place] for pair in pairs] for place in (0, 1)]
    moved = [
        evidence.auroc(nulls, dataset, protocol) - evidence.auroc(starts, dataset, protocol)
        for dataset in evidence.datasets
        for protocol in PROTOCOLS
    ]
    scores = [score for score in MAIN_SCORES if score.level not in ("own", TRAINING_LEVEL, SCALES_LEVEL)]
    scored = [evidence.score(nulls, score) - evidence.score(starts, score, fraction=0.0) for score in scores]
    return (
        f"\nWith learning rate 0 ({len(nulls)} runs: {', '.join(run.name for run in nulls)}) the largest difference to "
        f"the network before training is {_largest(moved)} AUROC over all datasets and protocols of this table, and "
        f"{_largest(scored)} in {len(scores)} label-free scores on common views.\n"
    )


def _largest(differences: Sequence[np.ndarray]) -> str:
    known = np.concatenate(differences)
    known = known[np.isfinite(known)]
    return f"{np.abs(known).max():.3g}" if len(known) else md.MISSING


def _share(found: np.ndarray, known: np.ndarray) -> str:
    return f"{np.mean(found[known]):.0%}" if known.any() else md.MISSING


def noise_section(spread: Spread) -> str:
    """Table 9."""
    evidence, rows = spread.evidence, []
    seeds = np.array([run.seed for run in spread.runs], dtype=np.int64)

    def noise(values: Floats) -> Noise | None:
        return seed_noise(values, spread.groups, seeds, spread.bootstrap)

    default = noise(evidence.score(spread.runs, DEFAULT))
    for protocol in PROTOCOLS:
        for dataset in spread.datasets:
            found = noise(evidence.auroc(spread.runs, dataset, protocol))
            ceiling = None if found is None or default is None else np.sqrt(found.reliability * default.reliability)
            rows.append([f"{dataset}, {protocol}", *_noise_cells(found), md.signed(ceiling, 2)])
    for score in spread.scores:
        if (found := noise(evidence.score(spread.runs, score))) is not None:
            rows.append([score.label, *_noise_cells(found), md.MISSING])
    return (
        "## 9. Seed noise\n"
        "Two-way analysis of variance over scales and seeds: SD of the scales' true means, SD of the seeds' means "
        "(seed k is the same network for all scales, so this moves no ranks), and SD of the rest. Scores are turned so "
        "that higher is better. Reliability: share of the variance within a seed that is due to the scales. Two "
        "seeds: Spearman's correlation of one seed with the other over the scales: what an outcome leaves to be "
        f"ranked. Ceiling: the highest correlation within a seed that the default score ({DEFAULT.metric}) can be "
        "expected to have with the outcome at these reliabilities, if the true means agree perfectly.\n\n"
        + md.table(["value", "mean", "SD scales", "SD seeds", "SD rest", "reliability", "two seeds", "ceiling"], rows)
    )


def _noise_cells(noise: Noise | None) -> list[str]:
    if noise is None:
        return [md.MISSING] * 6
    values = (noise.mean, noise.scales, noise.seeds, noise.residual)
    return [*(f"{value:.4g}" for value in values), f"{noise.reliability:.2f}", md.correlation(noise.agreement)]


def regret_section(spread: Spread) -> str:
    """Table 10."""
    scores = (
        DEFAULT,
        HYPOTHESIS,
        Score(metric="dprime"),
        Score(metric="rankme"),
        Score(metric="rankme", level="clean"),
        Score(metric="dprime", level="own"),
        Score(metric="raw_silhouette", level="own"),
        Score(metric="pair_auroc", level="natural:odir3"),
    )
    parts = [
        "## 10. What choosing by a score costs\n",
        "Mean AUROC (`cv`) over a scale's seeds. `regret`: best by labels minus the pick; `corrected`: without the ",
        "optimism of a maximum over noisy values. `over X`: the pick minus X.\n",
    ]
    for dataset in (*spread.evidence.real_datasets, MEAN):
        columns = {score.label: spread.evidence.score(spread.runs, score) for score in scores}
        if dataset != MEAN:
            columns["labels of the other datasets"] = spread.others_labels(dataset)
        rows = []
        for name, values in columns.items():
            found = spread.regret(values, dataset)
            others = {alternative.name: alternative for alternative in found.alternatives}
            rows.append(
                [
                    name,
                    found.pick or md.MISSING,
                    md.area(found.pick_outcome),
                    md.area(found.regret) + md.between(found.interval),
                    md.signed(found.regret_corrected),
                    *(
                        md.signed(others[other].gain) + md.between(others[other].gain_interval)
                        if other in others
                        else md.MISSING
                        for other in ("strong", "weak", "random")
                    ),
                ]
            )
        best = spread.regret(columns[DEFAULT.label], dataset)
        header = ["score", "picks", "AUROC", "regret", "corrected", "over strong", "over weak", "over random"]
        parts += [
            f"\n{dataset} (best by labels: {best.best}, {md.area(best.best_outcome)}):\n\n",
            md.table(header, rows),
        ]
    return "".join(parts)


def question_section(spread: Spread) -> str:
    """Table 11."""
    evidence = spread.evidence
    names = trained_names(evidence)
    shown = [name for name in names if not name.startswith("sobol-")]
    parts = ["## 11. Is weaker better?\n"]
    for protocol in QUESTION_PROTOCOLS:
        datasets = [*evidence.datasets, MEAN]
        rows = [
            [name, *(md.mean(seed_mean(evidence, name, dataset, protocol)) for dataset in datasets)]
            for name in ("untrained", *shown)
        ]
        parts += [f"\nMeans over pre-training seeds, `{protocol}`:\n\n", md.table(["scales", *datasets], rows)]
    labels = [(f"{a} − {b}", a, b) for a, b in COMPARISONS]
    parts.append(
        "\nDifferences seed by seed: mean [95 % interval] p (p adjusted over the table after Holm). Primary outcomes, "
        f"named before the study: {', '.join(f'{dataset} {protocol}' for dataset, protocol in PRIMARY)}.\n"
    )
    singles = [(f"{what}: {a} − {b}", a, b) for what, a, b in SINGLE_COMPARISONS]
    learned = [(f"{a} − {b}", a, b) for a, b in LEARNING_COMPARISONS]
    groups = (
        ("What training adds to the network that each seed began with", learned),
        ("Controls", labels),
        ("One thing at a time, and the parts of weak+med", singles),
    )
    for title, comparisons in groups:
        for protocol in QUESTION_PROTOCOLS:
            parts += [f"\n{title}, `{protocol}`:\n\n", _differences(evidence, comparisons, protocol)]
    return "".join(parts)


def _differences(evidence: Evidence, comparisons: Sequence[tuple[str, str, str]], protocol: str) -> str:
    datasets = [*evidence.datasets, MEAN]
    found = [[paired(evidence, a, b, dataset, protocol) for dataset in datasets] for _, a, b in comparisons]
    adjusted = iter(holm([None if cell is None else cell.p for row in found for cell in row]))
    rows = [
        [label, *(md.difference(cell, next(adjusted)) for cell in row)]
        for (label, _, _), row in zip(comparisons, found, strict=True)
    ]
    return md.table(["difference", *datasets], rows)
