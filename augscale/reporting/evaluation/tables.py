"""Tables of a finished evaluation in the paper's layout: rows and entries. Output formats are in `table_formats`.

Internal: a row per dataset and metric, a column per checkpoint, and the paper's columns for datasets that it has.
External: a row per (trained on, tested on).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from augscale.evaluation.paper import CAVEAT, PLUS_MINUS, PRESETS, paper_value
from augscale.records.evaluation import EvaluationSummary, Interval, MetricSummary
from augscale.records.metrics import EVALUATION_METRICS

PAPER_METRICS = ("auroc", "aupr", "paper_sensitivity")
"""The three metrics of the paper's Table 3."""
EXTRA_METRICS = ("sensitivity", "f1", "accuracy", "released_accuracy", "kappa", "ece")
PAPER_VERSION = "midl2025"
LOWER_IS_BETTER = {"ece"}
DIGITS = 3


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A number of a table. The first fields are those of `MetricSummary`."""

    mean: float | None
    seeds_t: Interval | None = None
    seeds_normal: Interval | None = None
    test_images: Interval | None = None
    plus_minus: float | None = None
    """The "+/-" of the paper's external table, whose meaning is unknown."""
    best: bool = False
    """True for the highest value of its row, compared as printed."""
    tied: bool = False
    """True for a value that is not the highest, but not distinguishable from it."""
    reason: str = ""
    """Reason for a missing number."""


@dataclass(frozen=True, kw_only=True)
class Row:
    heads: tuple[str, ...]
    entries: tuple[Entry | None, ...]
    """None: not evaluated, or not in the paper."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The content of one table."""

    name: str
    """Name for files: letters, digits and hyphens."""
    title: str
    caption: str
    heads: tuple[str, ...]
    columns: tuple[str, ...]
    paper_columns: tuple[str, ...]
    """Heads of the last columns, with the paper's values; empty if the paper has none of the rows."""
    rows: tuple[Row, ...]
    seeds: str = ""
    """Number of head seeds of the intervals, e.g. `5`; empty where the entries have none."""
    resamples: int = 0
    """Resamples of the intervals over test images."""
    notes: tuple[str, ...] = ()


def all_tables(summary: EvaluationSummary) -> tuple[Table, ...]:
    """The internal tables, external table and matrix of each protocol with such results, followed by the overview."""
    tables = []
    for protocol in summary.protocols:
        found = [
            internal_table(summary, protocol),
            internal_table(summary, protocol, EXTRA_METRICS, name="further-metrics"),
            external_table(summary, protocol),
            external_matrix(summary, protocol),
            per_class_table(summary, protocol),
        ]
        tables += [table for table in found if table.rows]
    overview = protocols_table(summary)
    return (*tables, overview) if overview.rows else tuple(tables)


def internal_table(
    summary: EvaluationSummary, protocol: str, metrics: Sequence[str] = PAPER_METRICS, name: str = "internal"
) -> Table:
    """Rows dataset and metric, columns checkpoints, as in the paper's internal table."""
    which = "The paper's three metrics" if name == "internal" else "Further metrics"
    return _result_table(
        summary,
        protocol,
        metrics,
        internal=True,
        name=name,
        title=f"{which}, internal, protocol {protocol}",
        heads=("Dataset", "Metric"),
    )


def external_table(summary: EvaluationSummary, protocol: str) -> Table:
    """Rows trained on, tested on and metric; columns checkpoints. The paper reports AUROC only."""
    table = _result_table(
        summary,
        protocol,
        PAPER_METRICS,
        internal=False,
        name="external",
        title=f"External evaluation, protocol {protocol}",
        heads=("Trained on", "Tested on", "Metric"),
    )
    if not table.paper_columns:
        return table
    return replace(table, notes=(*table.notes, f"External columns of the paper: {PLUS_MINUS}."))


