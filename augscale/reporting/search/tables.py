"""Contents of the report's tables: scales side by side, all trials, data, settings and versions of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from augscale.data.grey_levels import range_lines
from augscale.records.answer import BackboneRecord, ContenderRecord
from augscale.records.metrics import METRICS, score_label
from augscale.records.trial import TrialRecord
from augscale.reporting.search.contenders import leader_word
from augscale.reporting.search.results import RunResults
from augscale.reporting.shared.wording import (
    FIELDS,
    NOTHING,
    STATE_NAMES,
    duration,
    field_label,
    field_value,
    health_words,
    interval,
    moment,
    number,
    signed,
)

MOST_BAD_FILES_SHOWN = 50
TextPair = tuple[str, str]
"""A value and its detail, a label and its unit, or a name and its value."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One set of scales in the comparison."""

    name: str
    role: str
    """Shown under the name: best, highest (no verdict), best so far (no answer yet), or control."""
    scales: Mapping[str, Any]
    contender: ContenderRecord | None
    trial: TrialRecord | None


@dataclass(frozen=True, kw_only=True)
class ScaleCell:
    """One field of one set of scales."""

    kind: str
    """Its CSS class: "best" for the best scales; for controls "same" or "differs", compared with the first column."""
    text: str
    area: tuple[float, float] | None
    """Left end and width, in percent, of a bar that shows an area of crops."""


