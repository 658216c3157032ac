"""The answer of a search in sentences: headline, differences and caveats, without overclaiming."""

from __future__ import annotations

from collections.abc import Sequence

from augscale import doc_pages
from augscale.config import StudyConfig
from augscale.records.answer import ContenderRecord, UnfinishedRecord, UntrainedComparison
from augscale.records.metrics import SCORES, score_label
from augscale.searching.trust import trust_statement
from augscale.settings import joined

GOES_ON = "the same command goes on where it stopped"
_MORE_SEEDS = "confirm.seeds = 2 or more"


def headline(
    best: ContenderRecord | None,
    contenders: Sequence[ContenderRecord],
    untrained: UntrainedComparison | None,
    labelled: Sequence[str],
    score: str,
    *,
    pretrained: bool = False,
    failures: str = "",
    unfinished: UnfinishedRecord | None = None,
) -> str:
    """The answer in one sentence, or the reason why there is none.

    Args:
        best: the best contender; None if no trial can be used.
        contenders: all contenders, with their differences to the best.
        untrained: the best minus the network before training.
        labelled: names of the datasets whose labels the score reads.
        score: name of the score, `probe.score`.
        pretrained: trials began with pre-trained weights.
        failures: why trials failed, if all did.
        unfinished: what a search whose time budget ended has not done.
    """
    if failures:
        return f"No answer: {failures}."
    if unfinished and not unfinished.searched:
        return _nothing_searched(contenders)
    if best is None and unfinished and unfinished.trials:
        return f"No answer: no trial that has ended can be used. {unfinished_sentence(unfinished)}"
    if best is None:
        return "No trial completed without collapsing, so there is no answer."
    do = _filled(SCORES[score].phrase, labelled)
    if untrained and not untrained.beaten:
        return _nothing_learned(best, contenders, untrained, do, pretrained=pretrained, unfinished=unfinished)
    better, level, ahead = _controls_by_verdict(best, contenders)
    name, is_preset = (
        (f"The preset {best.name}", True) if best.kind == "control" else (f"The scales of {best.name}", False)
    )
    verb, _, rest = do.partition(" ")
    do, scores, are = (f"{verb}s {rest}", "scores", "is") if is_preset else (do, "score", "are")
    if ahead:
        its = "it has" if len(ahead) == 1 else "they have"
        return (
            f"{name} {scores} highest of those that were confirmed in full, but {joined(ahead)} did better on the "
            f"fresh seeds that {its}."
        )
    if better and level:
        return f"{name} {do} better than {joined(better)}, and {are} not distinguishable from {joined(level)}."
    if better:
        return f"{name} {do} better than {joined(better)}."
    if level:
        return f"{name} {scores} highest, but {are} not distinguishable from {joined(level)}."
    if best.confirm_scores:
        seeds = f"use {_MORE_SEEDS}" if not (unfinished and unfinished.confirmations) else GOES_ON
        return f"{name} {scores} highest on one fresh seed, which allows no verdict: {seeds}."
    return f"{name} {scores} highest in the search; nothing was confirmed on fresh seeds."


def _nothing_learned(
    best: ContenderRecord,
    contenders: Sequence[ContenderRecord],
    untrained: UntrainedComparison,
    do: str,
    *,
    pretrained: bool,
    unfinished: UnfinishedRecord | None,
) -> str:
    """The headline where training has not beaten its start: that, and apart from it whether scales differ."""
    start = "the pre-trained network that it began with" if pretrained else "the network before training"
    worse = [
        contender.name
        for contender in contenders
        if contender is not best and contender.versus_best and contender.versus_best.verdict == "worse"
    ]
    order = "the scales are not distinguishable from each other either"
    if worse:
        order = f"{best.name} is better than {joined(worse)}, but that may only mean that it harms the start less"
    elif not any(contender.versus_best for contender in contenders):
        order = "the scales were not compared with each other, because one seed allows no verdict"
    remedy = "longer trials or a lower learning rate" if pretrained else "longer trials"
    if untrained.seeds == 1:
        return (
            f"No answer: on one seed even {best.name}, the highest, does not show that training helps to {do}, "
            f"compared with {start}; {order}. "
            + (
                f"The confirmation is not complete: {GOES_ON}."
                if unfinished and unfinished.confirmations
                else f"A ranking of scales needs {remedy}, and {_MORE_SEEDS}."
            )
        )
    return (
        f"No answer: even {best.name}, the best, does not {do} better than {start}; {order}. A ranking of scales needs "
        f"{remedy}."
    )


def _nothing_searched(contenders: Sequence[ContenderRecord]) -> str:
    """The headline where the budget ended among the controls."""
    in_order = sorted(contenders, key=lambda contender: contender.number or 0)
    ended = [contender.name for contender in in_order if contender.state == "COMPLETE"]
    if not ended:
        return "No answer: the budget ended before any trial had; the same command with a larger --budget goes on."
    count = "1 control" if len(ended) == 1 else f"{len(ended)} controls"
    return (
        f"No answer: the budget ended before any searched scales were tried; {count} ran ({joined(ended)}), and "
        f"{GOES_ON}."
    )


def unfinished_sentence(unfinished: UnfinishedRecord) -> str:
    """What is missing after the end of the time budget, and how to get it."""
    parts = [f"{unfinished.wanted - unfinished.trials} of {unfinished.wanted:,} trials"] if unfinished.trials else []
    if unfinished.confirmations and unfinished.searched:
        done = unfinished.planned - unfinished.confirmations
        parts.append(f"{done} of {unfinished.planned} confirmation runs (only complete seeds are compared)")
    if unfinished.nulls and not parts:
        parts.append("all but the runs with learning rate 0")
    return f"The budget ended after {joined(parts)}; {GOES_ON}."


