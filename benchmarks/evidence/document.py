"""All tables and figures of the study, from the CSVs alone: docs/evidence/tables.md and *.svg."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from augscale.runs import write_text_atomic
from benchmarks.evidence import markdown as md
from benchmarks.evidence.correlations import (
    COMBINATIONS,
    DEFAULT,
    EARLY_SCORES,
    LEVELS,
    MAIN_PROTOCOL,
    MAIN_SCORES,
    Noise,
    Spread,
    leave_one_out,
    seed_noise,
)
from benchmarks.evidence.figures import write_figures
from benchmarks.evidence.layers import LAYERS
from benchmarks.evidence.outcomes import PROTOCOLS
from benchmarks.evidence.question import (
    COMPARISONS,
    SINGLE_COMPARISONS,
    by_seed,
    holm,
    paired,
    seed_mean,
    student,
    trained_names,
)
from benchmarks.evidence.question import PROTOCOLS as QUESTION_PROTOCOLS
from benchmarks.evidence.records import MEAN, Evidence, Score, read_evidence

PRIMARY = (("aptos2019", "linear"), ("aptos2019", "cv"), ("odir3", "linear"), ("odir3", "cv"))
"""Outcomes that were named before the study began."""
BASELINES = ("colour", "pixels8", "pixels16", "untrained")


def write_document(folder: Path, *, bootstrap: int = 2000) -> list[Path]:
    """Writes tables.md and the figures beside the CSVs; the same CSVs give the same bytes.

    Args:
        folder: of the CSVs.
        bootstrap: resamples of scales and images for the intervals.
    Raises:
        DataError: a CSV is missing or lacks a column.
    """
    evidence = read_evidence(folder)
    spread = Spread.of(evidence, bootstrap)
    parts = ["# Tables of the evidence study\n\nWritten by `python -m benchmarks.evidence tables`; do not edit.\n"]
    parts.append(_counts(evidence, spread))
    parts += [section(spread) for section in SECTIONS]
    path = folder / "tables.md"
    write_text_atomic(path, "\n".join(parts))
    return [path, *write_figures(spread, folder)]


def _counts(evidence: Evidence, spread: Spread) -> str:
    trained = [run for run in evidence.runs.values() if run.kind == "run"]
    failed = [run.run for run in trained if run.state != "complete"]
    scales = len(set(spread.names))
    lines = [
        f"{len(trained)} runs, {len(failed)} of them failed{': ' + ', '.join(failed) if failed else ''}. ",
        f"Correlations are over {len(spread.runs)} runs of {scales} scales. ",
        f"Rungs: {', '.join(f'{fraction:g}' for fraction in evidence.fractions)} of the steps. ",
        f"Intervals are 95 %: of correlations over {spread.bootstrap} resamples of scales and labelled images, ",
        "of means and differences Student's over pre-training seeds.\n",
    ]
    return "".join(lines)


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
    return "".join(parts)


def _share(found: np.ndarray, known: np.ndarray) -> str:
    return f"{np.mean(found[known]):.0%}" if known.any() else md.MISSING


def metrics_section(spread: Spread) -> str:
    """Table 2."""
    cells = len(MAIN_SCORES) * len(spread.evidence.datasets)
    parts = [
        "## 2. Which score ranks as accuracy does?\n",
        f"Spearman's correlation; + means: better score, better accuracy. {cells} cells per protocol: about ",
        f"{0.05 * cells:.0f} intervals leave out 0 by chance alone. `means`: over the means of each scale's seeds. ",
        f"The default score is {DEFAULT.label}.\n",
    ]
    for protocol in PROTOCOLS:
        rows = [
            [
                score.label,
                *(md.correlation(spread.of_score(score, dataset, protocol)) for dataset in spread.datasets),
                md.signed(spread.of_means(score, MEAN, protocol).value, 2),
            ]
            for score in MAIN_SCORES
        ]
        header = ["score", *spread.datasets, "means"]
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
            rows.append([f"{metric}, {'own views' if level == 'own' else 'panel'}", *correlations, best])
    return (
        "## 4. Own views against the fixed panel\n"
        "Protocol `cv`. `picks`: the scales of the run with the best score.\n\n"
        + md.table(["score", *spread.datasets, "picks"], rows)
    )


def levels_section(spread: Spread) -> str:
    """Table 5."""
    extra = [f"{level}|large" for level in LEVELS[:3]]
    rows = [
        [
            f"{metric}, {level}",
            *(md.correlation(spread.of_score(Score(metric=metric, level=level), name)) for name in spread.datasets),
        ]
        for metric in ("pair_auroc", "dprime", "retrieval_error")
        for level in (*LEVELS, *extra)
    ]
    return (
        "## 5. Each level of the panel alone, and the ladder\nProtocol `cv`. `|large`: views at the larger size.\n\n"
        + md.table(["score", *spread.datasets], rows)
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


def noise_section(spread: Spread) -> str:
    """Table 9."""
    evidence, rows = spread.evidence, []
    outcomes = {
        (dataset, protocol): seed_noise(evidence.auroc(spread.runs, dataset, protocol), spread.groups)
        for dataset in spread.datasets
        for protocol in PROTOCOLS
    }
    for (dataset, protocol), noise in outcomes.items():
        rows.append([f"{dataset}, {protocol}", *_noise_cells(noise), md.MISSING])
    best = outcomes.get((MEAN, MAIN_PROTOCOL))
    for score in MAIN_SCORES:
        noise = seed_noise(evidence.score(spread.runs, score), spread.groups)
        if noise is None:
            continue
        ceiling = None if best is None else float(np.sqrt(noise.reliability * best.reliability))
        rows.append([score.label, *_noise_cells(noise), md.signed(ceiling, 2)])
    return (
        "## 9. Seed noise\n"
        "SD of the scales' true means and SD of two seeds of one setting (one-way analysis of variance; scores turned "
        "so that higher is better). Reliability: share of a single run's variance that is due to the "
        f"scales. Ceiling: the highest correlation that a single run's score can have with {MEAN} (`cv`) at these "
        "reliabilities, if the true means agree perfectly.\n\n"
        + md.table(["value", "mean", "SD of scales", "SD of seeds", "reliability", "ceiling"], rows)
    )


def _noise_cells(noise: Noise | None) -> list[str]:
    if noise is None:
        return [md.MISSING] * 4
    return [*(f"{value:.4g}" for value in (noise.mean, noise.between, noise.within)), f"{noise.reliability:.2f}"]


def regret_section(spread: Spread) -> str:
    """Table 10."""
    scores = (
        DEFAULT,
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
    for title, comparisons in (("Controls", labels), ("One thing at a time, and the parts of weak+med", singles)):
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


SECTIONS: tuple[Callable[[Spread], str], ...] = (
    baselines_section,
    metrics_section,
    rungs_section,
    own_views_section,
    levels_section,
    raw_section,
    layers_section,
    combinations_section,
    noise_section,
    regret_section,
    question_section,
)