@dataclass(frozen=True, kw_only=True)
class ScalesTable:
    """Scales, scores and health, a column each."""

    columns: Sequence[Column]
    fields: Sequence[tuple[TextPair, Sequence[ScaleCell]]]
    scores: Sequence[tuple[TextPair, Sequence[TextPair]]]
    health: Sequence[TextPair]
    """Verdict and evidence of each column."""
    equal: Sequence[TextPair]
    """Fields that are the same in all columns."""

    @property
    def marks(self) -> bool:
        """True if a field of a control differs from the first column."""
        return any(cell.kind == "differs" for _, cells in self.fields for cell in cells)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of the table of trials."""

    text: str
    key: Any = None
    """Sort key of the cell; None for its text. Empty cells come last."""
    kind: str = ""

    @property
    def sort_key(self) -> Any:
        return self.key if isinstance(self.key, (int, float)) else self.text


def scales_table(run: RunResults) -> ScalesTable | None:
    """The comparison of scales; None where there is nothing to compare."""
    columns = _columns(run)
    if not columns:
        return None
    names = [name for name in FIELDS if any(name in c.scales for c in columns)]
    names += dict.fromkeys(name for c in columns for name in c.scales if name not in FIELDS)
    if not run.local_crops:
        names = [name for name in names if name != "local_crops_scale"]
    differing = [name for name in names if len({field_value(name, c.scales.get(name)) for c in columns}) > 1]
    equal = [name for name in names if name not in differing] if len(columns) > 1 else []
    return ScalesTable(
        columns=columns,
        fields=[(field_label(name), _scale_cells(name, columns)) for name in names if name not in equal],
        scores=_score_rows(run, columns),
        health=_health(columns),
        equal=[_name_with_unit(name, columns[0].scales) for name in equal],
    )


def _columns(run: RunResults) -> list[Column]:
    """The best first, then strong and weak, or, if neither was run, the first two other controls."""
    best = run.best_trial
    others = [t for t in run.controls if t is not best]
    preferred = [t for name in ("strong", "weak") for t in others if t.control == name] or others[:2]
    by_number = {c.number: c for c in run.answer.contenders} if run.answer else {}
    role = leader_word(run.answer) if run.answer else "best so far"
    found = []
    if best is None and run.best:
        # The record of the winning trial is gone or broken; the answer still has its scales and scores.
        found.append(Column(name=run.best.name, role=role, scales=run.best.scales, contender=run.best, trial=None))
    for trial in ([best] if best else []) + preferred:
        kind, contender = role if trial is best else "control", by_number.get(trial.number)
        found.append(Column(name=trial.name, role=kind, scales=trial.scales, contender=contender, trial=trial))
    return found


def _scale_cells(name: str, columns: Sequence[Column]) -> list[ScaleCell]:
    reference = field_value(name, columns[0].scales.get(name))
    cells = []
    for column in columns:
        value = column.scales.get(name)
        text = field_value(name, value)
        kind = "best" if column.role != "control" else "same" if text == reference else "differs"
        cells.append(ScaleCell(kind=kind, text=text, area=_area(name, value)))
    return cells


def _area(name: str, value: Any) -> tuple[float, float] | None:
    if not name.endswith("crops_scale") or not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    low, high = (100 * float(x) for x in value)
    return low, max(high - low, 0)


def _name_with_unit(name: str, scales: Mapping[str, Any]) -> TextPair:
    label, unit = field_label(name)
    return f"{label} ({unit})" if unit else label, field_value(name, scales.get(name))


def _score_rows(run: RunResults, columns: Sequence[Column]) -> list[tuple[TextPair, list[TextPair]]]:
    contenders = [column.contender for column in columns]
    search = (f"{score_label(run.score_name)}, 95 % interval over images", [_search_score(c) for c in columns])
    rows = [(("Score in the search", search[0]), search[1])]
    if any(c and c.confirm_scores for c in contenders):
        fresh = [(number(c.confirm_mean), interval(c.confirm_interval)) if c else (NOTHING, "") for c in contenders]
        rows.append((("Score on fresh seeds", "mean, 95 % interval over seeds"), fresh))
        versus = [_versus_best(c) for c in contenders]
        word = leader_word(run.answer) if run.answer else "best"
        rows.append(((f"Minus the {word}", "paired by seed, 95 % for all pairs at once"), versus))
    finals = [column.trial.final if column.trial else None for column in columns]
    ranks = [(number(final.effective_rank if final else None, 1), "") for final in finals]
    rows.append(((METRICS["rankme"].label, "dimensions in use"), ranks))
    return rows


def _health(columns: Sequence[Column]) -> list[TextPair]:
    records = [column.trial or column.contender for column in columns]
    return [health_words(record.health if record else None) for record in records]


def _search_score(column: Column) -> TextPair:
    if column.trial and column.trial.final:
        return number(column.trial.final.score), interval(column.trial.final.interval)
    if column.contender:
        return number(column.contender.search_score), interval(column.contender.search_interval)
    return NOTHING, ""


def _versus_best(contender: ContenderRecord | None) -> TextPair:
    if contender is None or contender.versus_best is None:
        return NOTHING, ""
    versus = contender.versus_best
    return signed(versus.difference), interval(versus.interval, sign=True)


def trial_heads(run: RunResults) -> list[TextPair]:
    """Names of the columns of all trials, and the order of the first click on each."""
    areas = ("global %", "local %") if run.local_crops else ("global %",)
    return [
        ("trial", "ascending"), ("state", "ascending"), (f"score ({score_label(run.score_name)})", "descending"),
        *((area, "ascending") for area in areas), ("jitter ±", "ascending"),
        ("effective rank", "descending"), ("information", "descending"), ("time", "ascending"), ("note", "ascending"),
    ]  # fmt: skip


def trial_rows(run: RunResults) -> list[tuple[str, list[Cell]]]:
    """The CSS class of each trial's row ("best", "faded" or "") and its cells."""
    best, areas = run.best_trial, ("global_crops_scale", *(("local_crops_scale",) if run.local_crops else ()))
    return [("best" if t is best else "" if t.is_usable else "faded", _trial_cells(t, areas)) for t in run.trials]


def _trial_cells(trial: TrialRecord, areas: Sequence[str]) -> list[Cell]:
    last = trial.rungs[-1] if trial.rungs else None
    at = f" at step {last.step}" if last and trial.score is None else ""
    rank = trial.final.effective_rank if trial.final else last.effective_rank if last else None
    information = trial.final.information if trial.final else last.information if last else None
    evidence = "; ".join(trial.health.evidence) if trial.health and trial.health.verdict != "healthy" else ""
    jitter = trial.scales.get("brightness")
    return [
        Cell(text=f"{trial.number}" + (f" {trial.control}" if trial.control else ""), key=trial.number),
        Cell(text=STATE_NAMES[trial.shown_state]),
        _number_cell(trial.last_score, 3, at),
        *(_range_cell(field, trial.scales) for field in areas),
        Cell(text=field_value("brightness", jitter), key=jitter),
        _number_cell(rank, 1),
        _number_cell(information, 2),
        Cell(text=duration(trial.seconds) if trial.seconds is not None else "", key=trial.seconds),
        Cell(text=trial.reason or evidence, kind="reason"),
    ]


