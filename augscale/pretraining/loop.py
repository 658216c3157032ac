"""The training loop, the same for a short trial and for a full pre-training.

DINO as in the official code (Caron et al. 2021). Whatever is random is a function of (seed, step), so the state
holds no generator and a run that was interrupted ends bit for bit as one that was not (on one CPU; GPUs sum in
varying order). The loop knows nothing of searches: at the rungs it calls back, and what the callback raises passes.
A step's batch may be worked on in equal parts, see `parts`, and is where memory is short, see `micro_batches`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from augscale.augmentation.scales import AugmentationScales
from augscale.config import StudyConfig
from augscale.pretraining.events import MicroBatches, Paused, PretrainResult, RungEvent, StepLog
from augscale.pretraining.micro_batches import (
    capped,
    memory_limit,
)
from augscale.pretraining.passes import ViewFunction
from augscale.pretraining.team import Team
from augscale.pretraining.training_run import TrainingRun
from augscale.system.devices import resolve_device

__all__ = ["Paused", "PretrainResult", "RungEvent", "StepLog", "pretrain"]


def pretrain(
    images: npt.NDArray[np.uint8],
    indices: npt.NDArray[np.int64],
    scales: AugmentationScales,
    *,
    study: StudyConfig,
    seed: int,
    device: str = "auto",
    state_path: Path | None = None,
    rung_steps: Iterable[int] = (),
    on_rung: Callable[[RungEvent], None] | None = None,
    on_log: Callable[[StepLog], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    log_every: int = 10,
    make_views: ViewFunction | None = None,
    accumulate: int = 1,
    team: Team | None = None,
    free_memory: int | None = None,
    largest_micro_batch: int | None = None,
    on_micro_batches: Callable[[MicroBatches], None] | None = None,
) -> PretrainResult:
    """Trains a student and its teacher for `study.pretrain.steps` updates.

    The weights come from the saved state where there is one, else from `study.backbone.init`, else from the seed.

    Args:
        images: uint8, shape (N, S, S, 3), e.g. memory-mapped.
        indices: int64, the rows to train on.
        scales: what the views are drawn from.
        study: backbone, crops and recipe.
        seed: of initial weights, data order, views and stochastic depth.
        device: "auto", "cpu", "cuda" or "cuda:N".
        state_path: where the resumable state is kept: written at rungs, every `checkpoint_seconds` and on a pause.
        rung_steps: numbers of updates after which `on_rung` is called, in [1, steps]. A rung whose call did not
            return before an interruption is called again on resumption.
        on_rung: may raise; the state saved before the call stays.
        on_log: called at every logged step.
        should_stop: asked before every step.
        log_every: steps between readings of the loss; on a GPU each waits for the device.
        make_views: replaces the views drawn from `scales`.
        accumulate: micro-batches, one after the other, that this process's share of a batch is cut into; more where
            memory demands it, see `micro_batches`.
        team: the processes that train together; each calls this with the same arguments. Batch size and learning rate
            are those of all of them. State is read and written, and callbacks are called, by rank 0 only;
            `should_stop` of any stops all at the same step. None: this process alone.
        free_memory: bytes that this process may hold where the study sets no `pretrain.max_memory`; None: nine tenths
            of what is free.
        largest_micro_batch: images, what an earlier run on this device ended with.
        on_micro_batches: called before the first step, and whenever memory has run out and a step is done again.
    Raises:
        ConfigError: the study does not fit the model, the device or the team.
        DataError: fewer images than the batch size.
        CheckpointError: the saved state or the initial weights cannot be used.
        DivergedError: the loss is no longer finite.
        MemoryShortageError: memory is used up in the smallest micro-batches, or on one process of several.
        Paused: `should_stop` said so.
    """
    team, steps = team or Team(), study.pretrain.steps
    place = torch.device(resolve_device(team.device or device))
    limit = memory_limit(study.pretrain.max_memory, place, free_memory)
    with capped(place, study.pretrain.max_memory):
        run = TrainingRun(images, indices, scales, study, seed, place, state_path, make_views, accumulate, team, limit)
        run.resume()
        run.fit_into_memory(limit, largest_micro_batch, on_micro_batches)
        return _train(run, team, steps, set(rung_steps), on_rung, on_log, should_stop, log_every)


def _train(
    run: TrainingRun,
    team: Team,
    steps: int,
    rungs: set[int],
    on_rung: Callable[[RungEvent], None] | None,
    on_log: Callable[[StepLog], None] | None,
    should_stop: Callable[[], bool] | None,
    log_every: int,
) -> PretrainResult:
    while True:
        with team.answering():
            if run.step in rungs and run.meta["rung_told"] < run.step:
                run.tell_rung(on_rung)
        finished = run.step >= steps
        if not team.agree_to_go_on(stop=not finished and should_stop is not None and should_stop()):
            run.save()
            raise Paused(run.step)
        if finished:
            return run.result()
        at_rung = run.step + 1 in rungs
        at_end = run.step + 1 == steps
        logged = at_rung or at_end or (run.step + 1) % log_every == 0
        run.train_step(watch=logged)
        with team.answering():
            if logged:
                entry = run.log()
                if on_log is not None and team.leads:
                    on_log(entry)
            if at_rung or at_end:
                run.check_weights()
            if at_rung or run.save_is_due():
                run.save()
