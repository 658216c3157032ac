"""The training loop, the same for a short trial and for a full pre-training.

DINO as in the official code (Caron et al. 2021). Whatever is random is a function of (seed, step), so the state
holds no generator and a run that was interrupted ends bit for bit as one that was not (on one CPU; GPUs sum in
varying order). The loop knows nothing of searches: at the rungs it calls back, and what the callback raises passes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from augscale.augmentation.scales import AugmentationScales
from augscale.augmentation.views import MultiCropViews, Views
from augscale.config import StudyConfig
from augscale.devices import resolve_device
from augscale.errors import DivergedError
from augscale.pretraining.batches import Batches
from augscale.pretraining.dino import (
    cancel_gradients,
    clip_gradients,
    dino_loss,
    information,
    parameter_groups,
    teacher_probabilities,
    update_teacher,
    updated_center,
)
from augscale.pretraining.events import Paused, PretrainResult, RungEvent, StepLog
from augscale.pretraining.monitor import Clock, LossCheck
from augscale.pretraining.networks import build_networks
from augscale.pretraining.precision import autocast, resolve_precision
from augscale.pretraining.schedules import StepValues, step_values
from augscale.pretraining.state import TrainingState, load_state, run_fingerprint, save_state
from augscale.seeding import derive_seed

__all__ = ["Paused", "PretrainResult", "RungEvent", "StepLog", "pretrain"]

ViewFunction = Callable[[Tensor, npt.NDArray[np.int64]], Views]


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
    Raises:
        ConfigError: the study does not fit the model or the device.
        DataError: fewer images than the batch size.
        CheckpointError: the saved state or the initial weights cannot be used.
        DivergedError: the loss is no longer finite.
        Paused: `should_stop` said so.
    """
    run = _Run(images, indices, scales, study, seed, device, state_path, make_views)
    rungs = set(rung_steps)
    run.resume()
    while True:
        if run.step in rungs and run.meta["rung_told"] < run.step:
            run.tell_rung(on_rung)
        if run.step >= study.pretrain.steps:
            return run.result()
        if should_stop is not None and should_stop():
            run.save()
            raise Paused
        run.train_step()
        at_rung = run.step in rungs
        if at_rung or run.step % log_every == 0 or run.step == study.pretrain.steps:
            entry = run.log()
            if on_log is not None:
                on_log(entry)
        if at_rung or run.step == study.pretrain.steps:
            run.check_weights()
        if at_rung or run.save_is_due():
            run.save()