def _number_cell(value: float | None, digits: int, after: str = "") -> Cell:
    return Cell(text="" if value is None else number(value, digits) + after, key=value)


def _range_cell(field: str, scales: Mapping[str, Any]) -> Cell:
    value = scales.get(field)
    key = value[0] if isinstance(value, (list, tuple)) and value else None
    return Cell(text=field_value(field, value), key=key)


def facts(run: RunResults) -> list[TextPair]:
    """Data, backbone, device, versions and time, from the answer or, before there is one, the manifest."""
    answer, manifest = run.answer, run.manifest
    data = (answer.data if answer else manifest.data) or manifest.data
    counts = answer.counts if answer else {}
    counts = counts or {state: run.count(state) for state in STATE_NAMES if run.count(state)}
    rows = [
        ("Images", f"{_count(data.num_images)} ({_count(data.num_train)} to train on, {_count(data.num_panel)} held "
                   "out for the panel)" if data.num_images is not None else ""),
        ("Sources", ", ".join(data.sources)),
        ("Data fingerprint", data.fingerprint),
        ("Grey levels", "; ".join(range_lines(data.ranges))),
        ("Files set aside", "" if data.num_bad is None else _count(data.num_bad)),
        ("Method", run.method_name),
        ("Backbone", _backbone(run)),
        ("Trial length", f"{answer.steps} steps of {answer.batch_size} images" if answer and answer.steps else ""),
        ("Trials", ", ".join(f"{count} {STATE_NAMES.get(state, state.lower())}" for state, count in counts.items())),
        ("Device", (answer.device if answer else manifest.device) or ""),
        ("Time", ", ".join(f"{name} {duration(s)}" for name, s in (answer.seconds if answer else {}).items())),
        ("Finished", moment(answer.finished) if answer and answer.finished else ""),
        ("Versions", ", ".join(f"{n} {v}" for n, v in (answer.versions if answer else manifest.versions).items())),
    ]  # fmt: skip
    return [(label, value) for label, value in rows if value]


def bad_files(run: RunResults) -> tuple[list[TextPair], str]:
    """Unusable files with reasons, and a note on the number that is not shown."""
    bad = run.manifest.data.bad
    more = len(bad) - MOST_BAD_FILES_SHOWN
    rows = [(entry.path, entry.reason) for entry in bad[:MOST_BAD_FILES_SHOWN]]
    return rows, f"and {more} more, listed in manifest.json" if more > 0 else ""


def passed_over(run: RunResults) -> list[TextPair]:
    """Skipped files: those of other kinds and those that a pattern excludes, from the manifest."""
    data = run.manifest.data
    rows = [(f"{entry.count} {entry.suffix or 'files'}", str(entry.text)) for entry in data.passed_over]
    return rows + [(f"{count} files", f"excluded by {pattern!r}") for pattern, count in data.excluded.items()]


def settings(run: RunResults) -> list[tuple[str, list[TextPair]]]:
    """The resolved study file by section; the section of plain settings comes first and is called ""."""
    sections = {name: value for name, value in run.study.items() if isinstance(value, Mapping)}
    plain = {name: value for name, value in run.study.items() if name not in sections and value != ""}
    return [
        (name, [(key, str(value)) for key, value in section.items()])
        for name, section in ({"": plain} | sections).items()
    ]


def _backbone(run: RunResults) -> str:
    backbone = run.answer.backbone if run.answer else None
    backbone = backbone or BackboneRecord.model_validate(run.study.get("backbone") or {})
    if backbone.name is None:
        return ""
    parameters = backbone.parameters or run.manifest.parameters
    parts = (
        ", ".join(f"{name} {value}" for name, value in backbone.overrides.items()),
        f"{parameters / 1e6:.2f} M parameters" if parameters else "",
        f"weights at the start: {backbone.init}" if backbone.init else "",
    )
    details = "; ".join(part for part in parts if part)
    return f"{backbone.name} ({details})" if details else backbone.name


def _count(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"
