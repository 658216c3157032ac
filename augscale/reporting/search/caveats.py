"""The caveats of an answer in one line each, the gravest first; the report has the full sentences."""

from __future__ import annotations

from collections.abc import Iterator

from augscale import doc_pages
from augscale.records.answer import AnswerRecord
from augscale.reporting.shared.screen import Note
from augscale.searching.answer_words import fresh_seeds, unfinished_sentence


def short_caveats(answer: AnswerRecord) -> tuple[Note, ...]:
    """Signs of a wrong answer first, then the limits that every answer has."""
    return (*_alarms(answer), *_limits(answer))


def _alarms(answer: AnswerRecord) -> Iterator[Note]:
    best, null = answer.best_contender, answer.null
    if answer.unfinished and answer.unfinished.searched:
        yield Note(text=unfinished_sentence(answer.unfinished).removesuffix("."))
    if best and best.health and best.health.verdict == "suspicious":
        yield Note(text=f"{best.name} looks suspicious: see the report", page=doc_pages.HEALTH)
    if null and null.shift is not None and not null.still:
        yield Note(text="The score moves without learning, too; that part is no gain", page=doc_pages.SCORE)
    if best and not best.confirm_scores:
        yield Note(text="Not repeated on fresh seeds: the best of many is partly luck", page=doc_pages.INTERVALS)
    if best and answer.counts.get("PRUNED") and _only_controls_ended(answer):
        text = "No searched trial reached its end, so none was compared; --set search.prune=false lets them"
        yield Note(text=text, page=doc_pages.STUDY_FILES)
    if missing := sum(contender.confirm_missing for contender in answer.contenders):
        runs = "1 confirmation run" if missing == 1 else f"{missing} confirmation runs"
        yield Note(text=f"{runs} failed or collapsed", page=doc_pages.INTERVALS)


def _only_controls_ended(answer: AnswerRecord) -> bool:
    """True if as many trials ended as controls; contenders do not tell, which are few of the searched trials."""
    controls = sum(one.state == "COMPLETE" and not one.name.startswith("trial ") for one in answer.contenders)
    return answer.counts.get("COMPLETE", 0) <= controls


def _limits(answer: AnswerRecord) -> Iterator[Note]:
    if answer.labels_used:
        names = ", ".join(labelled.name for labelled in answer.labels_used)
        text = f"The score used labels of {names}; others may rank otherwise"
        yield Note(text=text, page=doc_pages.SEARCH_WITH_LABELS)
    elif answer.backbone and answer.backbone.init not in (None, "none"):
        text = "Label-free: a score above the pre-trained start does not show better features"
        yield Note(text=text, page=doc_pages.EVIDENCE)
    else:
        text = "Label-free: not shown to rank scales as labels do"
        yield Note(text=text, page=doc_pages.SCORE_LIMITS)
    if answer.steps and answer.batch_size:
        text = f"Trials saw {answer.steps * answer.batch_size:,} images; long training may rank otherwise"
        yield Note(text=text, page=doc_pages.PROMOTION)
    best = answer.best_contender
    if best and best.confirm_scores:
        yield Note(
            text=f"Intervals rest on {fresh_seeds(len(best.confirm_scores))} and one panel of images",
            page=doc_pages.INTERVALS,
        )
