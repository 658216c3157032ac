"""Tables 2 to 8, 12 and 13: how far scores rank runs as accuracy does."""

from __future__ import annotations

import numpy as np

from benchmarks.evidence import markdown as md
from benchmarks.evidence.correlations import (
    COMBINATIONS,
    DEFAULT,
    EARLY_SCORES,
    HYPOTHESIS,
    LEVELS,
    MAIN_PROTOCOL,
    Spread,
    leave_one_out,
    paired_difference,
)
from benchmarks.evidence.layers import LAYERS
from benchmarks.evidence.outcomes import PROTOCOLS
from benchmarks.evidence.records import MEAN, Score


def metrics_section(spread: Spread) -> str:
    """Table 2."""
    cells = len(spread.scores) * len(spread.evidence.datasets)
    without = Spread(evidence=spread.evidence, runs=spread.without("none").runs, bootstrap=0)
    parts = [
        "## 2. Which score ranks as accuracy does?\n",
        f"Spearman's correlation; + means: better score, better accuracy. {cells} cells per protocol: about ",
        f"{0.05 * cells:.0f} intervals leave out 0 by chance alone. `means`: over the means of each scale's ",
        f"seeds, {MEAN}. `without none`: without the control that changes nothing, {MEAN}. ",
        f"The default score is {DEFAULT.label}.\n",
    ]
    for protocol in PROTOCOLS:
        rows = [
            [
                score.label,
                *(md.correlation(spread.of_score(score, dataset, protocol)) for dataset in spread.datasets),
                md.signed(spread.of_means(score, MEAN, protocol).value, 2),
                md.signed(without.of_score(score, MEAN, protocol).value, 2),
            ]
            for score in spread.scores
        ]
        header = ["score", *spread.datasets, "means", "without none"]
        parts += [f"\nProtocol `{protocol}`:\n\n", md.table(header, rows)]
    parts += ["\nBetween protocols and datasets (Spearman over the same runs):\n\n", _agreement(spread)]
    return "".join(parts)


def _agreement(spread: Spread) -> str:
    evidence = spread.evidence
    columns = [(dataset, protocol) for dataset in spread.datasets for protocol in PROTOCOLS]
    rows = [
        [
            f"{dataset}, {protocol}",
            *(
                md.signed(
                    spread.correlation(evidence.auroc(spread.runs, dataset, protocol), other, MAIN_PROTOCOL).value, 2
                )
                for other in spread.datasets
            ),
        ]
        for dataset, protocol in columns
    ]
    return md.table(["outcome", *(f"{name}, {MAIN_PROTOCOL}" for name in spread.datasets)], rows)


def hypothesis_section(spread: Spread) -> str:
    """Table 12."""
    choices = {
        "seed 0": spread.of_seed(0),
        "seed 1, runs unseen then": spread.of_seed(1, unseen=True),
        "fresh scales": Spread.of(spread.evidence, spread.bootstrap, part="fresh"),
    }
    rows = []
    for name, part in choices.items():
        if not part.runs:
            continue
        for score in (DEFAULT, HYPOTHESIS):
            correlations = [part.of_score(score, dataset) for dataset in part.datasets]
            rows.append([name, str(len(part.runs)), score.label, *map(md.correlation, correlations)])
        differences = [
            paired_difference(part.of_score(HYPOTHESIS, dataset), part.of_score(DEFAULT, dataset))
            for dataset in part.datasets
        ]
        rows.append([name, str(len(part.runs)), "difference", *map(md.correlation_difference, differences)])
    return (
        f"## 12. The score that was named on the first seed ({HYPOTHESIS.label}), judged on runs made afterwards\n"
        "Protocol `cv`. With seed 1 the scales are the same, weights, order and draws are new; fresh scales are new, "
        "too.\n\n" + md.table(["runs", "n", "score", *spread.datasets], rows)
    )


def within_seeds_section(spread: Spread) -> str:
    """Table 13."""
    within = spread.within()
    parts = [
        "## 13. Within a seed, as in a search\n"
        "As table 2, with score and accuracy less their seed's mean: all trials of a search share the seed, and what "
        "two seeds differ by blurs table 2 only.\n"
    ]
    for protocol in PROTOCOLS:
        rows = [
            [score.label, *(md.correlation(within.of_score(score, dataset, protocol)) for dataset in within.datasets)]
            for score in spread.scores
        ]
        parts.append(f"\nProtocol `{protocol}`:\n\n" + md.table(["score", *within.datasets], rows))
    return "".join(parts)


def rungs_section(spread: Spread) -> str:
    """Table 3."""
    fractions = spread.evidence.fractions
    rows = []
    for score in EARLY_SCORES:
        for fraction in fractions:
            rows.append(
                [
                    f"{score.label} at {fraction:g}",
                    *(
                        md.correlation(spread.of_score(score, dataset, fraction=fraction))
                        for dataset in spread.datasets
                    ),
                    md.signed(spread.stability(score, fraction).value, 2),
                ]
            )
    return (
        "## 3. How early can a run be judged?\n"
        "Score at a rung with accuracy (`cv`) at the end, and with the same score at the end.\n\n"
        + md.table(["score", *spread.datasets, "itself at the end"], rows)
    )


