"""One training run: the networks, the optimiser, and everything else that lives from step to step.

`loop.pretrain` drives it. A step's batch may be worked on in equal parts, see `parts`, also where memory is short, see
`micro_batches`; then everything of a step that allocates memory comes before anything that cannot be done again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from augscale.augmentation.scales import AugmentationScales
from augscale.augmentation.views import MultiCropViews
from augscale.config import StudyConfig
from augscale.errors import ConfigError, DivergedError, MemoryShortageError
from augscale.networks.batch_norm import uses_batch_statistics
from augscale.networks.precision import resolve_precision
from augscale.pretraining.batches import Batches
from augscale.pretraining.dino import (
    cancel_gradients,
    clip_gradients,
    moved_center,
    parameter_groups,
    update_teacher,
)
from augscale.pretraining.events import MicroBatches, PretrainResult, RungEvent, StepLog
from augscale.pretraining.memory_estimate import Prober, put_back
from augscale.pretraining.micro_batches import (
    MicroBatching,
    allocate_moments,
    choose,
    drop_cached_memory,
    memory_in_use,
    missing_moments,
    until_it_fits,
    update_in_place,
)
from augscale.pretraining.monitor import Clock, LossCheck
from augscale.pretraining.parts import count_parts, reduced
from augscale.pretraining.passes import Passes, StepTask, ViewFunction
from augscale.pretraining.schedules import StepValues, step_values
from augscale.pretraining.state import TrainingState, load_state, run_fingerprint, save_state
from augscale.pretraining.student_teacher import build_networks, synchronize_batch_norm
from augscale.pretraining.team import Team
from augscale.seeding import derive_seed
from augscale.system.compiling import resolve_compile


class TrainingRun:
    """The networks, the optimiser, and everything else that lives from step to step."""

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        indices: npt.NDArray[np.int64],
        scales: AugmentationScales,
        study: StudyConfig,
        seed: int,
        device: torch.device,
        state_path: Path | None,
        make_views: ViewFunction | None,
        accumulate: int,
        team: Team,
        memory_limit: int | None,
    ) -> None:
        self.study = study
        self.recipe = study.pretrain
        self.seed = seed
        self.device = device
        precision = resolve_precision(self.recipe.precision, self.device)
        self.precision = "fp32" if team.agree(int(precision == "fp32")) else precision
        self.state_path = state_path if team.leads else None
        self.team = team
        count_parts(self.recipe.batch_size, team.size, accumulate)
        self.fingerprint = run_fingerprint(study, seed, scales, images.shape, indices)
        batches = Batches(images, indices, self.recipe.batch_size, derive_seed(seed, "order"), device, memory_limit)
        self.student, self.teacher = build_networks(study, seed, self.device)
        norm = uses_batch_statistics(self.student)
        self.micro_batches = MicroBatching(
            self.recipe.batch_size // team.size, accumulate, smallest=2 if norm else 1, batch_norm=norm
        )
        self._meet_the_team()
        compiled = resolve_compile(self.recipe.compile, device, self.recipe.steps)
        view_seed = derive_seed(seed, "views")
        self.passes = Passes(
            student=self.student,
            teacher=self.teacher,
            called_student=team.wrap(self.student),
            batches=batches,
            make_views=make_views or MultiCropViews(scales, study.crops, images.shape[1], view_seed, compiled=compiled),
            recipe=self.recipe,
            seed=seed,
            precision=self.precision,
            device=device,
            team=team,
            compiled=compiled,
        )
        self.buffers = [*self.student.buffers(), *self.teacher.buffers()]
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
            if self.device.type == "cpu" and uses_batch_statistics(self.student):
                raise ConfigError(
                    "batch norm over several processes needs GPUs; expected one process, a backbone without batch "
                    "norm and pretrain.head_batch_norm = false, or GPUs"
                )
            self.team.check_same(self.fingerprint | {"accumulate": str(self.micro_batches.number)})
            self.student, self.teacher = synchronize_batch_norm(self.student), synchronize_batch_norm(self.teacher)
            self.team.spread(self.teacher)

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
        if "micro_batches" in self.meta:
            self.micro_batches.resume(self.meta["micro_batches"])

    def fit_into_memory(
        self, limit: int | None, largest: int | None, tell: Callable[[MicroBatches], None] | None
    ) -> None:
        """Chooses the micro-batches for the steps to come.

        Args:
            limit: bytes, see `memory_limit`.
            largest: images per micro-batch that an earlier run ended with.
            tell: told of them now and whenever they change.
        """
        self.tell_micro_batches = tell if self.team.leads else None
        if self.step < self.recipe.steps:
            self.micro_batches.follow(largest, self.step + 1)
            task = self._task(watch=True)
            settings = (self.study.backbone, self.study.crops, self.recipe, self.precision, self.device, self.team)
            prober = Prober(
                lambda views: self.passes.probe(views, task, self.clock),
                (self.student, self.teacher),
                self.study.crops,
                self.device,
                key=repr(settings),
            )
            with self.clock.stopped():
                choose(
                    self.micro_batches,
                    prober,
                    self.team,
                    limit=limit,
                    in_use=memory_in_use(self.device),
                    moments=missing_moments(self.optimizer),
                    step=self.step + 1,
                    max_memory=self.recipe.max_memory,
                    num_threads=self.passes.cores.num_threads,
                )
        if self.tell_micro_batches is not None:
            self.tell_micro_batches(self.micro_batches.told())

    def train_step(self, watch: bool) -> None:
        """One update of the student, and of the teacher after it; done again where it runs out of memory.

        Args:
            watch: whether the step will be logged.
        """
        task = self._task(watch)
        buffers = [buffer.clone() for buffer in self.buffers]
        center = until_it_fits(lambda: self._prepare_update(task), lambda message: self._retreat(buffers, message))
        with self.clock.part("optimiser"), update_in_place():
            self.optimizer.step()
            update_teacher(self.teacher_parameters, self.student_parameters, task.values.teacher_momentum)
            self.center = center
        self.step += 1

    def _task(self, watch: bool) -> StepTask:
        values = step_values(self.recipe, self.step)
        return StepTask(step=self.step, values=values, center=self.center, watch=watch)

    def _prepare_update(self, task: StepTask) -> Tensor:
        """Everything of a step that allocates memory, and nothing that cannot be done again.

        Returns:
            The next center; the next gradients and rates are in place.
        """
        self.optimizer.zero_grad(set_to_none=True)
        number = self.micro_batches.number
        parts = [part for micro in range(number) for part in self.passes.micro_batch(task, micro, number, self.clock)]
        self.means = reduced(parts, self.team)
        self.losses.add(self.means.loss, self.step + 1)
        if self.device.type == "cpu":
            self._stop_if_not_finite()

        with self.clock.part("optimiser"):
            clip_gradients(self.student_parameters, self.recipe.clip_grad)
            if task.values.last_layer_frozen:
                cancel_gradients(self.last_layer)
            self._set_rates(task.values)
            allocate_moments(self.optimizer)
            return moved_center(self.center, self.means.teacher_logits, self.recipe.center_momentum)

    def _retreat(self, buffers: list[Tensor], message: str) -> None:
        """After a step ran out of memory: as if it had not begun, and smaller micro-batches.

        Args:
            buffers: what the networks' buffers were before the step.
            message: the error's.
        """
        self.optimizer.zero_grad(set_to_none=True)
        drop_cached_memory(self.device)
        put_back(self.buffers, buffers)
        step, number = self.step + 1, self.micro_batches.number
        if not self.team.alone:
            # The others are in the middle of the step, and wait for this process's gradients.
            raise MemoryShortageError(
                f"process {self.team.rank} ran out of memory at step {step} with {self.micro_batches.told()}; expected "
                f"--accumulate {self.micro_batches.next_number() or number} or more on all processes, or a lower "
                f"--max-memory; the run goes on from its last saved state ({message})"
            )
        self.micro_batches.halve(step, message)
        if self.tell_micro_batches is not None:
            self.tell_micro_batches(self.micro_batches.told())

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
            head=self.teacher.head.eval(),
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
                self.teacher.train()
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
            self.meta["micro_batches"] = self.micro_batches.to_meta()
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
            micro_batches=self.micro_batches.told(),
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
