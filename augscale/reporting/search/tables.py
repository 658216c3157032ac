"""Tables of the report: the scales side by side, all trials, and what the run was made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from augscale.data.grey_levels import range_lines
from augscale.reporting.search.records import Contender, RunResults, Trial
from augscale.reporting.shared.page import facts_table
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
    score_label,
    signed,
)

MOST_BAD_FILES_SHOWN = 50


@dataclass(frozen=True, kw_only=True)
class Column:
    """One set of scales in the comparison."""

    name: str
    scales: Mapping[str, Any]
    contender: Contender | None
    trial: Trial | None


def columns(run: RunResults) -> list[Column]:
    """The best first, then strong and weak, or the first two other controls where those did not run."""
    best = run.best_trial
    others = [t for t in run.controls if t is not best]
    preferred = [t for name in ("strong", "weak") for t in others if t.control == name] or others[:2]
    trials = ([best] if best else []) + preferred
    by_number = {c.number: c for c in run.answer.contenders} if run.answer else {}
    found = [Column(name=t.name, scales=t.scales, contender=by_number.get(t.number), trial=t) for t in trials]
    if run.answer and run.answer.best and best is None:
        # The record of the winning trial is gone or broken; the answer still has its scales and scores.
        winner = run.answer.best
        found.insert(0, Column(name=winner.name, scales=winner.scales, contender=winner, trial=None))
    return found


def scales_table(run: RunResults) -> str:
    """Scales, scores and health, a column each; what differs from the best stands out."""
    shown = columns(run)
    if not shown:
        return ""
    has_best = run.best_trial is not None or bool(run.answer and run.answer.best)
    fields = [name for name in FIELDS if any(name in c.scales for c in shown)]
    fields += [name for c in shown for name in c.scales if name not in FIELDS and name not in fields]
    differing = [name for name in fields if len({field_value(name, c.scales.get(name)) for c in shown}) > 1]
    equal = [name for name in fields if name not in differing] if len(shown) > 1 else []
    main = [name for name in fields if name not in equal]
    first = ("best" if run.answer else "best so far") if has_best else "control"
    roles = [first] + ["control"] * (len(shown) - 1)
    head = "".join(_scales_head(c.name, role) for c, role in zip(shown, roles, strict=True))
    body = "".join(_scales_row(name, shown, has_best) for name in main)
    scores = "".join(_score_rows(run, shown))
    table = (
        f'<div class="scroll"><table class="scales"><thead><tr><th scope="col"></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody><tbody>{scores}</tbody></table></div>"
    )
    return table + _equal_fields(equal, shown[0].scales)


def trials_table(run: RunResults) -> str:
    """A row per trial, sortable by every column."""
    label = score_label(run.score_name)
    heads = [
        ("trial", "ascending"), ("state", "ascending"), (f"score ({label})", "descending"),
        ("global %", "ascending"), ("local %", "ascending"), ("jitter ±", "ascending"),
        ("effective rank", "descending"), ("information", "descending"), ("time", "ascending"), ("note", "ascending"),
    ]  # fmt: skip
    head = "".join(
        f'<th scope="col" data-first="{first}"><button type="button">{escape(name)}</button></th>'
        for name, first in heads
    )
    best = run.best_trial
    rows = "".join(_trial_row(trial, is_best=trial is best) for trial in run.trials)
    return (
        f'<div class="scroll"><table class="trials sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def facts(run: RunResults) -> str:
    """Data, backbone, device, versions and time, from the answer or, before there is one, the manifest."""
    known: Mapping[str, Any] = run.answer.facts if run.answer else run.manifest
    data, backbone = _mapping(known, "data"), _mapping(known, "backbone") or _mapping(run.study, "backbone")
    counts = _mapping(known, "counts") or {s: run.count(s) for s in STATE_NAMES if run.count(s)}
    parameters = backbone.get("parameters") or known.get("parameters")
    rows = [
        ("Images", f"{_count(data.get('num_images'))} ({_count(data.get('num_train'))} to train on, "
                   f"{_count(data.get('num_panel'))} held out for the panel)" if data else None),
        ("Sources", ", ".join(str(source) for source in data.get("sources") or ())),
        ("Data fingerprint", data.get("fingerprint")),
        ("Grey levels", "; ".join(range_lines(data.get("ranges") or ()))),
        ("Files set aside", _count(data["num_bad"]) if "num_bad" in data else None),
        ("Backbone", _backbone(backbone, parameters)),
        ("Trial length", f"{known['steps']} steps of {known.get('batch_size')} images" if "steps" in known else None),
        ("Trials", ", ".join(f"{count} {STATE_NAMES.get(state, state.lower())}" for state, count in counts.items())),
        ("Device", known.get("device")),
        ("Time", ", ".join(f"{name} {duration(s)}" for name, s in _mapping(known, "seconds").items())),
        ("Finished", moment(known["finished"]) if "finished" in known else None),
        ("Versions", ", ".join(f"{name} {version}" for name, version in _mapping(known, "versions").items())),
    ]  # fmt: skip
    return facts_table([(label, str(value)) for label, value in rows if value])


def bad_files(run: RunResults) -> str:
    """The files that could not be used, with reasons, as far as the manifest lists them."""
    bad = [entry for entry in _mapping(run.manifest, "data").get("bad") or () if isinstance(entry, Mapping)]
    if not bad:
        return ""
    rows = [(str(entry.get("path")), str(entry.get("reason"))) for entry in bad[:MOST_BAD_FILES_SHOWN]]
    more = len(bad) - len(rows)
    note = f'<p class="note">and {more} more, listed in manifest.json</p>' if more else ""
    return f"<details><summary>Files set aside and why</summary>{facts_table(rows)}{note}</details>"


def findings(run: RunResults) -> list[str]:
    """What the check before training found, a line each."""
    found = _mapping(run.manifest, "data").get("findings") or ()
    return [str(entry["text"]) for entry in found if isinstance(entry, Mapping) and "text" in entry]


def passed_over(run: RunResults) -> str:
    """Files of other kinds and excluded ones, as far as the manifest lists them."""
    data = _mapping(run.manifest, "data")
    entries = [entry for entry in data.get("passed_over") or () if isinstance(entry, Mapping)]
    rows = [(f"{entry.get('count')} {entry.get('suffix') or 'files'}", str(entry.get("text"))) for entry in entries]
    rows += [(f"{n} files", f"excluded by {pattern!r}") for pattern, n in _mapping(data, "excluded").items()]
    return f"<details><summary>Files passed over</summary>{facts_table(rows)}</details>" if rows else ""


def settings(run: RunResults) -> str:
    """The resolved study file, a table per section, folded."""
    if not run.study:
        return ""
    plain = {name: value for name, value in run.study.items() if not isinstance(value, Mapping)}
    sections = {name: value for name, value in run.study.items() if isinstance(value, Mapping)}
    parts = [facts_table([(name, str(value)) for name, value in plain.items() if value != ""])]
    for name, section in sections.items():
        rows = [(key, str(value)) for key, value in section.items()]
        parts.append(f"<h3>[{escape(name)}]</h3>{facts_table(rows)}")
    return f"<details><summary>Every setting of the study (study.toml)</summary>{''.join(parts)}</details>"


def _scales_head(name: str, role: str) -> str:
    css = "" if role == "control" else ' class="best"'
    return f'<th scope="col"{css}>{escape(name)}<small>{role}</small></th>'


def _scales_row(name: str, shown: Sequence[Column], has_best: bool) -> str:
    label, unit = field_label(name)
    reference = field_value(name, shown[0].scales.get(name))
    cells = []
    for index, column in enumerate(shown):
        value = column.scales.get(name)
        written = field_value(name, value)
        kind = "best" if index == 0 and has_best else "same" if written == reference else "differs"
        cells.append(f'<td class="{kind}">{escape(written)}{_area_bar(name, value)}</td>')
    return f'<tr><th scope="row">{escape(label)}<small>{escape(unit)}</small></th>{"".join(cells)}</tr>'


def _area_bar(name: str, value: Any) -> str:
    if not name.endswith("crops_scale") or not isinstance(value, (list, tuple)) or len(value) != 2:
        return ""
    low, high = (100 * float(x) for x in value)
    return f'<span class="area"><i style="left:{low:.1f}%;width:{max(high - low, 0):.1f}%"></i></span>'


def _equal_fields(names: Sequence[str], scales: Mapping[str, Any]) -> str:
    if not names:
        return ""
    rows = [
        (f"{label} ({unit})" if unit else label, field_value(name, scales.get(name)))
        for name in names
        for label, unit in [field_label(name)]
    ]
    return (
        f"<details><summary>{len(rows)} further scales are the same in all of them</summary>"
        f"{facts_table(rows)}</details>"
    )


def _score_rows(run: RunResults, shown: Sequence[Column]) -> list[str]:
    label = score_label(run.score_name)
    search = [
        (number(c.trial.score), interval(c.trial.final.interval))
        if c.trial and c.trial.final
        else (number(c.contender.search_score), interval(c.contender.search_interval))
        if c.contender
        else (NOTHING, "")
        for c in shown
    ]
    rows = [_score_row("Score in the search", f"{label}, 95 % interval over images", search)]
    contenders = [c.contender for c in shown]
    if any(c and c.confirm_scores for c in contenders):
        fresh = [(number(c.confirm_mean), interval(c.confirm_interval)) if c else (NOTHING, "") for c in contenders]
        rows.append(_score_row("Score on fresh seeds", "mean, 95 % interval over seeds", fresh))
        versus = [
            (signed(c.versus_best.difference), interval(c.versus_best.interval, sign=True))
            if c and c.versus_best
            else (NOTHING, "")
            for c in contenders
        ]
        rows.append(_score_row("Minus the best", "paired by seed, 95 % for all pairs at once", versus))
    ranks = [(number(c.trial.final.effective_rank if c.trial and c.trial.final else None, 1), "") for c in shown]
    rows.append(_score_row("Effective rank", "dimensions in use", ranks))
    health = [health_words(c.trial.health if c.trial else c.contender.health if c.contender else None) for c in shown]
    rows.append(_score_row("Health", "", health))
    return rows


def _score_row(label: str, unit: str, cells: Sequence[tuple[str, str]]) -> str:
    written = "".join(f"<td>{escape(value)}<small>{escape(detail)}</small></td>" for value, detail in cells)
    return f'<tr><th scope="row">{escape(label)}<small>{escape(unit)}</small></th>{written}</tr>'


def _trial_row(trial: Trial, *, is_best: bool) -> str:
    last = trial.rungs[-1] if trial.rungs else None
    at = f" at step {last.step}" if last and trial.score is None else ""
    name = f"{trial.number}" + (f" {trial.control}" if trial.control else "")
    rank = trial.final.effective_rank if trial.final else last.effective_rank if last else None
    information = trial.final.information if trial.final else last.information if last else None
    evidence = "; ".join(trial.health.evidence) if trial.health and trial.health.verdict != "healthy" else ""
    cells = [
        _cell(name, trial.number),
        _cell(STATE_NAMES[trial.shown_state]),
        _cell(number(trial.last_score) + at if trial.last_score is not None else "", trial.last_score),
        *(_range_cell(field, trial.scales) for field in ("global_crops_scale", "local_crops_scale")),
        _cell(field_value("brightness", trial.scales.get("brightness")), trial.scales.get("brightness")),
        _cell(number(rank, 1) if rank is not None else "", rank),
        _cell(number(information, 2) if information is not None else "", information),
        _cell(duration(trial.seconds) if trial.seconds is not None else "", trial.seconds),
        _cell(trial.reason or evidence, kind="reason"),
    ]
    kind = ' class="best"' if is_best else "" if trial.is_usable else ' class="faded"'
    return f"<tr{kind}>{''.join(cells)}</tr>"


def _range_cell(field: str, scales: Mapping[str, Any]) -> str:
    value = scales.get(field)
    key = value[0] if isinstance(value, (list, tuple)) and value else None
    return _cell(field_value(field, value), key)


def _cell(written: str, key: Any = None, *, kind: str = "") -> str:
    """A cell and what it is sorted by; empty cells go last."""
    sort_key = key if isinstance(key, (int, float)) else written
    css = f' class="{kind}"' if kind else ""
    return f'<td{css} data-value="{escape(str(sort_key))}">{escape(written)}</td>'


def _backbone(backbone: Mapping[str, Any], parameters: Any) -> str:
    if "name" not in backbone:
        return ""
    overrides = ", ".join(f"{name} {value}" for name, value in _mapping(backbone, "overrides").items())
    size = f"{parameters / 1e6:.2f} M parameters" if isinstance(parameters, int) else ""
    start = f"weights at the start: {backbone['init']}" if "init" in backbone else ""
    details = "; ".join(part for part in (overrides, size, start) if part)
    return f"{backbone['name']} ({details})" if details else str(backbone["name"])


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else NOTHING


def _mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}
