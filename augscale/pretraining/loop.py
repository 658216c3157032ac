"""The training loop, the same for a short trial and for a full pre-training.

One optimizer step is in `step`, what is particular to a method in its class (`method`). Everything random is a function
of (seed, step), so the saved state holds no random generator, and a resumed run is bit-identical to an uninterrupted
one (on one CPU; GPUs sum in varying order). The loop knows nothing of searches: at rungs it calls `on_rung`, whose
exceptions propagate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from augscale.augmentation.scales import AugmentationScales
from augscale.config import StudyConfig
from augscale.errors import Paused
from augscale.pretraining.distributed import DistributedContext
from augscale.pretraining.events import PretrainResult, RungEvent, StepLog
from augscale.pretraining.forward import ViewFunction
from augscale.pretraining.methods import method_of
from augscale.pretraining.micro_batches import MicroBatches
from augscale.pretraining.out_of_memory import capped
from augscale.pretraining.schedules import step_values
from augscale.pretraining.state import Progress, TrainingState, load_state, run_fingerprint, save_state
from augscale.pretraining.step import Trainer
from augscale.system.devices import resolve_device
from augscale.system.memory import memory_limit


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
    context: DistributedContext | None = None,
    free_memory: int | None = None,
    largest_micro_batch: int | None = None,
    on_micro_batches: Callable[[MicroBatches], None] | None = None,
    patients: npt.NDArray[np.int64] | None = None,
) -> PretrainResult:
    """Trains a network by `study.pretrain.method` for `study.pretrain.steps` updates.

    The weights come from the saved state if there is one, else from `study.backbone.init`, else from the seed.

    Args:
        images: uint8, shape (N, S, S, 3), e.g. memory-mapped.
        indices: int64, the rows to train on.
        scales: the distributions that views are drawn from.
        study: backbone, crops and recipe.
        seed: root of the seeds of initial weights, data order, views and stochastic depth.
        device: "auto", "cpu", "cuda" or "cuda:N".
        state_path: file of the resumable state, written at rungs, every `checkpoint_seconds` and on a pause.
        rung_steps: numbers of updates after which `on_rung` is called, in [1, steps]. A rung whose call did not
            return before an interruption is called again on resumption.
        on_rung: may raise; the state saved before the call stays.
        on_log: called at every logged step.
        should_stop: called before every step.
        log_every: steps between readings of the loss; on a GPU each reading waits for the device.
        make_views: replaces the views drawn from `scales`.
        accumulate: smallest number of micro-batches per process and step; more if memory is short, see `micro_batches`.
        context: the processes that train together; each calls this with the same arguments. Batch size and learning
            rate refer to all of them together. Only rank 0 reads and writes the state and calls the callbacks. If
            `should_stop` returns True on any, all stop at the same step. None: a single process.
        free_memory: bytes that this process may hold if the study sets no `pretrain.max_memory`; None: nine tenths of
            what is free.
        largest_micro_batch: limit of images per micro-batch, with which an earlier run on this device ended.
        on_micro_batches: called before the first step, and whenever a step is repeated because memory ran out.
        patients: int64, shape (N,), number of every image's patient, for losses that compare images, where those of
            one patient are no negatives, and for natural positives. None: every image is its own patient.
    Raises:
        ConfigError: the study does not fit the model, the device or the number of processes.
        DataError: fewer images than the batch size.
        CheckpointError: the saved state or the initial weights cannot be used.
        DivergedError: the loss is no longer finite.
        MemoryShortageError: memory is used up in the smallest micro-batches, or on one process of several.
        Paused: `should_stop` returned True.
    """
    context = context or DistributedContext()
    target = torch.device(resolve_device(context.device or device))
    max_memory = study.pretrain.max_memory
    limit = memory_limit(max_memory, target, free_memory)
    reads_patients = method_of(study).whole_batch or study.pretrain.natural_positives
    fingerprint = run_fingerprint(
        study, seed, scales, images.shape, indices, patients=patients if reads_patients else None
    )
    context.check_equal(fingerprint | {"accumulate": str(accumulate)})
    with capped(target, None if max_memory is None and free_memory is None else limit):
        trainer = Trainer(
            images,
            indices,
            scales,
            study,
            seed,
            target,
            context,
            accumulate,
            limit,
            make_views,
            on_micro_batches,
            patients,
        )
        run = _Run(
            trainer=trainer,
            fingerprint=fingerprint,
            state_path=state_path if context.is_main else None,
            rung_steps=frozenset(rung_steps),
            on_rung=on_rung,
            on_log=on_log,
            should_stop=should_stop,
            log_every=log_every,
        )
        run.resume()
        trainer.fit_into_memory(largest_micro_batch)
        return run.train()


@dataclass(kw_only=True, eq=False)
class _Run:
    """One session of a run: resumption, rungs, log and saved state around the trainer's steps."""

    trainer: Trainer
    fingerprint: dict[str, str]
    state_path: Path | None
    rung_steps: frozenset[int]
    on_rung: Callable[[RungEvent], None] | None
    on_log: Callable[[StepLog], None] | None
    should_stop: Callable[[], bool] | None
    log_every: int
    progress: Progress = field(default_factory=Progress)
    saved_at: float = field(default_factory=time.monotonic)

    def train(self) -> PretrainResult:
        """Steps until the run is done, with rungs, logs and saved states at their steps.

        Raises:
            Paused, DivergedError, MemoryShortageError: as `pretrain`.
        """
        trainer, context, steps = self.trainer, self.trainer.context, self.trainer.recipe.steps
        while True:
            with context.announcing_failure():
                if trainer.step in self.rung_steps and self.progress.rung_told < trainer.step:
                    self._call_rung()
            finished = trainer.step >= steps
            stop = not finished and self.should_stop is not None and self.should_stop()
            if not context.all_continue(stop=stop):
                self._save()
                raise Paused(trainer.step)
            if finished:
                return self._result()
            step = trainer.step + 1
            at_rung, at_end = step in self.rung_steps, step == steps
            logged = at_rung or at_end or step % self.log_every == 0
            trainer.train_step(logged=logged)
            with context.announcing_failure():
                if logged:
                    self._log()
                if at_rung or at_end:
                    trainer.check_weights()
                if at_rung or self._save_is_due():
                    self._save()

    def resume(self) -> None:
        """Continues from the saved state if there is one; rank 0 reads it for all."""
        trainer, context = self.trainer, self.trainer.context
        state = content = None
        with context.announcing_failure():
            if self.state_path is not None and self.state_path.exists():
                state = load_state(self.state_path, self.fingerprint)
                content = None if context.is_single else self.state_path.read_bytes()
        context.all_continue()
        content = context.broadcast_bytes(content)
        if content is not None and not context.is_main:
            state = load_state(Path("state of process 0"), self.fingerprint, content)
        if state is None:
            return
        trainer.student.load_state_dict(state.student)
        trainer.teacher.load_state_dict(state.teacher)
        trainer.optimizer.load_state_dict(state.optimizer)
        trainer.method.state = {name: tensor.to(trainer.device) for name, tensor in state.loss_state.items()}
        trainer.step = trainer.saved_step = state.step
        self.progress = Progress(**state.meta)
        trainer.clock.seconds = dict(self.progress.seconds_by_part)
        if self.progress.micro_batches is not None:
            trainer.micro_batches = trainer.micro_batches.resumed(self.progress.micro_batches)

    def _save_is_due(self) -> bool:
        recipe = self.trainer.recipe
        return self.trainer.step < recipe.steps and time.monotonic() - self.saved_at >= recipe.checkpoint_seconds

    def _save(self) -> None:
        """Writes the state, unless the run has diverged."""
        if self.state_path is None:
            return
        trainer = self.trainer
        trainer.stop_if_not_finite()
        with trainer.clock.part("state"):
            self.progress.seconds_by_part = dict(trainer.clock.seconds)
            self.progress.micro_batches = trainer.micro_batches.saved()
            state = TrainingState(
                fingerprint=self.fingerprint,
                step=trainer.step,
                student=trainer.student.state_dict(),
                teacher=trainer.teacher.state_dict(),
                loss_state=trainer.method.state,
                optimizer=trainer.optimizer.state_dict(),
                meta=vars(self.progress),
            )
            save_state(self.state_path, state)
        trainer.saved_step, self.saved_at = trainer.step, time.monotonic()

    def _log(self) -> None:
        """Reads this step's numbers from the device.

        Raises:
            DivergedError: this or an earlier loss was not finite.
        """
        trainer, progress = self.trainer, self.progress
        trainer.stop_if_not_finite()
        values = step_values(trainer.recipe, trainer.step - 1)
        progress.loss = trainer.losses.last()
        progress.information = trainer.method.information(trainer.statistics)
        progress.loss_history.append((trainer.step, progress.loss))
        if self.on_log is not None and trainer.context.is_main:
            self.on_log(
                StepLog(
                    step=trainer.step,
                    loss=progress.loss,
                    information=progress.information,
                    schedules=trainer.method.schedules(values),
                )
            )

    def _call_rung(self) -> None:
        """Calls `on_rung` with the teacher in eval mode."""
        trainer, progress = self.trainer, self.progress
        assert progress.loss is not None, "every rung is a logged step"
        assert progress.information is not None
        event = RungEvent(
            step=trainer.step,
            backbone=trainer.teacher.backbone.eval(),
            head=trainer.teacher.head.eval(),
            loss=progress.loss,
            information=progress.information,
            chance_loss=trainer.method.chance_loss(trainer.study),
            seconds_by_part=dict(trainer.clock.seconds),
        )
        with trainer.clock.part("rungs"):
            try:
                if self.on_rung is not None and trainer.context.is_main:
                    self.on_rung(event)
            finally:
                trainer.teacher.train()
        progress.rung_told = trainer.step

    def _result(self) -> PretrainResult:
        trainer, seconds = self.trainer, self.trainer.clock.seconds
        assert self.progress.information is not None, "the last step is a logged one"
        training = sum(value for part, value in seconds.items() if part not in ("rungs", "state"))
        return PretrainResult(
            backbone=trainer.teacher.backbone.eval(),
            loss_history=self.progress.loss_history,
            information=self.progress.information,
            steps=trainer.step,
            images_per_second=trainer.step * trainer.recipe.batch_size / max(training, 1e-9),
            seconds_by_part=dict(seconds),
            micro_batches=trainer.micro_batches,
        )
