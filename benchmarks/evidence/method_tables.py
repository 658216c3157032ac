"""Tables of the comparison of methods, written from the CSVs alone: docs/evidence/methods/tables.md."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from augscale.runs.files import write_text_atomic
from augscale.statistics.intervals import holm
from benchmarks.evidence import markdown as md
from benchmarks.evidence.correlations import DEFAULT, MAIN_PROTOCOL, Spread
from benchmarks.evidence.label_tables import free_scores, ranked
from benchmarks.evidence.methods import (
    FOLDER,
    PERMUTATIONS,
    SEEDS,
    Methods,
    accuracy,
    agreement,
    between_seeds,
    learned,
    of_other,
    panel,
    read_methods,
    shuffled_correlations,
    weighed_minus_plain,
)
from benchmarks.evidence.outcomes import PROTOCOLS
from benchmarks.evidence.records import MEAN, SCALES_LEVEL, TRAINING_LEVEL, Score
from benchmarks.evidence.run_tables import null_lines

SCORES = (DEFAULT, Score(metric="dprime"), Score(metric="jitter", level=SCALES_LEVEL))
"""Of the panel, and as the baseline that a score must beat, the scales without a network."""
LEARNED_SCORES = (DEFAULT, Score(metric="dprime"), Score(metric="rankme", level="clean"))
INFORMATION = Score(metric="information", level=TRAINING_LEVEL)
WEIGHED_PROTOCOLS = ("cv", "knn")


def write_methods(folder: Path, *, bootstrap: int = 2000) -> Path:
    """Writes the tables beside the methods' CSVs; the same CSVs give the same bytes.

    Args:
        folder: of the study's CSVs.
        bootstrap: resamples of scales for the intervals of correlations.
    Raises:
        DataError: see `read_methods`.
    """
    methods = read_methods(folder, bootstrap)
    parts = [
        "# Tables of the comparison of methods\n\nWritten by `python -m benchmarks.evidence tables`; do not edit.\n"
    ]
    parts += [section(methods) for section in SECTIONS]
    path = folder / FOLDER / "tables.md"
    write_text_atomic(path, "\n".join(parts))
    return path


def runs_section(methods: Methods) -> str:
    """Table 0."""
    rows, gaps = [], []
    for method in methods.evidence:
        missing = methods.missing(method)
        rows.append([method, str(len(methods.plan) - len(missing)), str(len(missing))])
        if missing:
            gaps.append(f"- {method}: {', '.join(missing)}\n")
    lines = "".join(gaps)
    state = f"\n**Incomplete.** Runs without a result, which no table counts:\n\n{lines}" if gaps else ""
    return (
        "## 0. Runs\n"
        f"Planned for every method: {len(methods.plan)} runs on {len(methods.scales)} scales "
        f"({', '.join(methods.scales)}).\n\n" + md.table(["method", "complete", "missing or failed"], rows) + state
    )


def learned_section(methods: Methods) -> str:
    """Table 1."""
    datasets = (*methods.datasets, MEAN)
    parts = [
        "## 1. Does every method learn?\n"
        "Runs minus the untrained network of their seed: mean over scales [95 % interval over scales] p (p adjusted "
        "over the table after Holm), and the share of runs above their start. The seeds are two, so an interval over "
        "scales does not say what another seed would give.\n"
    ]
    for protocol in PROTOCOLS:
        of = {dataset: accuracy(dataset, protocol) for dataset in datasets}
        found = {
            method: [learned(methods, method, of[name], of[name]) for name in datasets] for method in methods.evidence
        }
        adjusted = iter(holm([None if gain is None else gain.p for row in found.values() for gain, _ in row]))
        rows = [
            [method, *(f"{md.difference(gain, next(adjusted))}, {_share(above)}" for gain, above in row)]
            for method, row in found.items()
        ]
        parts.append(f"\nAUROC, `{protocol}`:\n\n" + md.table(["method", *datasets], rows))
    rows = [[method, *_score_cells(methods, method)] for method in methods.evidence]
    header = ["method", *(score.label for score in LEARNED_SCORES), "information, nats", "of it without learning"]
    parts.append("\nScores of the panel over the untrained network, and information at the end:\n\n")
    parts.append(md.table(header, rows))
    parts += [f"\n{method}:{null_lines(evidence)}" for method, evidence in methods.evidence.items()]
    return "".join(parts)


def _score_cells(methods: Methods, method: str) -> list[str]:
    evidence = methods.evidence[method]
    cells = []
    for score in LEARNED_SCORES:
        gain, above = learned(
            methods,
            method,
            panel(score),
            lambda one, runs, score=score: one.score(runs, score, fraction=0.0),  # type: ignore[misc]
        )
        cells.append(f"{md.difference(gain)}, {_share(above)}")
    values = methods.values(method, panel(INFORMATION))
    nulls = evidence.score([run for run in evidence.baselines("null") if run.state == "complete"], INFORMATION)
    return [*cells, _range(values), _range(nulls)]


def between_section(methods: Methods) -> str:
    """Table 2."""
    datasets = (*methods.datasets, MEAN)
    values = {f"{name}, {MAIN_PROTOCOL}": accuracy(name, MAIN_PROTOCOL) for name in datasets}
    values[DEFAULT.label] = panel(DEFAULT)
    pairs = list(itertools.combinations(methods.evidence, 2))
    found = {pair: [agreement(methods, *pair, value) for value in values.values()] for pair in pairs}
    adjusted = iter(holm([one.p for row in found.values() for one in row]))
    rows = []
    for (a, b), row in found.items():
        cells = [md.correlation(one.means) + _p(one.p, next(adjusted)) for one in row]
        rows.append([f"{a} with {b}", *cells])
        rows.append([f"{a} with {b}, another seed", *(md.signed(one.other_seed, 2) for one in row)])
        rows.append([f"{a} with {b}, ceiling", *(md.signed(one.ceiling, 2) for one in row)])
    rows += [
        [f"{method}, two seeds", *(md.correlation(between_seeds(methods, method, value)) for value in values.values())]
        for method in methods.evidence
    ]
    order = np.arange(len(methods.scales), dtype=np.float64)
    bound = np.quantile(np.abs(shuffled_correlations(order, order)), 0.95)
    return (
        "## 2. Do methods rank scales alike?\n"
        "Spearman's correlation over the scales of the means over seeds [95 % interval over scales] p (p adjusted over "
        f"the table after Holm); p is the share of {PERMUTATIONS} shuffles of the scales that lie at least as far from "
        f"0. The null: of shuffled scales 95 % lie within {md.area(float(bound))} of 0. `two seeds`: one seed of a "
        "method with the other, what the noise of training leaves of a ranking; `another seed` is to be compared with "
        "it: one seed of a method with the other seed of the other method. `ceiling`: about the largest correlation of "
        "means over seeds that this noise allows (Spearman-Brown); 0 where two seeds disagree. Runs of one seed share "
        "the backbone's initial weights and the order of images, whatever their method.\n\n"
        + md.table(["correlation", *values], rows)
    )


def own_section(methods: Methods) -> str:
    """Table 3."""
    datasets = (*methods.datasets, MEAN)
    rows = []
    for method in methods.evidence:
        spread = methods.spread(method).within()
        rows += [
            [f"{method}: {score.label}", *(md.correlation(spread.of_score(score, dataset)) for dataset in datasets)]
            for score in SCORES
        ]
    cells = len(rows) * len(datasets)
    return (
        "## 3. Does a method's panel score rank as its own accuracy does?\n"
        f"Spearman's correlation with `{MAIN_PROTOCOL}` AUROC over the runs of {len(SEEDS)} seeds, each less its "
        f"seed's mean; intervals resample scales and labelled images. {cells} cells: about {0.05 * cells:.0f} of the "
        "intervals leave out 0 by chance alone.\n\n" + md.table(["score", *datasets], rows)
    )


def served_section(methods: Methods) -> str:
    """Table 4."""
    rows = []
    by_labels = accuracy(MEAN, MAIN_PROTOCOL)
    for method in methods.evidence:
        spread = methods.spread(method)
        for other in methods.evidence:
            for what, value in (("panel score", panel(DEFAULT)), ("accuracy", by_labels)):
                if other == method and what == "accuracy":
                    continue
                found = spread.regret(of_other(methods, method, methods.values(other, value)), MEAN)
                over = {one.name: one for one in found.alternatives}
                gains = [
                    md.signed(over[name].gain) + md.between(over[name].gain_interval) if name in over else md.MISSING
                    for name in ("strong", "random")
                ]
                cost = md.area(found.regret) + md.between(found.interval)
                rows.append([method, f"{what} of {other}", found.pick or md.MISSING, cost, *gains])
    return (
        "## 4. Do the scales of one method serve another?\n"
        f"Scales chosen by the mean over seeds of a method's panel score ({DEFAULT.label}) or accuracy ({MEAN}, "
        f"`{MAIN_PROTOCOL}`), judged by that accuracy of the method they are used with. `regret`: its best scales "
        "minus the choice; `over X`: the choice minus X.\n\n"
        + md.table(["used with", "chosen by", "choice", "regret", "over strong", "over random"], rows)
    )


def weighed_section(methods: Methods) -> str:
    """Table 5."""
    datasets = (*methods.datasets, MEAN)
    parts = [
        "## 5. Does weighing pairs help?\n"
        '`pretrain.pair_weighting = "hard"` minus "none", AUROC, paired by scales and seed: mean [95 % interval over '
        "seeds] p (p adjusted over the table after Holm). `all`: first the mean over the controls, then over seeds.\n"
    ]
    for protocol in WEIGHED_PROTOCOLS:
        groups = [(name, (name,)) for name in methods.weighed] + [("all", methods.weighed)]
        found = {
            f"{method}: {label}": [weighed_minus_plain(evidence, names, dataset, protocol) for dataset in datasets]
            for method, evidence in methods.evidence.items()
            for label, names in groups
        }
        adjusted = iter(holm([None if cell is None else cell.p for row in found.values() for cell in row]))
        rows = [[label, *(md.difference(cell, next(adjusted)) for cell in row)] for label, row in found.items()]
        parts.append(f"\n`{protocol}`:\n\n" + md.table(["scales", *datasets], rows))
    return "".join(parts)


def labels_section(methods: Methods) -> str:
    """Table 6."""
    title = "## 6. How many labels rank scales?\n"
    parts = []
    for method in methods.evidence:
        spread = methods.spread(method)
        sizes = sorted({size for _, _, size, _ in spread.evidence.labels})
        for dataset in spread.evidence.datasets:
            if not any(key[1] == dataset for key in spread.evidence.labels):
                continue
            rows = [
                [name, *(_label_cell(spread, name, dataset, size) for size in sizes)]
                for name in ("labels", "cv", "knn", *(score.label for score in free_scores(spread)))
            ]
            parts.append(f"\n{method}, {dataset}:\n\n" + md.table(["score", *map(str, sizes)], rows))
    if not parts:
        return title + "No method has scores from few labels.\n"
    return (
        f"{title}Columns: number of labelled images that a score is given; 50 draws. The outcome is `cv` on all other "
        "images, and values are less their seed's mean. First: mean rank correlation with the outcome of the same runs "
        "[95 % of the draws]; second: with the outcome of the runs of the other seed, which a network's own chance "
        "does not help; third: mean regret in AUROC of the pick, judged by the other seed. `labels`: mean rank of "
        "`cv` (ridge regression) and `knn` on the labelled images. The null is that of table 2.\n" + "".join(parts)
    )


def _label_cell(spread: Spread, name: str, dataset: str, size: int) -> str:
    same, other = (ranked(spread, name, dataset, size, other_seed=flag) for flag in (False, True))
    if same is None or other is None:
        return md.MISSING
    first = f"{md.signed(same.correlation, 2)}{md.between(same.between, 2)}"
    return f"{first}, {md.signed(other.correlation, 2)}, {md.area(other.regret)}"


def _p(p: float | None, adjusted: float | None) -> str:
    return "" if p is None or adjusted is None else f" p {md.p_value(p)} ({md.p_value(adjusted)})"


def _share(share: float) -> str:
    return f"{share:.0%}" if np.isfinite(share) else md.MISSING


def _range(values: np.ndarray) -> str:
    """Mean and, in brackets, smallest and largest of the known values."""
    known = values[np.isfinite(values)]
    return f"{known.mean():.2f} [{known.min():.2f}, {known.max():.2f}]" if len(known) else md.MISSING


SECTIONS: tuple[Callable[[Methods], str], ...] = (
    runs_section,
    learned_section,
    between_section,
    own_section,
    served_section,
    weighed_section,
    labels_section,
)
