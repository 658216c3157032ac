"""Confirmation: the best scales and the controls trained again at full length on fresh seeds.

The best of forty noisy scores is partly luck. A confirmation run repeats a contender with other initial weights, data
order and views; seed k is the same for all contenders, so they can be compared pair by pair.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState

from augscale.augmentation.scales import AugmentationScales
from augscale.config import SearchConfig, StudyConfig
from augscale.records.confirmation import PlannedContender, PlanRecord
from augscale.records.trial import RepeatKind, TrialRecord
from augscale.runs.folders import RunFolder, try_lock
from augscale.searching.study import control_of, ranked, trial_scales, trials_started
from augscale.seeding import derive_seed
from augscale.settings import parse_settings


@dataclass(frozen=True, kw_only=True)
class ConfirmationRun:
    """One contender on one fresh seed; null runs have the same form."""

    name: str
    kind: RepeatKind
    number: int
    scales: AugmentationScales
    seed_index: int
    seed: int
    directory: Path

    @property
    def record(self) -> TrialRecord | None:
        return TrialRecord.in_folder(self.directory)

    @property
    def has_ended(self) -> bool:
        record = self.record
        return record is not None and record.has_ended


def plan_file(run: RunFolder) -> Path:
    return run.confirm_dir / "plan.json"


def plan_confirmation(run: RunFolder, config: StudyConfig, study: optuna.Study) -> list[ConfirmationRun]:
    """The confirmation runs, decided once when the trials have ended and kept in `confirm/plan.json`.

    Contenders are the best `confirm.top_k` trials that are not controls, the controls of `confirm.controls` that
    completed, every other control that scored above all candidates, and the contenders of an earlier plan. Runs are
    ordered by seed, so that an interrupted confirmation has complete seeds.
    """
    file = plan_file(run)
    with run.locked():
        known = PlanRecord.read_if_there(file)
        plan = _plan(config, study, known)
        # The plan is made again if there are more trials than before, or if top_k or the number of seeds has changed.
        facts = (plan.trials, plan.top_k, plan.seeds)
        if known is None or (known.trials, known.top_k, known.seeds) != facts:
            known = plan
            known.write(file)
    return _runs(run, config, known.contenders, plan.seeds or 0)


def planned_runs(run: RunFolder, config: StudyConfig) -> list[ConfirmationRun]:
    """The confirmation runs of the plan in the run folder; none before there is a plan."""
    known = PlanRecord.read_if_there(plan_file(run))
    return _runs(run, config, known.contenders, _seeds(config, known)) if known else []


def complete_seeds(runs: list[ConfirmationRun]) -> list[ConfirmationRun]:
    """The runs on those seeds on which every contender's run has ended, so that contenders can be compared."""
    open_seeds = {confirmation.seed_index for confirmation in runs if not confirmation.has_ended}
    return [confirmation for confirmation in runs if confirmation.seed_index not in open_seeds]


def open_confirmations(
    run: RunFolder, config: StudyConfig, study: optuna.Study, *, further_trials: int = 0
) -> tuple[int, int]:
    """Confirmation runs if the search ended after so many more trials: those that have not ended, and all of them."""
    plan = _plan(config, study, PlanRecord.read_if_there(plan_file(run)))
    candidates = [contender for contender in plan.contenders if contender.kind == "candidate"]
    seeds, names = plan.seeds or 0, {contender.name for contender in plan.contenders}
    coming = 0
    if further_trials:
        states = (TrialState.WAITING, TrialState.RUNNING)
        controls = {control_of(trial) for trial in study.get_trials(deepcopy=False, states=states)} - {None}
        waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        # Controls are queued before all other trials.
        searched = max(0, further_trials - len(waiting))
        coming = min(searched, max(0, config.confirm.top_k - len(candidates)))
        coming += len((controls & {*config.confirm.controls}) - names)
    runs = _runs(run, config, plan.contenders, seeds)
    return coming * seeds + sum(not known.has_ended for known in runs), coming * seeds + len(runs)


def expected_runs(config: StudyConfig, study: optuna.Study) -> int:
    """The number of confirmation runs if the search ended now."""
    confirm = config.confirm
    return (confirm.top_k + len(confirm.controls) + len(_leading_controls(config, study))) * confirm.seeds


def control_runs(run: RunFolder, config: StudyConfig, study: optuna.Study) -> list[ConfirmationRun]:
    """The runs of controls that have finished: they will be in the plan whatever the rest of the search finds."""
    contenders = tuple(_contender(config, trial) for trial in _controls(config, study))
    return _runs(run, config, contenders, config.confirm.seeds)


def confirm_seed(search: SearchConfig, index: int) -> int:
    """The fresh seed number `index`, the same for all contenders."""
    return derive_seed(search.seed, "confirm", index)


def claim_confirmation(runs: list[ConfirmationRun]) -> tuple[ConfirmationRun, FileLock] | None:
    """The first run that has not ended and that no living worker holds, with its lock."""
    for confirmation in runs:
        lock = None if confirmation.has_ended else try_lock(confirmation.directory / "lock")
        if lock is not None:
            if not confirmation.has_ended:
                return confirmation, lock
            lock.release()
    return None


def trial_name(trial: FrozenTrial) -> str:
    """The name of a trial in every table: that of its control, else its number."""
    return control_of(trial) or f"trial {trial.number}"


def _plan(config: StudyConfig, study: optuna.Study, known: PlanRecord | None) -> PlanRecord:
    """The plan if the search ended now.

    Args:
        config: of the study.
        study: of the run.
        known: an earlier plan; its contenders stay, even if a later trial scored higher.
    """
    top_k = config.confirm.top_k
    best = [trial for trial in ranked(study) if not control_of(trial)][:top_k]
    contenders = best + _controls(config, study) + _leading_controls(config, study)
    chosen = {trial.number: _contender(config, trial) for trial in contenders}
    before = [old for old in (known.contenders if known else ()) if old.number not in chosen]
    # A trial that the end of the budget has paused may win when it has ended.
    trials = sum(trial.state.is_finished() for trial in trials_started(study))
    return PlanRecord(trials=trials, top_k=top_k, seeds=_seeds(config, known), contenders=(*chosen.values(), *before))


def _seeds(config: StudyConfig, known: PlanRecord | None) -> int:
    return max(config.confirm.seeds, (known.seeds or 0) if known else 0)


def _controls(config: StudyConfig, study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in ranked(study) if control_of(trial) in config.confirm.controls]


def _leading_controls(config: StudyConfig, study: optuna.Study) -> list[FrozenTrial]:
    """Controls outside `confirm.controls` that scored above every candidate, so that the answer must include them."""
    before_candidates = itertools.takewhile(control_of, ranked(study))
    return [trial for trial in before_candidates if control_of(trial) not in config.confirm.controls]


def _contender(config: StudyConfig, trial: FrozenTrial) -> PlannedContender:
    return PlannedContender(
        name=trial_name(trial),
        kind="control" if control_of(trial) else "candidate",
        number=trial.number,
        scales=trial_scales(config, trial).model_dump(),
    )


def _runs(
    run: RunFolder, config: StudyConfig, contenders: tuple[PlannedContender, ...], seeds: int
) -> list[ConfirmationRun]:
    return [
        ConfirmationRun(
            name=contender.name,
            kind=contender.kind,
            number=contender.number,
            scales=parse_settings(AugmentationScales, contender.scales, str(plan_file(run))),
            seed_index=index,
            seed=confirm_seed(config.search, index),
            directory=run.confirm_dir / f"trial-{contender.number:04d}-seed{index}",
        )
        for index in range(seeds)
        for contender in contenders
    ]