class _Run:
    """The networks, the optimiser, and everything else that lives from step to step."""

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        indices: npt.NDArray[np.int64],
        scales: AugmentationScales,
        study: StudyConfig,
        seed: int,
        device: str,
        state_path: Path | None,
        make_views: ViewFunction | None,
    ) -> None:
        self.study = study
        self.recipe = study.pretrain
        self.seed = seed
        self.device = torch.device(resolve_device(device))
        self.precision = resolve_precision(self.recipe.precision, self.device)
        self.state_path = state_path
        self.fingerprint = run_fingerprint(study, seed, scales, images.shape, indices)
        self.batches = Batches(images, indices, self.recipe.batch_size, derive_seed(seed, "order"), self.device)
        self.views = make_views or MultiCropViews(scales, study.crops, images.shape[1], derive_seed(seed, "views"))
        self.student, self.teacher = build_networks(study, seed, self.device)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.student), lr=0.0, fused=True)
        self.center = torch.zeros(self.recipe.out_dim, device=self.device)
        self.student_parameters: list[nn.Parameter] = list(self.student.parameters())
        self.teacher_parameters: list[Tensor] = list(self.teacher.parameters())
        self.last_layer = list(self.student.head.last_layer.parameters())
        self.step = 0
        self.meta: dict[str, Any] = {"loss_history": [], "loss": None, "information": None, "rung_told": 0}
        self.clock = Clock(self.device)
        self.losses = LossCheck(self.device)
        self.last_saved: tuple[int, float] = (0, time.monotonic())

    def resume(self) -> None:
        """Takes up the saved state where there is one."""
        if self.state_path is None or not self.state_path.exists():
            return
        state = load_state(self.state_path, self.fingerprint)
        self.student.load_state_dict(state.student)
        self.teacher.load_state_dict(state.teacher)
        self.optimizer.load_state_dict(state.optimizer)
        self.center = state.center.to(self.device)
        self.step, self.meta = state.step, state.meta
        self.clock.seconds = dict(self.meta["seconds_by_part"])
        self.last_saved = (self.step, time.monotonic())

    def train_step(self) -> None:
        """One update of the student, and of the teacher after it."""
        recipe, values = self.recipe, step_values(self.recipe, self.step)

        with self.clock.part("views"):
            images, sample_ids = self.batches.draw(self.step)
            views = self.views(images, sample_ids)

        with self.clock.part("forward"):
            with self._step_randomness(), autocast(self.precision, self.device):
                with torch.no_grad():
                    teacher_logits = self.teacher(views.global_crops)
                student_logits = self.student(views.global_crops, views.local_crops)
            teacher_probs = teacher_probabilities(teacher_logits, self.center, values.teacher_temp)
            loss = dino_loss(student_logits, teacher_probs, recipe.student_temp)

        self.losses.add(loss.detach(), self.step + 1)
        if self.device.type == "cpu":
            self._stop_if_not_finite()

        with self.clock.part("backward"):
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()

        with self.clock.part("optimiser"):
            clip_gradients(self.student_parameters, recipe.clip_grad)
            if values.last_layer_frozen:
                cancel_gradients(self.last_layer)
            self._set_rates(values)
            self.optimizer.step()
            update_teacher(self.teacher_parameters, self.student_parameters, values.teacher_momentum)
            self.center = updated_center(self.center, teacher_logits, recipe.center_momentum)

        self.teacher_probs = teacher_probs
        self.step += 1

    def log(self) -> StepLog:
        """Reads this step's numbers from the device.

        Raises:
            DivergedError: this or an earlier loss was not finite.
        """
        self._stop_if_not_finite()
        values = step_values(self.recipe, self.step - 1)
        self.meta["loss"] = self.losses.last()
        self.meta["information"] = float(information(self.teacher_probs))
        self.meta["loss_history"].append((self.step, self.meta["loss"]))
        return StepLog(
            step=self.step,
            loss=self.meta["loss"],
            information=self.meta["information"],
            lr=values.lr,
            teacher_temp=values.teacher_temp,
        )

    def tell_rung(self, on_rung: Callable[[RungEvent], None] | None) -> None:
        """Calls back with the teacher as it will be used: in eval mode."""
        event = RungEvent(
            step=self.step,
            backbone=self.teacher.backbone.eval(),
            loss=self.meta["loss"],
            information=self.meta["information"],
            log_out_dim=math.log(self.recipe.out_dim),
        )
        with self.clock.part("rungs"):
            try:
                if on_rung is not None:
                    on_rung(event)
            finally:
                self.teacher.backbone.train()
        self.meta["rung_told"] = self.step

    def save_is_due(self) -> bool:
        return self.step < self.recipe.steps and time.monotonic() - self.last_saved[1] >= self.recipe.checkpoint_seconds

    def save(self) -> None:
        """Writes the state, never one that has diverged."""
        if self.state_path is None:
            return
        self._stop_if_not_finite()
        with self.clock.part("state"):
            self.meta["seconds_by_part"] = dict(self.clock.seconds)
            state = TrainingState(
                fingerprint=self.fingerprint,
                step=self.step,
                student=self.student.state_dict(),
                teacher=self.teacher.state_dict(),
                center=self.center,
                optimizer=self.optimizer.state_dict(),
                meta=self.meta,
            )
            save_state(self.state_path, state)
        self.last_saved = (self.step, time.monotonic())

    def result(self) -> PretrainResult:
        seconds = self.clock.seconds
        training = sum(value for part, value in seconds.items() if part not in ("rungs", "state"))
        return PretrainResult(
            backbone=self.teacher.backbone.eval(),
            loss_history=self.meta["loss_history"],
            information=self.meta["information"],
            steps=self.step,
            images_per_second=self.step * self.recipe.batch_size / max(training, 1e-9),
            seconds_by_part=dict(seconds),
        )

    def check_weights(self) -> None:
        """Catches what a finite loss can hide: gradients of the last step that were not finite.

        Raises:
            DivergedError: a weight of the teacher is not finite.
        """
        norms = torch.stack(torch._foreach_norm(self.teacher_parameters))
        if not bool(norms.isfinite().all()):
            raise self._diverged("a weight of the teacher is not finite", self.step)

    def _stop_if_not_finite(self) -> None:
        bad = self.losses.first_bad()
        self.clock.settle()
        if bad is not None:
            raise self._diverged(f"loss is {bad[1]}", bad[0])

    def _diverged(self, what: str, step: int) -> DivergedError:
        values = step_values(self.recipe, step - 1)
        saved = f"last checkpoint: step {self.last_saved[0]}" if self.last_saved[0] else "no checkpoint"
        return DivergedError(
            f"{what} at step {step} (lr {values.lr:.1e}, teacher_temp {values.teacher_temp:g}); {saved}"
        )

    def _set_rates(self, values: StepValues) -> None:
        decaying, fixed = self.optimizer.param_groups
        decaying["lr"] = fixed["lr"] = values.lr
        decaying["weight_decay"] = values.weight_decay

    @contextmanager
    def _step_randomness(self) -> Iterator[None]:
        """Stochastic depth, and dropout where a study asks for it, as a function of (seed, step)."""
        on_gpu = self.device.type == "cuda"
        seed = derive_seed(self.seed, "drop-path", self.step)
        with torch.random.fork_rng(devices=[self.device] if on_gpu else []):
            torch.default_generator.manual_seed(seed)
            if on_gpu:
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(seed)
            yield
