"""The trials that a validation compares: the finished trials of a study at one rung, and their weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import TrialState

from augscale.config import StudyConfig
from augscale.errors import CheckpointError, ConfigError
from augscale.evaluation.interface import Encoder
from augscale.networks.checkpoint_paths import TRIAL_WEIGHTS
from augscale.networks.checkpoints import load_checkpoint
from augscale.records.trial import TrialRecord
from augscale.runs.folders import RunFolder
from augscale.searching.study import trials_started
from augscale.searching.trial import rung_steps, rung_weights
from augscale.statistics.trial_rows import MIN_ROWS

KEEP_HINT = "search with --set search.keep_weights=rungs keeps them; --remake trains those that are missing again"


@dataclass(frozen=True, kw_only=True)
class FinishedTrial:
    """A trial that ended, complete or pruned."""

    record: TrialRecord
    directory: Path

    def weights(self, step: int, steps: int) -> Path | None:
        """File with the weights after `step` updates; None if they were not kept."""
        kept = [rung_weights(self.directory, step)]
        if step == steps and self.record.state == TrialState.COMPLETE.name:
            kept.append(self.directory / TRIAL_WEIGHTS)
        return next((path for path in kept if path.is_file()), None)


def finished_trials(run: RunFolder, study: optuna.Study) -> list[FinishedTrial]:
    """Complete and pruned trials with a record, by number."""
    found = []
    for trial in trials_started(study):
        record = TrialRecord.in_folder(run.trial_dir(trial.number))
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and record and record.rungs:
            found.append(FinishedTrial(record=record, directory=run.trial_dir(trial.number)))
    return found


def choose_rung(trials: Sequence[FinishedTrial], config: StudyConfig, wanted: int | None, *, remake: bool) -> int:
    """The step at which trials are compared: the last rung that more than half of them reached, or the one wanted.

    Raises:
        ConfigError: no such rung, or too few trials have weights there; the message lists the trials and weights of
            each rung.
    """
    rungs, steps = rung_steps(config), config.pretrain.steps
    reached = Counter(rung.step for trial in trials for rung in trial.record.rungs)
    kept = {step: sum(trial.weights(step, steps) is not None for trial in trials) for step in rungs}
    if wanted is not None and wanted not in rungs:
        raise ConfigError(f"--rung {wanted}: expected a rung of the study, {', '.join(map(str, rungs))} (steps)")
    usual = [step for step in rungs if 2 * reached[step] > len(trials)]
    step = wanted if wanted is not None else max(usual, default=rungs[0])
    usable = reached[step] if remake else kept[step]
    if usable < MIN_ROWS:
        there = "; ".join(f"step {s}: {reached[s]} trials, {kept[s]} with weights" for s in rungs)
        raise ConfigError(
            f"{usable} of {len(trials)} finished trials can be used at step {step}; expected at least {MIN_ROWS} "
            f"({there}). {KEEP_HINT[0].upper()}{KEEP_HINT[1:]}"
        )
    return step


def load_encoder(path: Path, name: str, *, common_statistics: bool) -> Encoder:
    """Weights of a trial as an encoder.

    Args:
        common_statistics: see `Encoder`.
    Raises:
        CheckpointError: they cannot be read or hold NaN or inf.
    """
    checkpoint = load_checkpoint(path, name=name)
    if checkpoint.training.non_finite:
        raise CheckpointError(f"{path}: NaN or inf in {checkpoint.training.non_finite[0]}; it cannot be evaluated")
    return Encoder(
        name=name,
        backbone=checkpoint.backbone,
        arch=checkpoint.arch,
        overrides=checkpoint.overrides,
        image_size=checkpoint.image_size,
        common_statistics=common_statistics,
    )
