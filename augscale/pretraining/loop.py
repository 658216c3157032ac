"""The training loop, the same for a short trial and for a full pre-training.

DINO as in the official code (Caron et al. 2021). Whatever is random is a function of (seed, step), so the state
holds no generator and a run that was interrupted ends bit for bit as one that was not (on one CPU; GPUs sum in
varying order). The loop knows nothing of searches: at the rungs it calls back, and what the callback raises passes.
A step's batch may be worked on in equal parts, see `parts`.
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
from augscale.errors import ConfigError, DivergedError
from augscale.pretraining.batches import Batches
from augscale.pretraining.dino import (
    cancel_gradients,
    clip_gradients,
    dino_loss,
    mean_entropy,
    moved_center,
    parameter_groups,
    teacher_probabilities,
    update_teacher,
)
from augscale.pretraining.events import Paused, PretrainResult, RungEvent, StepLog
from augscale.pretraining.monitor import Clock, LossCheck
from augscale.pretraining.networks import build_networks, has_batch_norm, synchronize_batch_norm
from augscale.pretraining.parts import StepMeans, count_parts, reduced
from augscale.pretraining.precision import autocast, resolve_precision
from augscale.pretraining.schedules import StepValues, step_values
from augscale.pretraining.state import TrainingState, load_state, run_fingerprint, save_state
from augscale.pretraining.team import Team, keep_gradients_here
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
    accumulate: int = 1,
    team: Team | None = None,
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
        accumulate: micro-batches, one after the other, that this process's share of a batch is cut into.
        team: the processes that train together; each calls this with the same arguments. Batch size and learning rate
            are those of all of them. State is read and written, and callbacks are called, by rank 0 only;
            `should_stop` of any stops all at the same step. None: this process alone.
    Raises:
        ConfigError: the study does not fit the model, the device or the team.
        DataError: fewer images than the batch size.
        CheckpointError: the saved state or the initial weights cannot be used.
        DivergedError: the loss is no longer finite.
        Paused: `should_stop` said so.
    """
    team, steps = team or Team(), study.pretrain.steps
    run = _Run(images, indices, scales, study, seed, team.device or device, state_path, make_views, accumulate, team)
    rungs = set(rung_steps)
    run.resume()
    while True:
        with team.answering():
            if run.step in rungs and run.meta["rung_told"] < run.step:
                run.tell_rung(on_rung)
        finished = run.step >= steps
        if not team.agree_to_go_on(stop=not finished and should_stop is not None and should_stop()):
            run.save()
            raise Paused
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
        accumulate: int,
        team: Team,
    ) -> None:
        self.study = study
        self.recipe = study.pretrain
        self.seed = seed
        self.device = torch.device(resolve_device(device))
        precision = resolve_precision(self.recipe.precision, self.device)
        self.precision = "fp32" if team.agree(int(precision == "fp32")) else precision
        self.state_path = state_path if team.leads else None
        self.team = team
        self.accumulate = accumulate
        self.num_parts = count_parts(self.recipe.batch_size, team.size, accumulate)
        self.fingerprint = run_fingerprint(study, seed, scales, images.shape, indices)
        self.batches = Batches(images, indices, self.recipe.batch_size, derive_seed(seed, "order"), self.device)
        self.views = make_views or MultiCropViews(scales, study.crops, images.shape[1], derive_seed(seed, "views"))
        self.student, self.teacher = build_networks(study, seed, self.device)
        self._meet_the_team()
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

    def _meet_the_team(self) -> None:
        """Equal networks everywhere, gradients and batch norm's statistics over all processes."""
        if not self.team.alone:
            if self.device.type == "cpu" and has_batch_norm(self.student):
                raise ConfigError(
                    "batch norm over several processes needs GPUs; expected one process, a backbone without batch "
                    "norm and pretrain.head_batch_norm = false, or GPUs"
                )
            self.team.check_same(self.fingerprint | {"accumulate": str(self.accumulate)})
            self.student, self.teacher = synchronize_batch_norm(self.student), synchronize_batch_norm(self.teacher)
            self.team.spread(self.teacher)
        self.called_student = self.team.wrap(self.student)

    def resume(self) -> None:
        """Takes up the saved state where there is one; rank 0 reads it for all."""
        state = content = None
        with self.team.answering():
            if self.state_path is not None and self.state_path.exists():
                state = load_state(self.state_path, self.fingerprint)
                content = None if self.team.alone else self.state_path.read_bytes()
        self.team.agree_to_go_on(stop=False)
        content = self.team.share(content)
        if content is not None and not self.team.leads:
            state = load_state(Path("state of process 0"), self.fingerprint, content)
        if state is None:
            return
        self.student.load_state_dict(state.student)
        self.teacher.load_state_dict(state.teacher)
        self.optimizer.load_state_dict(state.optimizer)
        self.center = state.center.to(self.device)
        self.step, self.meta = state.step, state.meta
        self.clock.seconds = dict(self.meta["seconds_by_part"])
        self.last_saved = (self.step, time.monotonic())

    def train_step(self, watch: bool) -> None:
        """One update of the student, and of the teacher after it.

        Args:
            watch: whether the step will be logged.
        """
        values = step_values(self.recipe, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        parts = [self._part(values, micro, watch) for micro in range(self.accumulate)]
        self.means = reduced(parts, self.team)
        self.losses.add(self.means.loss, self.step + 1)
        if self.device.type == "cpu":
            self._stop_if_not_finite()

        with self.clock.part("optimiser"):
            clip_gradients(self.student_parameters, self.recipe.clip_grad)
            if values.last_layer_frozen:
                cancel_gradients(self.last_layer)
            self._set_rates(values)
            self.optimizer.step()
            update_teacher(self.teacher_parameters, self.student_parameters, values.teacher_momentum)
            self.center = moved_center(self.center, self.means.teacher_logits, self.recipe.center_momentum)
        self.step += 1

    def _part(self, values: StepValues, micro: int, watch: bool) -> StepMeans:
        """Forward and backward of one micro-batch of this process; its gradients are added to what is there."""
        number = self.team.rank * self.accumulate + micro

        with self.clock.part("views"):
            images, sample_ids = self.batches.draw(self.step, number, self.num_parts)
            views = self.views(images, sample_ids)

        last = micro == self.accumulate - 1
        with keep_gradients_here(self.called_student, last=last):
            with self.clock.part("forward"):
                with self._step_randomness(number), autocast(self.precision, self.device):
                    with torch.no_grad():
                        teacher_logits = self.teacher(views.global_crops)
                    student_logits = self.called_student(views.global_crops, views.local_crops)
                teacher_probs = teacher_probabilities(teacher_logits, self.center, values.teacher_temp)
                loss = dino_loss(student_logits, teacher_probs, self.recipe.student_temp)
            with self.clock.part("backward"):
                (loss if self.accumulate == 1 else loss / self.accumulate).backward()

        return StepMeans(
            loss=loss.detach(),
            teacher_logits=teacher_logits.mean(dim=0),
            teacher_probs=teacher_probs.mean(dim=0) if watch else None,
            teacher_entropy=mean_entropy(teacher_probs) if watch else None,
        )

    def log(self) -> StepLog:
        """Reads this step's numbers from the device.

        Raises:
            DivergedError: this or an earlier loss was not finite.
        """
        self._stop_if_not_finite()
        values = step_values(self.recipe, self.step - 1)
        self.meta["loss"] = self.losses.last()
        self.meta["information"] = self.means.information()
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
            seconds_by_part=dict(self.clock.seconds),
        )
        with self.clock.part("rungs"):
            try:
                if on_rung is not None and self.team.leads:
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
    def _step_randomness(self, part: int) -> Iterator[None]:
        """Stochastic depth, and dropout where a study asks for it, as a function of (seed, step, part of the batch)."""
        on_gpu = self.device.type == "cuda"
        seed = derive_seed(self.seed, "drop-path", self.step, *([part] if part else []))
        with torch.random.fork_rng(devices=[self.device] if on_gpu else []):
            torch.default_generator.manual_seed(seed)
            if on_gpu:
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(seed)
            yield