def _result_table(
    summary: EvaluationSummary,
    protocol: str,
    metrics: Sequence[str],
    *,
    internal: bool,
    name: str,
    title: str,
    heads: tuple[str, ...],
) -> Table:
    rows = []
    for trained_on, tested_on in [(d, d) for d in summary.datasets] if internal else summary.pairs:
        place = (tested_on,) if internal else (trained_on, tested_on)
        for metric in metrics:
            entries = _entries(summary, protocol, trained_on, tested_on, metric)
            if any(e is not None and (e.mean is not None or metric != "kappa") for e in entries):
                paper = _paper_entries(trained_on, tested_on, metric)
                rows.append(Row(heads=(*place, EVALUATION_METRICS[metric].label), entries=(*entries, *paper)))
    kind = "Internal" if internal else "External"
    table = Table(
        name=f"{name}-{slug(protocol)}",
        title=title,
        caption=f"{kind} evaluation, protocol {protocol}. {_marks(summary)}",
        seeds=_seeds(summary),
        resamples=summary.resamples,
        heads=heads,
        columns=summary.checkpoints,
        paper_columns=PRESETS,
        rows=tuple(rows),
        notes=_cell_notes(summary, protocol, internal=internal),
    )
    if any(any(row.entries[len(table.columns) :]) for row in rows):
        return replace(table, notes=(*table.notes, CAVEAT))
    # The paper has none of these results.
    without = tuple(replace(row, entries=row.entries[: len(table.columns)]) for row in rows)
    return replace(table, rows=without, paper_columns=())


def external_matrix(summary: EvaluationSummary, protocol: str, metric: str = "auroc") -> Table:
    """Rows trained on and checkpoint, columns tested on: internal on the diagonal, best of each pair in bold."""
    trained = tuple(dict.fromkeys(t for t, _ in summary.pairs))
    tested = tuple(dict.fromkeys([*trained, *(t for _, t in summary.pairs)]))
    columns = {
        (source, target): _entries(summary, protocol, source, target, metric) for source in trained for target in tested
    }
    rows = [
        Row(heads=(source, checkpoint), entries=tuple(columns[source, target][index] for target in tested))
        for source in trained
        for index, checkpoint in enumerate(summary.checkpoints)
    ]
    return Table(
        name=f"external-matrix-{slug(protocol)}",
        title=f"{EVALUATION_METRICS[metric].label} from training set to test set, protocol {protocol}",
        caption=f"{EVALUATION_METRICS[metric].label} from training set (rows) to test set (columns), protocol "
        f"{protocol}; internal on the diagonal, best checkpoint of each pair of datasets in bold.",
        seeds=_seeds(summary),
        resamples=summary.resamples,
        heads=("Trained on", "Checkpoint"),
        columns=tested,
        paper_columns=(),
        rows=tuple(row for row in rows if any(row.entries)),
    )


def per_class_table(summary: EvaluationSummary, protocol: str) -> Table:
    """Rows dataset and class with its test images; AUROC, AUPR and recall of every checkpoint, means over seeds."""
    rows = []
    kinds = ("AUROC", "AUPR", "recall")
    for dataset in summary.datasets:
        cells = summary.row(protocol, dataset, dataset)
        first = next((cell for cell in cells if cell is not None), None)
        for index, shown in enumerate(first.per_class if first else ()):
            entries = []
            for cell in cells:
                found = cell.per_class[index] if cell else None
                values = (found.auroc, found.aupr, found.recall) if found else (None, None, None)
                entries += [Entry(mean=value, reason="no test image of this class") for value in values]
            rows.append(Row(heads=(dataset, shown.name, str(shown.support)), entries=tuple(entries)))
    return Table(
        name=f"per-class-{slug(protocol)}",
        title=f"Each class, protocol {protocol}",
        caption=f"Each class against the rest, internal evaluation, protocol {protocol}; means over seeds.",
        heads=("Dataset", "Class", "Test images"),
        columns=tuple(f"{checkpoint} {kind}" for checkpoint in summary.checkpoints for kind in kinds),
        paper_columns=(),
        rows=tuple(rows),
    )


