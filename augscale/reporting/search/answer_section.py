"""The top of the report: the headline, its verdicts, the scales side by side, caveats, and the next step."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from augscale.records.metrics import SCORES, score_label
from augscale.reporting.search.caveats import short_caveats
from augscale.reporting.search.contenders import contender_rows, heads, verdict_legend
from augscale.reporting.search.next_steps import command_text, next_commands, next_words
from augscale.reporting.search.results import RunResults
from augscale.reporting.search.tables import scales_table
from augscale.reporting.shared.page import nav
from augscale.reporting.shared.screen import MOST_NOTES
from augscale.reporting.shared.templates import render
from augscale.reporting.shared.wording import interval, moment, number, untrained_verdict, verdict
from augscale.searching.answer_words import fresh_seeds


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A line under the headline."""

    sentence: str = ""
    numbers: str
    kind: str = ""
    """Its CSS class: best, clear (the difference is certain), or none."""


def header(run: RunResults, links: Sequence[tuple[str, str]]) -> str:
    """HTML above the page's sections: the headline, and links to them."""
    answer = run.answer
    study = answer.study if answer else None
    facts = [f"study {study or run.study.get('name') or run.path.name}"]
    facts += [f"finished {moment(answer.finished)}"] if answer and answer.finished else []
    return render(
        "search/header.html",
        facts=facts,
        headline=answer.headline if answer else _headline_so_far(run),
        answered=answer is not None,
        newer=_newer_trials(run),
        found=_best_so_far(run),
        quoted_path=shlex.quote(str(run.path)),
        nav=Markup(nav(links)),
    )


def _headline_so_far(run: RunResults) -> str:
    wanted = run.setting("search", "trials")
    ended = sum(t.state != "RUNNING" for t in run.trials)
    confirmed = sum(t.state != "RUNNING" for t in run.confirmations)
    confirming = f", {confirmed} confirmation runs are done" if run.confirmations else ""
    return f"No answer yet: {ended}{f' of {wanted}' if wanted else ''} trials have ended{confirming}."


def _best_so_far(run: RunResults) -> str:
    best = run.best_trial
    if best is None:
        return "No trial has completed without collapsing yet, so there is nothing to compare."
    searched = any(trial.is_usable and not trial.control for trial in run.trials)
    alone = "" if searched else " (a control: no searched scales have completed)"
    return f"Best so far: {best.name}, {score_label(run.score_name)} {number(best.score)}, not yet confirmed{alone}."


def _newer_trials(run: RunResults) -> tuple[int, int] | None:
    """Numbers of trials at the time of the answer and now; None if no trial has started since."""
    known = sum(run.answer.counts.values()) if run.answer else 0
    return (known, len(run.trials)) if 0 < known < len(run.trials) else None


def answer_section(run: RunResults) -> str:
    """HTML of verdicts, scales, caveats and next steps."""
    words = run.best.description if run.best else ""
    title, next_words, commands = _next_steps(run)
    return render(
        "search/answer.html",
        contender_heads=heads(run.answer) if run.answer and run.best else (),
        contenders=contender_rows(run.answer) if run.answer and run.best else (),
        verdict_legend=verdict_legend(run.answer) if run.answer and run.best else "",
        overlap=_overlap_words(run),
        notes=short_caveats(run.answer)[:MOST_NOTES] if run.answer and run.best else (),
        verdicts=_verdicts(run),
        description=[line[:1].upper() + line[1:] for line in words.splitlines() if line],
        scales=scales_table(run),
        meaning=SCORES[run.score_name].meaning if run.score_name in SCORES else "",
        caveats=[
            *(run.answer.caveats if run.answer else ()),
            *(f"While reading the run folder: {note}." for note in run.notes),
        ],
        next_title=title,
        next_words=next_words,
        commands=commands,
    )


def _overlap_words(run: RunResults) -> str:
    """Why intervals may overlap although a verdict is certain; empty where no verdict is."""
    contenders = run.answer.contenders if run.answer else ()
    if not any(contender.versus_best and contender.versus_best.distinguishable for contender in contenders):
        return ""
    return (
        " The intervals of two rows may overlap although the verdict is certain: they hold the differences between "
        "seeds, which all contenders share and which a verdict, seed by seed, leaves out."
    )


def _verdicts(run: RunResults) -> list[Verdict]:
    answer, best = run.answer, run.best
    if answer is None or best is None:
        return []
    mean = number(best.confirm_mean if best.confirm_mean is not None else best.search_score)
    bounds = interval(best.confirm_interval if best.confirm_mean is not None else best.search_interval)
    where = f"on {fresh_seeds(len(best.confirm_scores))}" if best.confirm_scores else "in the search, not confirmed"
    numbers = f"{where}{', 95 % interval ' + bounds if bounds else ''}"
    found = [Verdict(sentence=f"{best.name}: {score_label(run.score_name)} {mean}", numbers=numbers, kind="best")]
    if answer.untrained:
        judged = answer.untrained_judged
        sentence, numbers = untrained_verdict(best.name, answer.untrained, run.score_name, judged=judged)
        kind = "clear" if judged and answer.untrained.beaten else ""
        found.append(Verdict(sentence=sentence, numbers=numbers, kind=kind))
    if answer.null_sentence:
        ended, still = (
            answer.null is not None and answer.null.shift is not None,
            bool(answer.null and answer.null.still),
        )
        sentence = "The null stands still" if still else "The null moves" if ended else "No null run"
        found.append(Verdict(sentence=sentence, numbers=answer.null_sentence, kind="clear" if still else ""))
    others = [c for c in answer.contenders if c is not best]
    for other in others:
        if other.versus_best:
            sentence, numbers = verdict(best.name, other, run.score_name)
            kind = "clear" if other.versus_best.distinguishable else ""
            found.append(Verdict(sentence=sentence, numbers=numbers, kind=kind))
    alone = [c for c in others if c.versus_best is None]
    for words, names in (
        ("No verdict from one fresh seed", [c.name for c in alone if c.confirm_scores]),
        ("Not compared on fresh seeds", [c.name for c in alone if not c.confirm_scores]),
    ):
        found += [Verdict(numbers=f"{words}: {', '.join(names)}.")] if names else []
    return found


def _next_steps(run: RunResults) -> tuple[str, str, list[str]]:
    """Title, words and commands; no commands where there is no best."""
    if run.answer is None or run.best is None or not run.has_card:
        return "", "", []
    commands = [command_text(words) for words in next_commands(run.answer, run.path)]
    if run.answer.unfinished:
        rest = ". The commands after the first take what has ended" if len(commands) > 1 else ""
        words = f"It continues where it stopped: {next_words(run.answer)}{rest}."
        return "Go on with the search", words, commands
    if run.answer.outcome == "training taught nothing":
        words = "These trials were too short to rank scales. For example:"
        return "Search again with longer trials", words, commands
    words = (
        "Get them as flags, config or code of your library (dino, torchvision, lightly, lightly-train, solo-learn), "
        "check the score on labels, pre-train in full, and look at the scales on your own images first."
    )
    card = shlex.quote(str(run.path / "best.toml"))
    return "Use these scales", words, [*commands, f"augscale preview --data DIR --scales strong,weak,{card}"]
