"""Trains a trial again up to a rung whose weights were not kept, and checks that it is the same trial.

A trial is a function of (study, scales, seed): the same code on the same device gives the same weights. The check
compares the score with the one recorded at the rung. Another library version, device or number of threads rounds
differently, which after some hundred steps gives another network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from augscale.augmentation.scales import AugmentationScales
from augscale.data.splits import patient_groups
from augscale.errors import StudyError
from augscale.pretraining.events import RungEvent, StepLog
from augscale.pretraining.loop import pretrain
from augscale.searching.trial import TrialContext, save_rung, score_trial
from augscale.validation.finished_trials import FinishedTrial

TOLERANCE = 1e-6
"""Relative; a score is a sum over float32 embeddings."""


class _Reached(Exception):
    """Raised to end the training once the rung is reached."""


def remake_rung(
    context: TrialContext,
    trial: FinishedTrial,
    step: int,
    *,
    state_path: Path,
    on_step: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Path:
    """Trains up to the rung and keeps its weights beside the trial's record, as `search.keep_weights = "rungs"` does.

    Args:
        context: of the study.
        trial: one that reached the rung.
        step: of the rung.
        state_path: where the resumable state is kept meanwhile.
        on_step: called with the number of updates done, at every log entry.
        should_stop: called before every step.
    Returns:
        The weights.
    Raises:
        StudyError: the score differs from the recorded one; nothing is kept.
        Paused: `should_stop` returned True; the state is saved.
    """
    rung = trial.record.rung(step)
    assert rung is not None
    recorded = rung.score
    assert recorded is not None
    kept: list[Path] = []

    def at_rung(event: RungEvent) -> None:
        if event.step == step:
            score = score_trial(context, event.backbone, information=event.information, loss=event.loss).score
            if not math.isclose(score, recorded, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                state_path.unlink(missing_ok=True)
                raise StudyError(
                    f"{trial.record.name}, step {step}: made again it scores {score:.6f}, the record says "
                    f"{recorded:.6f}; expected the same trial (same device, versions and threads as the search: "
                    f"{trial.record.threads or 'unknown'})"
                )
            kept.append(save_rung(context, trial.directory, trial.record, rung, event.backbone))
            raise _Reached

    def log(entry: StepLog) -> None:
        if on_step is not None:
            on_step(entry.step)

    state_path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _threads(trial.record.threads):
            pretrain(
                context.cache.images,
                context.train_indices,
                AugmentationScales.model_validate(trial.record.scales),
                study=context.config,
                seed=trial.record.seed,
                device=context.device,
                state_path=state_path,
                rung_steps=context.rung_steps,
                on_rung=at_rung,
                on_log=log,
                should_stop=should_stop,
                patients=patient_groups(context.cache.records),
            )
    except _Reached:
        state_path.unlink(missing_ok=True)
    return kept[0]


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Sets the number of CPU threads for a block, because the rounding of sums depends on it."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
