"""The state of a search, read from the run folder and the storage; nothing is changed."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from augscale.config import StudyConfig
from augscale.records.answer import FailureRecord
from augscale.records.confirmation import PlanRecord
from augscale.records.trial import TRIAL_FILE, TrialRecord
from augscale.records.worker import WorkerRecord
from augscale.runs.folders import RunFolder, this_host
from augscale.searching.budget import unfinished_work
from augscale.searching.budget_left import BudgetLeft, budget_left
from augscale.searching.confirm import expected_runs, plan_file, trial_name
from augscale.searching.failures import failure_groups
from augscale.searching.null import null_runs
from augscale.searching.study import STALE_SECONDS, is_feasible, ranked, stopped_file, trial_scales, trials_started

PAUSED = "PAUSED"
OPEN = ("RUNNING", PAUSED)
"""States of trials that have begun and have not ended."""


@dataclass(frozen=True, kw_only=True)
class TrialLine:
    """One trial as `augscale status` shows it."""

    number: int
    name: str
    state: str
    """Optuna's state, or `PAUSED`: begun, and left for the next worker to continue."""
    score: float | None
    rungs_done: int
    seconds: float | None
    note: str
    short_scales: tuple[str, str | None, str]
    """Areas of global and local crops in whole percents, and jitter; None if no local crops are drawn."""

    @property
    def crops_and_jitter(self) -> str:
        """The same in words, with units."""
        wide, local, jitter = self.short_scales
        return f"global {wide} %, {f'local {local} %, ' if local is not None else ''}jitter {jitter}"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return vars(self) | {"crops_and_jitter": self.crops_and_jitter}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A snapshot of a search."""

    wanted: int
    counts: dict[str, int]
    trials: list[TrialLine]
    best: TrialLine | None
    workers: list[WorkerRecord]
    confirmations_done: int
    confirmations_planned: int
    seconds_left: float | None
    """None if nothing has ended yet, or no worker is alive."""
    failures: tuple[FailureRecord, ...] = ()
    """Failed trials by reason."""
    paused_confirmations: int = 0
    """Confirmation runs that have begun and that no worker runs."""
    method: str = "dino"
    """`PretrainConfig.method`."""
    budget: BudgetLeft | None = None
    """The time budget of the workers; None if no worker has begun, or nothing is left to do."""

    @property
    def finished(self) -> int:
        """Trials that have ended, whatever their state."""
        return sum(count for state, count in self.counts.items() if state not in OPEN)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "method": self.method,
            "wanted": self.wanted,
            "counts": self.counts,
            "best": self.best.to_dict() if self.best else None,
            "trials": [line.to_dict() for line in self.trials],
            "workers": [worker.to_dict() for worker in self.workers],
            "confirmations": {
                "done": self.confirmations_done,
                "planned": self.confirmations_planned,
                "paused": self.paused_confirmations,
            },
            "seconds_left": self.seconds_left,
            "budget": self.budget.to_dict() if self.budget else None,
            "failures": [group.to_dict() for group in self.failures],
        }


def read_progress(run: RunFolder, config: StudyConfig, study: optuna.Study) -> Progress:
    """Trials, workers and confirmation runs of a study as they are now; changes nothing."""
    trials = trials_started(study)
    workers = read_workers(run)
    at_work = {worker.host for worker in workers}
    lines = [_line(run, config, trial, at_work) for trial in trials]
    by_number = {line.number: line for line in lines}
    order = ranked(study)
    plan = PlanRecord.read_if_there(plan_file(run))
    planned = len(plan.contenders) * (plan.seeds or config.confirm.seeds) if plan else expected_runs(config, study)
    records = [TrialRecord.in_folder(file.parent) for file in run.confirm_dir.glob(f"*/{TRIAL_FILE}")]
    done = sum(record.has_ended for record in records if record)
    nulls = sum(not null.has_ended for null in null_runs(run, config))
    begun = list(run.confirm_dir.glob("*/state.pt")) if not workers else []
    return Progress(
        wanted=config.search.trials,
        counts=dict(Counter(line.state for line in lines)),
        trials=lines,
        best=by_number[order[0].number] if order else None,
        workers=workers,
        confirmations_done=done,
        confirmations_planned=planned,
        seconds_left=_forecast(lines, config, len(workers), planned - done + nulls),
        failures=tuple(failure_groups(trials)),
        paused_confirmations=len(begun),
        method=config.pretrain.method,
        budget=budget_left(read_records(run), workers) if workers or unfinished_work(run, config, study) else None,
    )


def read_workers(run: RunFolder) -> list[WorkerRecord]:
    """Workers that are alive. A worker on another host counts as alive for ten minutes after its last sign of life."""
    workers = []
    for worker in read_records(run):
        if worker.phase == "done":
            continue
        here = worker.host == this_host()
        if (here and _alive(worker.pid)) or (not here and time.time() - worker.time < STALE_SECONDS):
            workers.append(worker)
    return workers


def read_records(run: RunFolder) -> list[WorkerRecord]:
    """All workers of a run, those that have ended included."""
    found = [WorkerRecord.read_if_there(path) for path in sorted(run.workers_dir.glob("*.json"))]
    return [worker for worker in found if worker is not None]


def _line(run: RunFolder, config: StudyConfig, trial: FrozenTrial, at_work: Collection[str]) -> TrialLine:
    record = TrialRecord.in_folder(run.trial_dir(trial.number))
    rungs = record.rungs if record else ()
    cut = record.micro_batches if record else None
    note = trial.user_attrs.get("reason", "")
    if trial.state.is_finished() and not is_feasible(trial):
        note = "collapsed"
    elif trial.state == TrialState.PRUNED and rungs:
        note = f"pruned at step {rungs[-1].step}"
    state, paused = trial.state.name, _paused(run, trial, record, at_work)
    if paused is not None:
        state, note = PAUSED, paused
    if cut and cut.changes:
        note += f"{', ' * bool(note)}micro-batches {cut.number} x {cut.size}"
    scales = trial_scales(config, trial)
    # The record of a trial on another host is not here; its scores are in the storage.
    reported = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    return TrialLine(
        number=trial.number,
        name=trial_name(trial),
        state=state,
        score=rungs[-1].score if rungs else reported[-1] if reported else None,
        rungs_done=len(rungs) or len(reported),
        seconds=record.seconds if record else None,
        note=note,
        short_scales=(
            _percents(scales.global_crops_scale),
            _percents(scales.local_crops_scale) if config.draws_local_crops else None,
            f"{scales.brightness:.2f}",
        ),
    )


def _percents(area: tuple[float, float]) -> str:
    return f"{area[0]:.0%}-{area[1]:.0%}".replace("%", "")


def _paused(run: RunFolder, trial: FrozenTrial, record: TrialRecord | None, at_work: Collection[str]) -> str | None:
    """A note such as "paused at step 60" for a running trial that no worker runs; None for other trials.

    Args:
        at_work: hosts on which workers of this run live.
    """
    told = trial.user_attrs.get("paused") or stopped_file(run, trial.number).exists()
    here = (trial.user_attrs.get("host"), trial.user_attrs.get("run")) == (this_host(), str(run.path.resolve()))
    if trial.state != TrialState.RUNNING or not (told or (here and this_host() not in at_work)):
        return None
    if told and this_host() in at_work and not trial.user_attrs.get("paused"):
        return None  # its worker is saving
    steps = [step for step, _ in record.loss_history] + [rung.step for rung in record.rungs] if record else []
    step = trial.user_attrs.get("paused_step")
    if step is None and steps:
        return f"paused at step {max(steps)} or before"
    return "paused before the first step" if not step else f"paused at step {step}"


def _forecast(lines: list[TrialLine], config: StudyConfig, workers: int, further: int) -> float | None:
    """Seconds until the end, from the mean time of trials that have ended; None where none has.

    Args:
        lines: trials that have begun.
        config: of the study.
        workers: that are alive.
        further: confirmation runs and runs with learning rate 0 that have not ended.
    """
    ended = [line.seconds for line in lines if line.state in ("COMPLETE", "PRUNED") and line.seconds]
    full = [line.seconds for line in lines if line.state == "COMPLETE" and line.seconds]
    if not ended or workers == 0:
        return None
    running = [line.seconds or 0.0 for line in lines if line.state == "RUNNING"]
    mean, full_mean = statistics.mean(ended), statistics.mean(full or ended)
    left = max(0, config.search.trials - len(lines)) * mean
    left += sum(max(0.0, mean - seconds) for seconds in running)
    return (left + max(0, further) * full_mean) / workers


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