def protocols_table(summary: EvaluationSummary) -> Table:
    """A row per protocol and metric: the mean over the internal datasets that have a value for every checkpoint."""
    rows = []
    for protocol in summary.protocols:
        for metric in PAPER_METRICS:
            columns: list[list[float]] = []
            for dataset in summary.datasets:
                entries = _entries(summary, protocol, dataset, dataset, metric)
                means = [e.mean for e in entries if e is not None and e.mean is not None]
                columns += [means] if len(means) == len(entries) else []
            if columns:
                means = [sum(values) / len(columns) for values in zip(*columns, strict=True)]
                entries = _mark_best([Entry(mean=m) for m in means], metric)
                rows.append(
                    Row(heads=(protocol, EVALUATION_METRICS[metric].label, str(len(columns))), entries=tuple(entries))
                )
    return Table(
        name="protocols",
        title="Protocols side by side",
        caption="Mean over the internal datasets on which every checkpoint was evaluated, by protocol; best in bold. "
        "Datasets count equally and no interval is given: a handful of datasets is no sample of all datasets.",
        heads=("Protocol", "Metric", "Datasets"),
        columns=summary.checkpoints,
        paper_columns=(),
        rows=tuple(rows),
    )


def slug(name: str) -> str:
    """A name as part of a file name."""
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in name.lower()).strip("-") or "x"


def _entries(
    summary: EvaluationSummary, protocol: str, trained_on: str, tested_on: str, metric: str
) -> list[Entry | None]:
    """One entry per checkpoint; the best, and those not distinguishable from it, are marked."""
    cells = summary.row(protocol, trained_on, tested_on)
    marked = _mark_best([_entry(cell.metrics[metric]) if cell else None for cell in cells], metric)
    best = {c for c, e in zip(summary.checkpoints, marked, strict=True) if e is not None and e.best}
    wanted = (protocol, trained_on, tested_on, metric)
    open_pairs = {
        frozenset((c.first, c.second))
        for c in summary.comparisons
        if (c.protocol, c.trained_on, c.tested_on, c.metric) == wanted and not c.distinguishable
    }
    return [
        replace(e, tied=True)
        if e is not None and not e.best and any(frozenset((name, b)) in open_pairs for b in best)
        else e
        for name, e in zip(summary.checkpoints, marked, strict=True)
    ]


def _entry(metric: MetricSummary) -> Entry:
    return Entry(
        mean=metric.mean,
        seeds_t=metric.seeds_t,
        seeds_normal=metric.seeds_normal,
        test_images=metric.test_images,
        reason=metric.reason,
    )


def _mark_best(entries: Sequence[Entry | None], metric: str) -> list[Entry | None]:
    """Marks the best value; values that print alike are all best, as in the paper. A single value is not marked."""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    printed = [None if e is None or e.mean is None else sign * round(e.mean, DIGITS) for e in entries]
    known = [value for value in printed if value is not None]
    if len(known) < 2:
        return list(entries)
    return [
        replace(e, best=True) if e is not None and value == max(known) else e
        for e, value in zip(entries, printed, strict=True)
    ]


def _paper_entries(trained_on: str, tested_on: str, metric: str) -> list[Entry | None]:
    """One per preset of the paper."""
    values = [paper_value(trained_on, tested_on, preset, PAPER_VERSION, metric) for preset in PRESETS]
    return [
        None if v is None else Entry(mean=v.mean, seeds_normal=v.interval, plus_minus=v.plus_minus, best=v.best)
        for v in values
    ]


def _marks(summary: EvaluationSummary) -> str:
    return (
        "Best in bold; a dagger marks values that are not distinguishable from the best (Holm-adjusted p of at least "
        f"0.05). {summary.covered[:1].upper()}{summary.covered[1:]}. "
        "Sensitivity (paper) leaves out class 0, as the paper's script does."
    )


def _seeds(summary: EvaluationSummary) -> str:
    counts = sorted({len(cell.seeds) for cell in summary.cells})
    return "" if not counts else str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _cell_notes(summary: EvaluationSummary, protocol: str, *, internal: bool) -> tuple[str, ...]:
    """Notes of the cells and reasons of missing metrics, once per test set."""
    notes = []
    for cell in summary.select(protocol, internal=internal):
        notes += [f"{cell.where}: {note}" for note in cell.notes]
        missing = {m: cell.metrics[m].reason for m in PAPER_METRICS if cell.metrics[m].mean is None}
        notes += [
            f"{cell.where}: no {EVALUATION_METRICS[m].label}, {reason}" for m, reason in missing.items() if reason
        ]
    return tuple(dict.fromkeys(notes))
