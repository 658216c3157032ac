"""Tables of a diagnosis: metrics by level, comparisons, what was loaded, near-duplicates, settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from augscale.data.grey_levels import range_lines
from augscale.reporting.diagnosis.plots import CheckpointColors
from augscale.reporting.diagnosis.records import GROUPS, CheckpointResult, Diagnosis, Load, Metric
from augscale.reporting.diagnosis.wording import (
    PAPER_SILHOUETTES,
    comparison_words,
    difference_text,
    metric_text,
)
from augscale.reporting.shared.page import css_color, facts_table
from augscale.reporting.shared.wording import NOTHING, moment, number

MOST_KEYS_SHOWN = 40
MOST_ROWS_SHOWN = 50
DIRECTIONS = {"higher": "higher is better", "lower": "lower is better", "none": "neither direction is better"}


def metrics_table(
    diagnosis: Diagnosis, colors: CheckpointColors, found: Sequence[Mapping[str, Metric]], *, paper: bool = False
) -> str:
    """A row per metric and a column per checkpoint.

    Args:
        diagnosis: for names and the glossary.
        colors: of the checkpoints.
        found: metrics of each checkpoint, in their order.
        paper: adds the paper's own silhouettes as a line of reference.
    """
    keys = list(dict.fromkeys(key for metrics in found for key in metrics))
    if not keys:
        return '<p class="guide">Nothing was computed.</p>'
    known = [*diagnosis.glossary]
    keys.sort(key=lambda key: known.index(key) if key in known else len(known))
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for key in keys:
        groups.setdefault(diagnosis.meaning(key).group, []).append(key)
    common = [common_reason(metrics) for metrics in found]
    head = "".join(
        f'<th scope="col"><i class="swatch" style="background:{css_color(colors[c.name])}"></i>{escape(c.name)}'
        f"{f'<small>–: {escape(reason)}</small>' if reason else ''}</th>"
        for c, reason in zip(diagnosis.checkpoints, common, strict=True)
    )
    body = []
    for group, members in groups.items():
        if members:
            title = GROUPS.get(group) or group.capitalize() or "Others"
            span = len(diagnosis.checkpoints) + 1
            body.append(f'<tr class="group"><th scope="rowgroup" colspan="{span}">{escape(title)}</th></tr>')
        for key in members:
            body.append(_metric_row(diagnosis, key, [metrics.get(key) for metrics in found], common))
            if key == "silhouette" and paper:
                body.append(_paper_row(len(diagnosis.checkpoints)))
    return (
        f'<div class="scroll"><table class="metrics"><thead><tr><th scope="col"></th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def best_columns(direction: str, checkpoints: Sequence[CheckpointResult], metrics: Sequence[Metric | None]) -> set[int]:
    """Which columns hold the best value: none without a direction, for a single value, or where all are equal.

    A collapsed checkpoint is never best, since a single point has, for one, a perfect alignment.
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
    """The reason that at least three numbers of a column lack for, said once in its head; empty where there is none."""
    reasons = Counter(metric.reason for metric in metrics.values() if metric.value is None and metric.reason)
    reason, count = reasons.most_common(1)[0] if reasons else ("", 0)
    return reason if count >= 3 else ""


def glossary(diagnosis: Diagnosis) -> str:
    """What each number means; on a phone there is no pointer to show a tooltip."""
    rows = [
        (entry.label, " ".join(part for part in (entry.meaning, _scale(entry.direction, entry.range)) if part))
        for entry in diagnosis.glossary.values()
    ]
    if not rows:
        return ""
    return f"<details><summary>What each number means</summary>{facts_table(rows)}</details>"


def comparisons(diagnosis: Diagnosis) -> str:
    """All pairwise comparisons, folded."""
    if not diagnosis.comparisons:
        return ""
    rows = []
    for found in diagnosis.comparisons:
        cells = [
            found.a,
            found.b,
            f"{diagnosis.meaning(found.metric).label}, {found.level}",
            difference_text(found),
            comparison_words(diagnosis, found),
        ]
        rows.append(_row(cells))
    head = ("a", "b", "metric and level", "a minus b (95 % interval)", "a is")
    return f"<details><summary>Every comparison of two checkpoints</summary>{_table(head, rows)}</details>"


def loaded(diagnosis: Diagnosis) -> str:
    """What each checkpoint is and how its keys fitted."""
    parts = []
    for checkpoint in diagnosis.checkpoints:
        facts, load = checkpoint.facts, checkpoint.load
        rows = [
            ("File or model", facts.get("path")),
            ("Kind", facts.get("kind")),
            ("Architecture", facts.get("arch")),
            ("Embedding", f"{facts['embed_dim']} numbers" if "embed_dim" in facts else None),
            ("Parameters", _millions(facts.get("num_parameters"))),
            ("Image size", f"{facts['image_size']} pixels" if "image_size" in facts else None),
            ("Trained with", facts.get("trained_with")),
            ("Weights", _matched(load) if load else "nothing to match"),
        ]
        keys = "".join(_keys(title, names) for title, names in _key_lists(load))
        table = facts_table([(label, str(value)) for label, value in rows if value])
        parts.append(f"<h3>{escape(checkpoint.name)}</h3>{table}{keys}")
    return "".join(parts)


