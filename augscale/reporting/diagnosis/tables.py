"""Tables of a diagnosis: metrics by level, comparisons, load reports, near-duplicates, settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from augscale.data.grey_levels import range_lines
from augscale.records.diagnosis import CheckpointRecord, DiagnosisRecord, Load, Metric
from augscale.records.metrics import GROUP_TITLES
from augscale.reporting.diagnosis.plots import CheckpointColors
from augscale.reporting.diagnosis.wording import PAPER_SILHOUETTES, comparison_words, difference_text, metric_text
from augscale.reporting.shared.page import css_color, facts_table
from augscale.reporting.shared.templates import render
from augscale.reporting.shared.wording import NOTHING, moment, number

MOST_KEYS_SHOWN = 40
MOST_ROWS_SHOWN = 50
ARROWS = {"higher": " ↑", "lower": " ↓"}


class _Column(NamedTuple):
    name: str
    color: str
    reason: str
    """Reason shared by at least three missing values of the column, whose cells do not repeat it."""


class _Cell(NamedTuple):
    value: str
    detail: str
    css: str


class _Row(NamedTuple):
    key: str
    label: str
    range: str
    explanation: str
    cells: list[_Cell]


def metrics_table(
    diagnosis: DiagnosisRecord,
    colors: CheckpointColors,
    found: Sequence[Mapping[str, Metric]],
    *,
    paper: bool = False,
) -> Markup:
    """A row per metric and a column per checkpoint.

    Args:
        diagnosis: the source of names and of the glossary.
        colors: of the checkpoints.
        found: metrics of each checkpoint, in their order.
        paper: adds the paper's own silhouettes as a line of reference.
    """
    known = [*diagnosis.glossary]
    keys = list(dict.fromkeys(key for metrics in found for key in metrics))
    keys.sort(key=lambda key: known.index(key) if key in known else len(known))
    groups: dict[str, list[_Row]] = {group: [] for group in GROUP_TITLES}
    columns = [
        _Column(c.name, css_color(colors[c.name]), common_reason(metrics))
        for c, metrics in zip(diagnosis.checkpoints, found, strict=True)
    ]
    for key in keys:
        row = _metric_row(diagnosis, key, [metrics.get(key) for metrics in found], columns)
        groups.setdefault(diagnosis.meaning(key).group, []).append(row)
    reference = ", ".join(f"{name} {number(value)}" for name, value in PAPER_SILHOUETTES.items()) if paper else ""
    return render(
        "diagnosis/metrics_table.html",
        columns=columns,
        groups=[
            (GROUP_TITLES.get(group) or group.capitalize() or "Others", rows) for group, rows in groups.items() if rows
        ],
        paper_silhouettes=reference,
    )


def _metric_row(
    diagnosis: DiagnosisRecord, key: str, metrics: Sequence[Metric | None], columns: Sequence[_Column]
) -> _Row:
    info = diagnosis.meaning(key)
    best = best_columns(info.direction, diagnosis.checkpoints, metrics)
    cells = []
    for index, (metric, column) in enumerate(zip(metrics, columns, strict=True)):
        value, bounds = metric_text(metric)
        reason = metric.reason if metric and metric.value is None else None
        detail = bounds or (reason if reason and reason != column.reason else "")
        cells.append(_Cell(value, detail, "best" if index in best else "none" if value == NOTHING else ""))
    return _Row(key, info.label + ARROWS.get(info.direction, ""), info.range, info.explanation, cells)


def best_columns(direction: str, checkpoints: Sequence[CheckpointRecord], metrics: Sequence[Metric | None]) -> set[int]:
    """Columns with the best value: none without a direction, for a single value, or where all are equal.

    A collapsed checkpoint is never best, because a single point has, for example, a perfect alignment.
    """
    if direction not in ("higher", "lower"):
        return set()
    values = {
        index: metric.value
        for index, (checkpoint, metric) in enumerate(zip(checkpoints, metrics, strict=True))
        if metric and metric.value is not None and not checkpoint.is_collapsed
    }
    if len(set(values.values())) < 2:
        return set()
    best = (max if direction == "higher" else min)(values.values())
    return {index for index, value in values.items() if value == best}


def common_reason(metrics: Mapping[str, Metric]) -> str:
    """The reason that at least three missing values of a column share; empty where there is none."""
    reasons = Counter(metric.reason for metric in metrics.values() if metric.value is None and metric.reason)
    reason, count = reasons.most_common(1)[0] if reasons else ("", 0)
    return reason if count >= 3 else ""


def glossary(diagnosis: DiagnosisRecord) -> Markup:
    """The meaning of each metric as a table, because phones do not show tooltips."""
    return Markup(facts_table([(info.label, info.explanation) for info in diagnosis.glossary.values()]))


def comparison_rows(diagnosis: DiagnosisRecord) -> list[tuple[str, ...]]:
    """All pairwise comparisons: a, b, metric and level, difference, words."""
    return [
        (
            found.a,
            found.b,
            f"{diagnosis.meaning(found.metric).label}, {found.level}",
            difference_text(found),
            comparison_words(diagnosis, found),
        )
        for found in diagnosis.comparisons
    ]


class LoadReport(NamedTuple):
    """Facts on a checkpoint, and the keys that did not fit."""

    name: str
    facts: Markup
    unmatched: list[tuple[str, tuple[str, ...]]]


def load_reports(diagnosis: DiagnosisRecord) -> list[LoadReport]:
    """A table of facts and the lists of keys of each checkpoint."""
    return [LoadReport(c.name, _load_facts(c), _unmatched_keys(c.load)) for c in diagnosis.checkpoints]


def _load_facts(checkpoint: CheckpointRecord) -> Markup:
    parameters, size = checkpoint.num_parameters, checkpoint.image_size
    rows = [
        ("File or model", checkpoint.path),
        ("Kind", checkpoint.kind),
        ("Architecture", checkpoint.arch),
        ("Embedding", None if checkpoint.embed_dim is None else f"{checkpoint.embed_dim} numbers"),
        ("Parameters", None if parameters is None else f"{parameters / 1e6:.2f} million"),
        ("Image size", None if size is None else f"{size} pixels"),
        ("Trained with", checkpoint.trained_with),
        ("Weights", _matched(checkpoint.load) if checkpoint.load else "nothing to match"),
    ]
    return Markup(facts_table([(label, value) for label, value in rows if value]))


def _matched(load: Load) -> str:
    share = f"{100 * load.matched_share:.4g} % of the network's weights" if load.matched_share is not None else ""
    count = f"{load.matched} keys matched" if load.matched is not None else ""
    return ", ".join(part for part in (count, share) if part) or "not stated"


def _unmatched_keys(load: Load | None) -> list[tuple[str, tuple[str, ...]]]:
    if load is None:
        return []
    lists = [
        ("missing in the file, left at their initial values", load.missing),
        ("of another shape, left out", load.mismatched),
        ("in the file but not in the network", load.unexpected),
    ]
    return [(title, names) for title, names in lists if names]


def near_duplicate_rows(diagnosis: DiagnosisRecord) -> list[tuple[str, ...]]:
    """Pairs of nearly equal images; between different patients they count as negatives."""
    return [
        (found.a, found.b, number(found.correlation, 4), "same patient" if found.same_patient else "different patients")
        for found in diagnosis.near_duplicates
    ]


def settings(diagnosis: DiagnosisRecord) -> Markup:
    """Data, panel, device, seed and versions."""
    data = diagnosis.data
    labels = ", ".join(f"{name}: {count}" for name, count in (data.get("labels") or {}).items())
    rows: list[tuple[str, Any]] = [
        ("Sources", ", ".join(str(source) for source in data.get("sources") or ())),
        ("Images found", data.get("num_images")),
        ("Patients", data.get("num_patients")),
        ("Images diagnosed", diagnosis.num_images),
        ("of them with a label", data.get("num_labelled")),
        ("Labels", labels),
        ("Views of each", diagnosis.num_views),
        ("View size", _view_sizes(diagnosis)),
        ("Grey levels", "; ".join(range_lines(data.get("ranges") or ()))),
        ("Files set aside", data.get("num_bad")),
        ("Data fingerprint", data.get("fingerprint")),
        ("Device", diagnosis.device),
        ("Seed", diagnosis.seed),
        ("Bootstrap", f"{diagnosis.bootstrap} draws of patients" if diagnosis.bootstrap else None),
        ("Finished", moment(diagnosis.finished) if diagnosis.finished else None),
        ("Versions", ", ".join(f"{name} {version}" for name, version in diagnosis.versions.items())),
    ]
    return Markup(facts_table([(label, str(value)) for label, value in rows if value not in (None, "")]))


def _view_sizes(diagnosis: DiagnosisRecord) -> str | None:
    sizes = {checkpoint.view_size for checkpoint in diagnosis.checkpoints if checkpoint.view_size}
    found = sorted({diagnosis.view_size} if diagnosis.view_size else sizes)
    return f"{' and '.join(map(str, found))} pixels" if found else None


def bad_files(diagnosis: DiagnosisRecord) -> list[tuple[str, str]]:
    """Files that were set aside, and why."""
    return [(str(entry.get("path")), str(entry.get("reason"))) for entry in diagnosis.data.get("bad") or ()]
