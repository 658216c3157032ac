"""The time budget of one call of `search`: until when work begins, and what of the time the confirmation needs.

Once some searched scales have been tried, a trial begins only if the confirmation still fits behind it. Before that,
trials begin until the deadline, because without searched scales there is nothing to confirm. At the deadline, whatever
runs is saved, and the next call continues it.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from augscale.config import StudyConfig
from augscale.records.answer import UnfinishedRecord
from augscale.records.trial import TRIAL_FILE, TrialRecord
from augscale.runs.folders import RunFolder
from augscale.searching.confirm import open_confirmations
from augscale.searching.failures import all_failed
from augscale.searching.null import null_runs
from augscale.searching.study import control_of, trials_started

RESERVE = 1.2
"""Time kept for the confirmation as a multiple of the forecast: the median run is shorter than half of them."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The end of a call's time, and the workers that share it."""

    deadline: float | None = None
    """Seconds since the epoch; None for no limit."""
    workers: int = 1

    @property
    def has_ended(self) -> bool:
        return self.deadline is not None and time.time() >= self.deadline

    def allows_a_trial(self, run: RunFolder, config: StudyConfig, study: optuna.Study) -> bool:
        """True if a new trial may begin."""
        if self.deadline is None:
            return True
        if self.has_ended:
            return False
        trials = study.get_trials(deepcopy=False)
        # A study of controls alone is confirmed although it searches nothing.
        if not searched_scales_tried(trials) and config.search.trials > len(config.search.controls):
            return True
        seconds = full_run_seconds(run, config)
        if seconds is None:
            return True
        nulls = sum(not null.has_ended for null in null_runs(run, config))
        runs = nulls + open_confirmations(run, config, study, further_trials=1)[0]
        rounds = 1 + math.ceil(runs / self.workers)
        return time.time() + RESERVE * rounds * seconds <= self.deadline


def unfinished_work(
    run: RunFolder, config: StudyConfig, study: optuna.Study, budget: str | None = None
) -> UnfinishedRecord | None:
    """What a search whose workers have ended has left undone; None if it has run to its end."""
    trials = trials_started(study)
    left = max(0, config.search.trials - sum(trial.state.is_finished() for trial in trials))
    confirmations, planned = open_confirmations(run, config, study)
    nulls = sum(not null.has_ended for null in null_runs(run, config))
    if all_failed(trials) or not (left or confirmations or nulls):
        return None
    return UnfinishedRecord(
        trials=left,
        wanted=config.search.trials,
        confirmations=confirmations,
        planned=planned,
        nulls=nulls,
        searched=searched_scales_tried(trials) or config.search.trials <= len(config.search.controls),
        budget=budget,
    )


def searched_scales_tried(trials: list[FrozenTrial]) -> bool:
    """True if a trial that is no control has ended with a score, pruned ones included."""
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    return any(control_of(trial) is None and trial.state in ended for trial in trials)


def full_run_seconds(run: RunFolder, config: StudyConfig) -> float | None:
    """Median time in seconds of a run at full length, also from parts of runs; None if no run has reached a rung."""
    records = [TrialRecord.read_if_there(file) for file in run.path.glob(f"*/*/{TRIAL_FILE}")]
    found = [
        record.seconds * config.pretrain.steps / record.rungs[-1].step
        for record in records
        if record and record.seconds and record.rungs
    ]
    return statistics.median(found) if found else None