def near_duplicates(diagnosis: Diagnosis) -> str:
    """Pairs of images that are nearly the same; of different patients they would count as negatives."""
    found = diagnosis.near_duplicates
    if not found:
        return '<p class="guide">None were found among the images of the panel.</p>'
    rows = []
    for entry in found[:MOST_ROWS_SHOWN]:
        correlation = entry.get("correlation")
        written = number(float(correlation), 4) if isinstance(correlation, (int, float)) else NOTHING
        same = "same patient" if entry.get("same_patient") else "different patients"
        rows.append(_row([str(entry.get("a")), str(entry.get("b")), written, same]))
    more = _more(len(found) - len(rows), "listed in diagnosis.json")
    return _table(("image", "image", "correlation", ""), rows) + more


def settings(diagnosis: Diagnosis) -> str:
    """Data, panel, device, seed and versions."""
    facts = diagnosis.facts
    data = _mapping(facts.get("data"))
    labels = ", ".join(f"{name}: {count}" for name, count in _mapping(data.get("labels")).items())
    rows = [
        ("Sources", ", ".join(str(source) for source in data.get("sources") or ())),
        ("Images found", data.get("num_images")),
        ("Patients", data.get("num_patients")),
        ("Images diagnosed", facts.get("num_images")),
        ("of them with a label", data.get("num_labelled")),
        ("Labels", labels),
        ("Views of each", facts.get("num_views")),
        ("View size", f"{facts['view_size']} pixels" if facts.get("view_size") else None),
        ("Grey levels", "; ".join(range_lines(data.get("ranges") or ()))),
        ("Files set aside", data.get("num_bad")),
        ("Data fingerprint", data.get("fingerprint")),
        ("Device", facts.get("device")),
        ("Seed", facts.get("seed")),
        ("Bootstrap", f"{facts['bootstrap']} draws of patients" if facts.get("bootstrap") else None),
        ("Finished", moment(facts["finished"]) if "finished" in facts else None),
        ("Versions", ", ".join(f"{name} {version}" for name, version in _mapping(facts.get("versions")).items())),
    ]
    return facts_table([(label, str(value)) for label, value in rows if value not in (None, "")]) + _bad(data)


def _metric_row(diagnosis: Diagnosis, key: str, metrics: Sequence[Metric | None], common: Sequence[str]) -> str:
    entry = diagnosis.meaning(key)
    best = best_columns(entry.direction, diagnosis.checkpoints, metrics)
    cells = []
    for index, metric in enumerate(metrics):
        value, bounds = metric_text(metric)
        reason = metric.reason if metric and metric.value is None else ""
        detail = bounds or (reason if reason != common[index] else "")
        css = ' class="best"' if index in best else ' class="none"' if value == NOTHING else ""
        cells.append(f"<td{css}>{escape(value)}<small>{escape(detail)}</small></td>")
    tip = escape(" ".join(part for part in (entry.meaning, _scale(entry.direction, entry.range)) if part))
    arrow = {"higher": " ↑", "lower": " ↓"}.get(entry.direction, "")
    title = f' title="{tip}"' if tip else ""
    label = f"{escape(entry.label)}{arrow}<small>{escape(entry.range)}</small>"
    return f'<tr><th scope="row"{title}>{label}</th>{"".join(cells)}</tr>'


def _paper_row(columns: int) -> str:
    values = ", ".join(f"{name} {number(value)}" for name, value in PAPER_SILHOUETTES.items())
    return (
        f'<tr><th scope="row"><small>in the paper</small></th><td class="note-cell" colspan="{columns}">{values}; '
        "image set, layer and distance are not stated there</td></tr>"
    )


def _scale(direction: str, range_: str) -> str:
    words = DIRECTIONS.get(direction, "")
    return f"Range {range_}; {words}." if range_ else f"{words.capitalize()}." if words else ""


def _matched(load: Load) -> str:
    share = f"{100 * load.matched_share:.4g} % of the network's weights" if load.matched_share is not None else ""
    count = f"{load.matched} keys matched" if load.matched is not None else ""
    return ", ".join(part for part in (count, share) if part) or "not stated"


def _key_lists(load: Load | None) -> list[tuple[str, tuple[str, ...]]]:
    if load is None:
        return []
    return [
        ("missing in the file, left at their start", load.missing),
        ("of another shape, left out", load.mismatched),
        ("in the file but not in the network", load.unexpected),
    ]


def _keys(title: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    shown = "<br>".join(escape(name) for name in names[:MOST_KEYS_SHOWN])
    more = _more(len(names) - MOST_KEYS_SHOWN, "listed in diagnosis.json")
    plural = "key" if len(names) == 1 else "keys"
    return f"<details><summary>{len(names)} {plural} {title}</summary><p><code>{shown}</code></p>{more}</details>"


def _bad(data: Mapping[str, Any]) -> str:
    bad = [entry for entry in data.get("bad") or () if isinstance(entry, Mapping)]
    if not bad:
        return ""
    rows = [(str(entry.get("path")), str(entry.get("reason"))) for entry in bad[:MOST_ROWS_SHOWN]]
    more = _more(len(bad) - len(rows), "listed in diagnosis.json")
    return f"<details><summary>Files set aside and why</summary>{facts_table(rows)}{more}</details>"


def _more(count: int, where: str) -> str:
    return f'<p class="note">and {count} more, {where}</p>' if count > 0 else ""


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return (
        f'<div class="scroll"><table class="plain"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _millions(count: Any) -> str | None:
    return f"{count / 1e6:.2f} million" if isinstance(count, int) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