def own_views_section(spread: Spread) -> str:
    """Table 4."""
    rows = []
    for metric in ("dprime", "gap", "pair_auroc", "margin", "silhouette", "raw_dprime", "raw_gap", "raw_silhouette"):
        for level in ("own", "ladder"):
            score = Score(metric=metric, level=level)
            values = spread.evidence.score(spread.runs, score)
            best = spread.runs[int(np.nanargmax(values))].name if np.isfinite(values).any() else md.MISSING
            correlations = [md.correlation(spread.of_score(score, dataset)) for dataset in spread.datasets]
            label = f"{metric}, {'own views' if level == 'own' else 'panel'}"
            rows.append([label, *correlations, md.MISSING if level == "own" else _over(spread, score, "own"), best])
    return (
        "## 4. Own views against the fixed panel\n"
        "Protocol `cv`. `over own views`: difference of the correlations with the mean of the real datasets, over the "
        "same resamples. `picks`: the scales of the run with the best score.\n\n"
        + md.table(["score", *spread.datasets, "over own views", "picks"], rows)
    )


def _over(spread: Spread, score: Score, level: str) -> str:
    """How much better than at another level a score ranks the mean of the real datasets."""
    other = Score(metric=score.metric, level=level, layer=score.layer)
    return md.correlation_difference(paired_difference(spread.of_score(score, MEAN), spread.of_score(other, MEAN)))


def levels_section(spread: Spread) -> str:
    """Table 5."""
    extra = [f"{level}|large" for level in LEVELS[:3]]
    rows = [
        [
            f"{metric}, {level}",
            *(md.correlation(spread.of_score(Score(metric=metric, level=level), name)) for name in spread.datasets),
            md.MISSING if level == "ladder" else _over(spread, Score(metric=metric, level=level), "ladder"),
        ]
        for metric in ("pair_auroc", "dprime", "retrieval_error")
        for level in (*LEVELS, *extra)
    ]
    return (
        "## 5. Each level of the panel alone, and the ladder\n"
        "Protocol `cv`. `|large`: views at the larger size. `over the ladder`: as in table 4.\n\n"
        + md.table(["score", *spread.datasets, "over the ladder"], rows)
    )


def raw_section(spread: Spread) -> str:
    """Table 6."""
    rows = [
        [
            metric,
            *(md.correlation(spread.of_score(Score(metric=metric), dataset)) for dataset in spread.datasets),
        ]
        for base in ("dprime", "gap", "pair_auroc", "silhouette")
        for metric in (base, f"raw_{base}")
    ]
    return "## 6. Normalised against raw embeddings\nLadder, protocol `cv`.\n\n" + md.table(
        ["score", *spread.datasets], rows
    )


def layers_section(spread: Spread) -> str:
    """Table 7."""
    levels = ["ladder", "own", *sorted({key[3] for key in spread.evidence.scores if key[3].startswith("natural:")})]
    rows = []
    for layer in LAYERS:
        scores = [
            Score(metric=metric, level=level, layer=layer) for level in levels for metric in ("pair_auroc", "dprime")
        ]
        scores += [Score(metric="rankme", level=level, layer=layer) for level in ("ladder", "clean")]
        rows += [
            [score.label, *(md.correlation(spread.of_score(score, dataset)) for dataset in spread.datasets)]
            for score in scores
        ]
    return (
        "## 7. Layers, and natural positive pairs\n"
        "Protocol `cv`. `natural:X`: two eyes of a patient of X are positive.\n\n"
        + md.table(["score", *spread.datasets], rows)
    )


def combinations_section(spread: Spread) -> str:
    """Table 8."""
    rows = [
        [name, *(md.correlation(spread.correlation(spread.combined(scores), dataset)) for dataset in spread.datasets)]
        for name, scores in COMBINATIONS.items()
    ]
    rows.append(
        [
            "labels of the other datasets",
            *(
                md.correlation(spread.correlation(spread.others_labels(dataset), dataset))
                for dataset in spread.evidence.real_datasets
            ),
            *([md.MISSING] * (len(spread.datasets) - len(spread.evidence.real_datasets))),
        ]
    )
    ordered = [*spread.evidence.real_datasets, *(n for n in spread.datasets if n not in spread.evidence.real_datasets)]
    chosen = [
        [
            found.dataset,
            found.chosen,
            md.signed(found.elsewhere, 2),
            md.correlation(found.here),
            md.correlation(found.default),
        ]
        for found in leave_one_out(spread)
    ]
    places = [spread.datasets.index(name) for name in ordered]
    rows = [[row[0], *(row[1 + place] for place in places)] for row in rows[:-1]] + [rows[-1]]
    return (
        "## 8. Simple combinations, and leave one dataset out\nMeans of ranks, protocol `cv`.\n\n"
        + md.table(["score", *ordered], rows)
        + "\nThe score or combination with the highest mean correlation on the other real datasets, judged on the one "
        "left out:\n\n"
        + md.table(["left out", "chosen on the others", "there", "on the one left out", "default score"], chosen)
    )
