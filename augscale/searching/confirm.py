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
from optuna.trial import FrozenTrial

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
    """The confirmation runs, decided once when every trial has finished and kept in `confirm/plan.json`.

    Contenders are the best `confirm.top_k` trials that are not controls, the controls of `confirm.controls` that
    completed, every other control that scored above all candidates, and the contenders of an earlier plan. Runs are
    ordered by seed, so that an interrupted confirmation has complete seeds.
    """
    file = plan_file(run)
    with run.locked():
        known = PlanRecord.read_if_there(file)
        # The plan is made again if there are more trials than before, or if top_k or the number of seeds has changed.
        trials, top_k = len(trials_started(study)), config.confirm.top_k
        seeds = max(config.confirm.seeds, known.seeds or 0 if known else 0)
        if known is None or (known.trials, known.top_k, known.seeds) != (trials, top_k, seeds):
            best = [trial for trial in ranked(study) if not control_of(trial)][:top_k]
            contenders = best + _controls(config, study) + _leading_controls(config, study)
            chosen = {trial.number: _contender(config, trial) for trial in contenders}
            # Contenders of an earlier plan stay, even if a later trial scored higher.
            before = [old for old in (known.contenders if known else ()) if old.number not in chosen]
            known = PlanRecord(trials=trials, top_k=top_k, seeds=seeds, contenders=(*chosen.values(), *before))
            known.write(file)
    return _runs(run, config, known.contenders, seeds)


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
