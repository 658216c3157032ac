"""Where a search stands, read from the run folder and the storage; nothing here changes anything."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from augscale.config import StudyConfig
from augscale.runs.files import read_json
from augscale.runs.folders import RunFolder, this_host
from augscale.searching.confirm import expected_runs, trial_name
from augscale.searching.failures import FailureGroup, failure_groups
from augscale.searching.study import is_feasible, ranked, stopped_file, trial_scales, trials_started

PAUSED = "PAUSED"
OPEN = ("RUNNING", PAUSED)
"""States of trials that have begun and not ended."""


@dataclass(frozen=True, kw_only=True)
class TrialLine:
    """One trial as the tables show it."""

    number: int
    name: str
    state: str
    """Optuna's, or `PAUSED`: begun, and left for the next worker to continue."""
    score: float | None
    rungs_done: int
    seconds: float | None
    note: str
    crops_and_jitter: str


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A snapshot of a search."""

    wanted: int
    counts: dict[str, int]
    trials: list[TrialLine]
    best: TrialLine | None
    workers: list[dict[str, Any]]
    confirmations_done: int
    confirmations_planned: int
    seconds_left: float | None
    failures: tuple[FailureGroup, ...] = ()
    """Failed trials by reason."""
    paused_confirmations: int = 0
    """Confirmation runs that have begun and that nobody works on."""

    @property
    def finished(self) -> int:
        """Trials that ended, in whatever way."""
        return sum(count for state, count in self.counts.items() if state not in OPEN)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "wanted": self.wanted,
            "counts": self.counts,
            "best": vars(self.best) if self.best else None,
            "trials": [vars(line) for line in self.trials],
            "workers": self.workers,
            "confirmations": {
                "done": self.confirmations_done,
                "planned": self.confirmations_planned,
                "paused": self.paused_confirmations,
            },
            "seconds_left": self.seconds_left,
            "failures": [group.to_dict() for group in self.failures],
        }


def read_progress(run: RunFolder, config: StudyConfig, study: optuna.Study) -> Progress:
    """Reads where the search stands."""
    trials = trials_started(study)
    workers = read_workers(run)
    at_work = {worker.get("host") for worker in workers}
    lines = [_line(run, config, trial, at_work) for trial in trials]
    by_number = {line.number: line for line in lines}
    order = ranked(study)
    counts: dict[str, int] = {}
    for line in lines:
        counts[line.state] = counts.get(line.state, 0) + 1
    plan = read_json(run.confirm_dir / "plan.json")
    planned = (
        len(plan["contenders"]) * plan.get("seeds", config.confirm.seeds) if plan else expected_runs(config, study)
    )
    records = [read_json(path) for path in run.confirm_dir.glob("*/trial.json")]
    done = [record for record in records if record and record["state"] in ("COMPLETE", "FAIL")]
    begun = list(run.confirm_dir.glob("*/state.pt")) if not workers else []
    return Progress(
        wanted=config.search.trials,
        counts=counts,
        trials=lines,
        best=by_number[order[0].number] if order else None,
        workers=workers,
        confirmations_done=len(done),
        confirmations_planned=planned,
        seconds_left=_forecast(lines, config, len(workers), planned - len(done)),
        failures=tuple(failure_groups(trials)),
        paused_confirmations=len(begun),
    )


def read_workers(run: RunFolder) -> list[dict[str, Any]]:
    """What each living worker is doing; those of other hosts count as living for ten minutes."""
    workers = []
    for path in sorted(run.workers_dir.glob("*.json")):
        worker = read_json(path)
        if worker is None or worker.get("phase") == "done":
            continue
        here = worker["host"] == this_host()
        if (here and _alive(worker["pid"])) or (not here and time.time() - worker["time"] < 600):
            workers.append(worker)
    return workers


def _line(
    run: RunFolder, config: StudyConfig, trial: optuna.trial.FrozenTrial, at_work: Collection[str | None]
) -> TrialLine:
    record = read_json(run.trial_dir(trial.number) / "trial.json") or {}
    rungs = record.get("rungs") or []
    cut = record.get("micro_batches") or {}
    note = trial.user_attrs.get("reason", "")
    if trial.state.is_finished() and not is_feasible(trial):
        note = "collapsed"
    elif trial.state == TrialState.PRUNED and rungs:
        note = f"pruned at step {rungs[-1]['step']}"
    state, paused = trial.state.name, _paused(run, trial, record, at_work)
    if paused is not None:
        state, note = PAUSED, paused
    if cut.get("changes"):
        note += f"{', ' * bool(note)}micro-batches {cut['number']} x {cut['size']}"
    scales = trial_scales(config, trial)
    # The record of another host's trial is not here; the storage still has its scores.
    reported = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    return TrialLine(
        number=trial.number,
        name=trial_name(trial),
        state=state,
        score=rungs[-1]["score"] if rungs else reported[-1] if reported else None,
        rungs_done=len(rungs) or len(reported),
        seconds=record.get("seconds"),
        note=note,
        crops_and_jitter=f"g {scales.global_crops_scale[0]:.2f}-{scales.global_crops_scale[1]:.2f}  "
        f"l {scales.local_crops_scale[0]:.2f}-{scales.local_crops_scale[1]:.2f}  j {scales.brightness:.2f}",
    )


def _paused(
    run: RunFolder, trial: optuna.trial.FrozenTrial, record: dict[str, Any], at_work: Collection[str | None]
) -> str | None:
    """Where a trial was left that nobody works on; None of others.

    Args:
        at_work: hosts on which workers of this run live.
    """
    told = trial.user_attrs.get("paused") or stopped_file(run, trial.number).exists()
    here = (trial.user_attrs.get("host"), trial.user_attrs.get("run")) == (this_host(), str(run.path.resolve()))
    if trial.state != TrialState.RUNNING or not (told or (here and this_host() not in at_work)):
        return None
    if told and this_host() in at_work and not trial.user_attrs.get("paused"):
        return None  # its worker is saving
    steps = [pair[0] for pair in record.get("loss_history", [])] + [rung["step"] for rung in record.get("rungs", [])]
    step = trial.user_attrs.get("paused_step")
    if step is None and steps:
        return f"paused at step {max(steps)} or before"
    return "paused before the first step" if not step else f"paused at step {step}"


def _forecast(lines: list[TrialLine], config: StudyConfig, workers: int, confirmations: int) -> float | None:
    """Seconds until the end, from the mean of what finished; None before anything has."""
    ended = [line.seconds for line in lines if line.state in ("COMPLETE", "PRUNED") and line.seconds]
    full = [line.seconds for line in lines if line.state == "COMPLETE" and line.seconds]
    if not ended or workers == 0:
        return None
    running = [line.seconds or 0.0 for line in lines if line.state == "RUNNING"]
    mean, full_mean = statistics.mean(ended), statistics.mean(full or ended)
    left = max(0, config.search.trials - len(lines)) * mean
    left += sum(max(0.0, mean - seconds) for seconds in running)
    return (left + max(0, confirmations) * full_mean) / workers


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