def work_left(unfinished: UnfinishedRecord) -> str:
    """What is left to run, such as "1 confirmation run left"."""
    counts = {"trial": unfinished.trials, "confirmation run": unfinished.confirmations}
    parts = [f"{count:,} {what}{'s' * (count > 1)}" for what, count in counts.items() if count]
    if unfinished.nulls:
        parts.append(f"{unfinished.nulls} run{'s' * (unfinished.nulls > 1)} with learning rate 0")
    return f"{joined(parts)} left"


def _controls_by_verdict(
    best: ContenderRecord, contenders: Sequence[ContenderRecord]
) -> tuple[list[str], list[str], list[str]]:
    """Names of the controls that are worse than, not distinguishable from, and better than the best.

    A control can only be better if it lacks a confirmation run, because the best is chosen among contenders without
    missing runs.
    """
    found: dict[str, list[str]] = {"worse": [], "not distinguishable": [], "better": []}
    for contender in contenders:
        if contender.kind == "control" and contender is not best and contender.versus_best:
            found[contender.versus_best.verdict].append(contender.name)
    return found["worse"], found["not distinguishable"], found["better"]


def sentences(
    best: ContenderRecord | None,
    contenders: Sequence[ContenderRecord],
    untrained: UntrainedComparison | None,
    score: str,
) -> list[str]:
    """The best scales, and their differences to the network before training and to each contender, with intervals."""
    if best is None:
        return []
    sentences = [f"{best.name}: {' '.join(best.description.split())}."]
    if untrained:
        edges = untrained.interval
        between = f" (95 % interval {edges[0]:+.3f} to {edges[1]:+.3f})" if edges else ""
        if untrained.seeds == 1:  # the interval is over images only
            between = " (one seed: no verdict)"
        sentences.append(
            f"{best.name} minus the network before training: {untrained.difference:+.3f} {score_label(score)}{between}."
        )
    for contender in contenders:
        versus = contender.versus_best
        if versus is None:
            continue
        low, high = (-versus.interval[1], -versus.interval[0])
        certain = "distinguishable" if versus.distinguishable else "not distinguishable"
        sentences.append(
            f"{best.name} minus {contender.name}: {-versus.difference:+.3f} {score_label(score)} "
            f"(95 % interval {low:+.3f} to {high:+.3f}, {len(contender.confirm_scores)} fresh seeds): {certain}."
        )
    return sentences


def caveats(
    config: StudyConfig,
    best: ContenderRecord | None,
    contenders: Sequence[ContenderRecord],
    labelled: Sequence[str],
) -> list[str]:
    """The limits of the answer; how far the score can be trusted comes first."""
    steps, batch = config.pretrain.steps, config.pretrain.batch_size
    says = _filled(SCORES[config.probe.score].says, labelled)
    caveats = [
        f"The score used labels: {says}. Test images were not "
        "read, but the scales were chosen with these labels, and other datasets may rank them otherwise."
        if labelled
        else f"The score is label-free: it says {says}, not how accurate a "
        "fine-tuned model will be. Check it on labels before you spend weeks of GPU time.",
        f"Each trial saw {steps * batch:,} images ({steps} steps of {batch}) at {config.crops.global_size} px with "
        f"{config.backbone.name}{' (changed: ' + _overrides(config) + ')' if config.backbone.overrides else ''}; "
        "a full pre-training may rank scales otherwise.",
    ]
    if not config.draws_local_crops:
        caveats.append("Trials drew no local crops, so nothing is known of the scales of local crops.")
    trust = None if labelled else trust_statement(config)
    if trust is not None:
        caveats.insert(1, trust)
    if config.backbone.init == "none":
        caveats.append("Trials started from random weights; with pre-trained weights the ranking can differ.")
    elif not labelled:
        caveats.append(
            "A score above the pre-trained network's does not show better features: in the study from ImageNet weights "
            f"pair AUROC rose while accuracy on labels fell ({doc_pages.EVIDENCE})."
        )
    if not any(c.confirm_scores for c in contenders):
        caveats.append("Nothing was confirmed on fresh seeds: the best of many noisy scores is partly luck.")
    elif best:
        caveats.append(
            f"Intervals rest on {fresh_seeds(len(best.confirm_scores))} and the images of one panel, by which the "
            "candidates were chosen, too."
        )
    for contender in contenders:
        if contender.confirm_missing:
            caveats.append(f"{contender.name}: {contender.confirm_missing} confirmation runs failed or collapsed.")
    if best and best.health and best.health.verdict == "suspicious":
        caveats.append(f"{best.name} looks suspicious: {'; '.join(best.health.evidence)}.")
    return caveats


def _filled(text: str, labelled: Sequence[str]) -> str:
    """A text of the registry with the names of the labelled datasets in its place for them."""
    return text.format(joined(labelled)) if labelled else text


def fresh_seeds(count: int) -> str:
    """`1 fresh seed` or `3 fresh seeds`."""
    return "1 fresh seed" if count == 1 else f"{count} fresh seeds"


def _overrides(config: StudyConfig) -> str:
    return ", ".join(f"{name} {value}" for name, value in config.backbone.overrides.items())
