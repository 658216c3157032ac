"""The null of a search: controls trained with learning rate 0, with everything else unchanged.

A null run ends with the weights that it began with, so it must score what the network before training scores. Any
difference is not learning (e.g. batch norm statistics gathered on the run's own views) and is subtracted from the
gain over the network before training.
"""

from __future__ import annotations

from augscale.augmentation.scales import load_scales
from augscale.config import StudyConfig
from augscale.records.answer import NullRecord, NullRun
from augscale.records.metrics import score_label
from augscale.records.panel import PanelRecord
from augscale.runs.folders import RunFolder
from augscale.searching.confirm import ConfirmationRun
from augscale.seeding import derive_seed

TOLERANCE = 1e-3
"""Largest change of the score at which a null run counts as unchanged: the last digit printed of d' and AUROCs."""


def null_config(config: StudyConfig) -> StudyConfig:
    """The study with learning switched off."""
    recipe = config.pretrain.model_copy(update={"lr": 0.0, "min_lr": 0.0})
    return config.model_copy(update={"pretrain": recipe})


def null_runs(run: RunFolder, config: StudyConfig) -> list[ConfirmationRun]:
    """The null runs of a search: the first `search.null_trials` controls, on the seed of the trials."""
    return [
        ConfirmationRun(
            name=control,
            kind="null",
            number=number,
            scales=load_scales(control),
            seed_index=0,
            seed=derive_seed(config.search.seed, "trials"),
            directory=run.null_dir / f"{number:04d}",
        )
        for number, control in enumerate(config.search.controls[: config.search.null_trials])
    ]


def null_record(run: RunFolder, config: StudyConfig, untrained: PanelRecord | None) -> NullRecord | None:
    """Scores of the null runs; None if there are no null runs.

    Args:
        untrained: score of the network before training; None if it has not been scored yet.
    """
    runs = []
    for null in null_runs(run, config):
        record = null.record
        runs.append(
            NullRun(name=null.name, state=record.state, score=record.score) if record else NullRun(name=null.name)
        )
    if not runs:
        return None
    scores = [null.score for null in runs if null.state == "COMPLETE" and null.score is not None]
    shifts = [score - untrained.score for score in scores] if untrained else []
    return NullRecord(
        runs=tuple(runs),
        untrained=untrained.score if untrained else None,
        shift=max(shifts, default=None),
        still=len(shifts) == len(runs) and all(abs(shift) <= TOLERANCE for shift in shifts),
    )


def null_sentence(null: NullRecord | None, score: str) -> str:
    """The result of the null runs in one sentence."""
    if null is None:
        return (
            "No run had learning switched off (search.null_trials = 0): what moves the score besides learning is not "
            "known."
        )
    ended = [run for run in null.runs if run.score is not None]
    if not ended or null.untrained is None:
        return "No run with learning switched off has ended: what moves the score besides learning is not known."
    scores = ", ".join(f"{run.name} {run.score:.3f}" for run in ended)
    found = f"({score_label(score)}: {scores}, the network before training {null.untrained:.3f})"
    if null.still:
        return f"With learning switched off the score stays where it begins {found}."
    return (
        f"With learning switched off the score moves {found}: part of the differences between scales is not learning, "
        "and this part is subtracted from the gain over the network before training."
    )
