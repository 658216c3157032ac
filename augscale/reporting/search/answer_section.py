"""The top of the report: the headline, how sure it is, the scales side by side, caveats, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from html import escape

from augscale.reporting.search import tables as html_tables
from augscale.reporting.search.records import RunResults
from augscale.reporting.shared.wording import (
    SCORE_MEANINGS,
    interval,
    moment,
    next_command,
    number,
    score_label,
    untrained_verdict,
    verdict,
)


def header(run: RunResults) -> str:
    facts = run.answer.facts if run.answer else {}
    parts = [f"study {facts.get('study') or run.study.get('name') or run.path.name}"]
    parts += [f"finished {moment(facts['finished'])}"] if "finished" in facts else []
    line = f'<p class="overline">augscale search · {escape(" · ".join(parts))}</p>'
    if run.answer:
        return f"{line}<h1>{escape(run.answer.headline)}</h1>{_newer_trials(run)}"
    return line + _unfinished(run)


def _unfinished(run: RunResults) -> str:
    """The headline before there is an answer."""
    wanted = run.setting("search", "trials")
    ended = sum(t.state != "RUNNING" for t in run.trials)
    of = f" of {wanted}" if wanted else ""
    confirmed = sum(t.state != "RUNNING" for t in run.confirmations)
    confirming = f", {confirmed} confirmation runs are done" if run.confirmations else ""
    best = run.best_trial
    if best is None:
        found = "No trial has completed without collapsing yet, so there is nothing to compare."
    else:
        found = f"Best so far: {best.name}, {score_label(run.score_name)} {number(best.score)}, not yet confirmed."
    return (
        f"<h1>Search still running: {ended}{of} trials have ended{confirming}.</h1>"
        f'<p class="banner">{escape(found)} There is no answer yet; if the search was stopped, the same command '
        "with the same <code>--out</code> resumes it. Write this page again with "
        f"<code>augscale report {escape(shlex.quote(str(run.path)))}</code>.</p>"
    )


def _newer_trials(run: RunResults) -> str:
    counts = run.answer.facts.get("counts") if run.answer else None
    known = sum(counts.values()) if isinstance(counts, Mapping) else None
    if known is None or known >= len(run.trials):
        return ""
    return (
        f'<p class="banner">The answer was given after {known} trials; {len(run.trials)} have started by now. '
        "Figures and tables show all of them, the headline and verdicts do not.</p>"
    )


def answer(run: RunResults) -> str:
    table = html_tables.scales_table(run)
    meaning = SCORE_MEANINGS.get(run.score_name, "")
    words = run.answer.best.description if run.answer and run.answer.best else ""
    parts = [
        _verdicts(run),
        "".join(f"<p>{escape(line[:1].upper() + line[1:])}.</p>" for line in words.splitlines() if line),
        f'{table}<p class="note">{escape(meaning)}</p>' if table else "",
        _caveats(run),
        _next_steps(run),
    ]
    return f'<section id="answer">{"".join(parts)}</section>'


def _verdicts(run: RunResults) -> str:
    if run.answer is None or run.answer.best is None:
        return ""
    best = run.answer.best
    items = []
    if run.answer.untrained:
        sentence, numbers = untrained_verdict(best.name, run.answer.untrained, run.score_name)
        items.append(_verdict(sentence, numbers, clear=run.answer.untrained.beaten))
    if run.answer.null and run.answer.null.sentence:
        name = "The null stands still" if run.answer.null.still else "The null moves"
        items.append(_verdict(name, run.answer.null.sentence, clear=run.answer.null.still))
    for other in run.answer.contenders:
        if other is best or other.versus_best is None:
            continue
        sentence, numbers = verdict(best.name, other, run.score_name)
        items.append(_verdict(sentence, numbers, clear=other.versus_best.distinguishable))
    alone = [c.name for c in run.answer.contenders if c is not best and c.versus_best is None]
    if alone:
        items.append(f"<li><span>Not compared on fresh seeds: {escape(', '.join(alone))}.</span></li>")
    mean = number(best.confirm_mean if best.confirm_mean is not None else best.search_score)
    bounds = interval(best.confirm_interval if best.confirm_mean is not None else best.search_interval)
    where = f"on {len(best.confirm_scores)} fresh seeds" if best.confirm_scores else "in the search, not confirmed"
    score = (
        f'<li class="best"><strong>{escape(best.name)}: {score_label(run.score_name)} {mean}</strong>'
        f"<span>{escape(where)}{', 95 % interval ' + bounds if bounds else ''}</span></li>"
    )
    return f'<ul class="verdicts">{score}{"".join(items)}</ul>'


def _verdict(sentence: str, numbers: str, *, clear: bool) -> str:
    css = ' class="clear"' if clear else ""
    return f"<li{css}><strong>{escape(sentence)}</strong><span>{escape(numbers)}</span></li>"


def _caveats(run: RunResults) -> str:
    caveats = run.answer.caveats if run.answer else ()
    notes = tuple(f"While reading the run folder: {note}." for note in run.notes)
    if not caveats and not notes:
        return ""
    lines = "".join(f"<li>{escape(line)}</li>" for line in (*caveats, *notes))
    return f'<div class="caveats"><h2>What this does not show</h2><ul>{lines}</ul></div>'


def _next_steps(run: RunResults) -> str:
    if run.answer is None or run.answer.best is None or not run.has_card:
        return ""
    command = next_command(run.answer, run.path)
    if run.answer.untrained and not run.answer.untrained.beaten:
        title, words = "Search again with longer trials", "These trials were too short to rank scales. For example:"
        commands = [command]
    else:
        title = "Use these scales"
        words = (
            "Get them as flags, config or code of your library (dino, torchvision, lightly, lightly-train, "
            "solo-learn), and look at them on your own images first."
        )
        card = shlex.quote(str(run.path / "best.toml"))
        commands = [command, f"augscale preview --data DIR --scales strong,weak,{card}"]
    blocks = "".join(
        f'<div class="command"><pre><code>{escape(command)}</code></pre>'
        '<button type="button" class="copy">Copy</button></div>'
        for command in commands
    )
    return f"<section><h2>{title}</h2><p>{words}</p>{blocks}</section>"
