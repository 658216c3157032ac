"""The validation's part of a report: verdict, scatter plots, tables. Reads validation.json and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from augscale.errors import DataError
from augscale.reporting.shared.page import plot_section
from augscale.reporting.shared.style import Colors
from augscale.reporting.shared.wording import NOTHING, interval, number, signed
from augscale.reporting.validation import figures as validation_figures

FIRST_LEVELS = ("study", "ladder", "clean", "training")
"""Shown at once; single levels of the panel are behind a click."""
CAVEATS = (
    "Correlations are over the trials of one study: other images, networks or lengths of training can rank otherwise.",
    "Each trial is one training: luck of its seed is part of both its score and its outcome.",
    "Intervals are bootstrap intervals over trials and test images. They are rough below some ten trials.",
)


def validation_sections(values: Mapping[str, Any], drawings: dict[str, str]) -> tuple[list[tuple[str, str]], str]:
    """Links, and HTML; each plot's JSON is added to `drawings` by element id.

    Raises:
        DataError: not what `augscale validate` writes.
    """
    try:
        names = [row["name"] for row in values["rows"]]
        colors = Colors(None, names)
        sections = (
            _verdict(values),
            plot_section(
                "validation-score",
                "The study's score against AUROC",
                "Each mark is a trial. Were the score a good guide, marks would rise from left to right. Dotted lines "
                "are what needs no training: a trial below them has learned nothing that these labels need.",
                validation_figures.study_score(values, colors),
                drawings,
                missing="No trial has a score.",
            ),
            plot_section(
                "validation-metrics",
                "Other label-free metrics",
                "The same for other metrics, against the outcome of the headline.",
                validation_figures.other_metrics(values, colors),
                drawings,
                missing="No other metric was measured.",
            ),
            _correlations(values),
            _regrets(values),
            _networks(values),
        )
    except (KeyError, TypeError, StopIteration, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise DataError(f"validation.json: not what augscale validate writes ({problem})") from None
    links = [
        ("validation", "Verdict"), ("validation-score", "Score"), ("validation-metrics", "Metrics"),
        ("validation-correlations", "Correlations"), ("validation-regret", "Regret"), ("validation-trials", "Trials"),
    ]  # fmt: skip
    return links, "\n".join(sections)


def _verdict(values: Mapping[str, Any]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in values["sentences"])
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*values["notes"], *CAVEATS))
    return (
        '<section id="validation"><h2>Does the score rank trials as labels do?</h2>'
        f'<p class="banner"><strong>{escape(values["headline"])}</strong></p><ul>{items}</ul>'
        f'<div class="caveats"><h3>Notes, and what this does not show</h3><ul>{notes}</ul></div></section>'
    )


def _correlations(values: Mapping[str, Any]) -> str:
    outcomes = values["outcomes"]
    cells = {(cell["score"], cell["outcome"]): cell for cell in values["correlations"]}
    parts = []
    for title, shown in (
        ("", [m for m in values["metrics"] if m["level"] in FIRST_LEVELS]),
        ("Single levels of the panel", [m for m in values["metrics"] if m["level"] not in FIRST_LEVELS]),
    ):
        if not shown:
            continue
        rows = "".join(
            f'<tr><th scope="row" title="{escape(m["meaning"])}">{escape(m["label"])}<small>{escape(_level(m))}</small>'
            f"</th>{''.join(_cell(cells[m['key'], o['key']], o, values) for o in outcomes)}</tr>"
            for m in shown
        )
        table = _table(_heads(outcomes, "metric"), rows)
        parts.append(f"<details><summary>{title}</summary>{table}</details>" if title else table)
    return (
        '<section id="validation-correlations"><h2>Every metric with every outcome</h2><p class="guide">Spearman\'s '
        "correlation over trials with its 95 % interval, below it Kendall's. Above 0: what the metric calls better has "
        "the higher outcome. Bold: p below 0.05 for the cell alone; how many of these chance gives is said at the top. "
        "Reliability: the share of an outcome's spread between trials that is not chance of the test images."
        f"</p>{''.join(parts)}</section>"
    )


def _cell(cell: Mapping[str, Any], outcome: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    if cell["spearman"] is None:
        return f'<td title="{escape(cell["note"])}">{NOTHING}</td>'
    shown = signed(cell["spearman"], 2)
    clear = cell["p_value"] is not None and cell["p_value"] < 0.05
    shown = f"<strong>{shown}</strong>" if clear else shown
    bounds = interval(cell["spearman_interval"], sign=True, digits=2)
    kendall = f"τ {signed(cell['kendall'], 2)}" if cell["kendall"] is not None else ""
    note = f' title="{escape(cell["note"])}"' if cell["note"] else ""
    return f"<td{note}>{shown}<small>{bounds}</small><small>{kendall}</small></td>"


def _regrets(values: Mapping[str, Any]) -> str:
    labels = {o["key"]: o["label"] for o in values["outcomes"]}
    rows = []
    for row in values["regrets"]:
        v = row["values"]
        if v["regret"] is None:
            continue
        cells = [
            f"{escape(v['best'])}<small>{number(v['best_outcome'])}</small>",
            f"{number(v['best_corrected'])}<small>{number(v['best_crossfitted'])}</small>",
            f"{escape(v['pick'])}<small>{number(v['pick_outcome'])}</small>",
            f"{number(v['regret'])}<small>{interval(v['interval'])}</small>",
        ]
        gains = "".join(
            f"<div>{escape(other['name'])} {signed(other['gain'])}<small>{interval(other['gain_interval'], sign=True)}"
            "</small></div>"
            for other in v["alternatives"]
        )
        body = "".join(f"<td>{cell}</td>" for cell in (*cells, gains))
        rows.append(f'<tr><th scope="row">{escape(labels[row["outcome"]])}</th>{body}</tr>')
    heads = (
        "outcome", "best by labels", "corrected for luck<small>cross-fitted</small>", "picked by the score",
        "regret", "the pick gains over",
    )  # fmt: skip
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        '<section id="validation-regret"><h2>What choosing by the score costs</h2><p class="guide">Regret: outcome of '
        "the best trial by labels minus that of the trial that the score prefers. The best by labels is the luckiest "
        "of several noisy values; corrected is its value less the optimism seen in resampled test images, cross-fitted "
        "is chosen on half of the test images and judged on the other.</p>"
        f"{_table(f'<tr>{head}</tr>', ''.join(rows))}</section>"
    )


def _networks(values: Mapping[str, Any]) -> str:
    outcomes = values["outcomes"]
    heads = ["", "note", "study's score", *(o["label"] for o in outcomes)]
    head = "".join(
        f'<th scope="col" data-first="descending"><button type="button">{escape(name) or "trial"}</button></th>'
        for name in heads
    )
    rows = "".join(_network(row, outcomes) for row in values["rows"])
    return (
        '<section id="validation-trials"><h2>Trials, and what they have to beat</h2><p class="guide">At step '
        f"{values['step']} of {values['steps']}. Click a column to sort. Faded rows are not counted above.</p>"
        f"{_table(f'<tr>{head}</tr>', rows, 'trials sortable')}</section>"
    )


def _network(row: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]]) -> str:
    score = row["scores"].get("study/score")
    cells = [(row["name"], row["name"]), (row["reason"] or row["kind"], row["reason"] or row["kind"])]
    cells.append(("" if score is None else repr(score), number(score)))
    for outcome in outcomes:
        value = row["outcomes"].get(outcome["key"])
        cells.append(("" if value is None else repr(value), number(value)))
    body = "".join(f'<td data-value="{escape(value)}">{escape(shown)}</td>' for value, shown in cells)
    faded = "" if row["used"] or row["kind"] == "reference" else ' class="faded"'
    return f"<tr{faded}>{body}</tr>"


def _table(head: str, rows: str, css: str = "") -> str:
    return f'<div class="scroll"><table class="{css}"><thead>{head}</thead><tbody>{rows}</tbody></table></div>'


def _heads(outcomes: Sequence[Mapping[str, Any]], first: str) -> str:
    cells = "".join(f'<th scope="col">{escape(o["label"])}<small>{_reliable(o)}</small></th>' for o in outcomes)
    return f'<tr><th scope="col">{first}</th>{cells}</tr>'


def _reliable(outcome: Mapping[str, Any]) -> str:
    found = outcome["reliability"]
    return "" if found is None else f"reliability {number(found, 2)}"


def _level(metric: Mapping[str, Any]) -> str:
    words = {"study": "what the search used", "ladder": "mean over the ladder", "clean": "no augmentation"}
    return words.get(metric["level"], metric["level"]) + (", turned round" if metric["turned"] else "")
