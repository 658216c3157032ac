"""What pruning saved a search, and whether its answer is as good as that of the search without."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from augscale.errors import ConfigError
from augscale.runs.files import read_json
from augscale.runs.folders import RunFolder
from augscale.searching.trial import rung_steps
from augscale.statistics.intervals import seed_interval_t
from augscale.statistics.paired_comparisons import differences_to
from benchmarks.run_times import (
    RunTimes,
    confirmation_records,
    open_run,
    steps_done,
    training_seconds,
    trial_records,
)


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """What was not run, and what that would have cost."""

    trials: int
    pruned: int
    steps_planned: int
    """Of all trials that did not fail."""
    steps_not_run: int
    rungs_not_scored: int
    worker_seconds: float
    """Estimate: steps not run and rungs not scored, at this run's own medians."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The best contender of a search on fresh seeds."""

    name: str
    score: float
    """Mean over fresh seeds."""
    interval: tuple[float, float] | None
    """95 %, over seeds."""
    scores: dict[int, float]
    """By seed index."""
    replicates: dict[int, list[float]]
    """Bootstrap scores by seed index."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The answers of two searches, compared on the same seeds and panel."""

    first: Answer
    second: Answer
    difference: float
    """First minus second."""
    interval: tuple[float, float]
    distinguishable: bool


def pruning(run: RunFolder, times: RunTimes) -> Pruning:
    """Counts what was not run.

    Args:
        run: of a finished search.
        times: of the same run.
    """
    _, config = open_run(run)
    steps, rungs = config.pretrain.steps, len(rung_steps(config))
    trials = [record for record in trial_records(run) if record["state"] in ("COMPLETE", "PRUNED")]
    pruned = [record for record in trials if record["state"] == "PRUNED"]
    timed = [record for record in trials + confirmation_records(run) if training_seconds(record)]
    per_step = statistics.median(training_seconds(record) / steps_done(record) for record in timed) if timed else 0.0
    scorings = times.scoring_seconds / max(1, sum(len(record["rungs"]) for record in timed))
    steps_not_run = sum(steps - steps_done(record) for record in pruned)
    rungs_not_scored = sum(rungs - len(record["rungs"]) for record in pruned)
    return Pruning(
        trials=len(trials),
        pruned=len(pruned),
        steps_planned=steps * len(trials),
        steps_not_run=steps_not_run,
        rungs_not_scored=rungs_not_scored,
        worker_seconds=steps_not_run * per_step + rungs_not_scored * scorings,
    )


def compare_answers(first: RunFolder, second: RunFolder) -> Answers:
    """Compares the confirmed answers of two searches that differ in pruning only.

    Seed k starts from the same weights in both and the panel is the same, so the comparison is paired, as within one
    search.

    Raises:
        ConfigError: other differences than pruning, no answer, or fewer than two confirmed seeds in common.
    """
    _check_same_study(first, second)
    one, other = final_answer(first), final_answer(second)
    seeds = sorted(set(one.scores) & set(other.scores))
    if len(seeds) < 2:
        raise ConfigError(
            f"{second.path}: {len(seeds)} confirmed seeds in common with {first.path}; expected 2 or more"
        )
    scores = [{seed: answer.scores[seed] for seed in seeds} for answer in (one, other)]
    compared = differences_to(1, scores, [one.replicates, other.replicates])[0]
    assert compared is not None
    low, high = compared["interval"]
    return Answers(
        first=one,
        second=other,
        difference=compared["difference"],
        interval=(low, high),
        distinguishable=compared["distinguishable"],
    )


def final_answer(run: RunFolder) -> Answer:
    """The confirmed answer of a search.

    Raises:
        ConfigError: it has none, or nothing was confirmed.
    """
    answer = read_json(run.answer_file)
    if answer is None or answer["best"] is None:
        raise ConfigError(f"{run.path}: no answer; expected a search that found one")
    best = answer["best"]
    records = [r for r in confirmation_records(run) if r["name"] == best and r["state"] == "COMPLETE"]
    if not records:
        raise ConfigError(f"{run.path}: {best} was not confirmed on fresh seeds; expected confirm.seeds above 0")
    scores = {int(record["seed_index"]): float(record["final"]["score"]) for record in records}
    interval = seed_interval_t(list(scores.values()))
    return Answer(
        name=str(best),
        score=statistics.fmean(scores.values()),
        interval=(float(interval[0]), float(interval[1])) if interval else None,
        scores=scores,
        replicates={int(record["seed_index"]): record["final"]["bootstrap_scores"] for record in records},
    )


def _check_same_study(first: RunFolder, second: RunFolder) -> None:
    (one, study), (other, second_study) = open_run(first), open_run(second)
    before, after = _settings(study.model_dump(mode="json")), _settings(second_study.model_dump(mode="json"))
    changed = [key for key in before if before[key] != after[key] and key != "search.prune"]
    if one["data"]["fingerprint"] != other["data"]["fingerprint"]:
        changed.append("the images")
    if changed:
        raise ConfigError(
            f"{second.path}: {', '.join(changed[:3])} differ from {first.path}; "
            "expected the same study and images with another search.prune"
        )


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    """By dotted key, two levels deep; what lies deeper is compared whole."""
    return {
        f"{section}.{key}": value
        for section, settings in values.items()
        for key, value in (settings.items() if isinstance(settings, dict) else [("", settings)])
        if section != "description"
    }
