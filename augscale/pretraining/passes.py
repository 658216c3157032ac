"""Forward and backward passes of a step, over the parts that its batch is cut into; see `parts`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from augscale.augmentation.views import Views
from augscale.config import PretrainConfig
from augscale.networks.batch_norm import uses_batch_statistics
from augscale.networks.precision import autocast, tf32_products
from augscale.networks.stochastic_depth import DepthDraws
from augscale.pretraining.batches import Batches
from augscale.pretraining.cores import Cores
from augscale.pretraining.dino import dino_loss, mean_entropy, teacher_probabilities
from augscale.pretraining.monitor import Clock
from augscale.pretraining.parts import StepMeans
from augscale.pretraining.schedules import StepValues
from augscale.pretraining.student_teacher import DINONetwork
from augscale.pretraining.team import Team, keep_gradients_here
from augscale.seeding import derive_seed

ViewFunction = Callable[[Tensor, npt.NDArray[np.int64]], Views]


@dataclass(frozen=True, kw_only=True, eq=False)
class StepTask:
    """What is the same for all parts of a step."""

    step: int
    """Counted from 0."""
    values: StepValues
    center: Tensor
    """float32, shape (K,)."""
    watch: bool
    """Whether the step will be logged."""


class Passes:
    """Turns parts of a step's batch into gradients of the student.

    Where nothing but stochastic depth is random and nothing is averaged over images, the threads of a CPU each work on
    a part of a micro-batch (`cores`).

    Args:
        student, teacher: in training mode, on the device.
        called_student: the student, or what wraps it for a team.
        make_views: from images and sample ids.
        seed: of the run.
        compiled: whether passes run what torch has compiled.
    """

    def __init__(
        self,
        *,
        student: DINONetwork,
        teacher: DINONetwork,
        called_student: nn.Module,
        batches: Batches,
        make_views: ViewFunction,
        recipe: PretrainConfig,
        seed: int,
        precision: str,
        device: torch.device,
        team: Team,
        compiled: bool,
    ) -> None:
        self.teacher = teacher
        self.called_student = called_student
        self.parameters: list[nn.Parameter] = list(student.parameters())
        self.batches = batches
        self.make_views = make_views
        self.recipe = recipe
        self.seed = seed
        self.precision = precision
        self.device = device
        self.team = team
        self.backbones = student.backbone, teacher.backbone
        self._compile(compiled)
        self.draws_by_image = student.backbone.draws_by_image
        divide = device.type == "cpu" and team.alone and self.draws_by_image and not uses_batch_statistics(student)
        self.cores = Cores(divide=divide)

    def micro_batch(self, task: StepTask, micro: int, num_micro: int, clock: Clock) -> list[StepMeans]:
        """Views, forward and backward of one micro-batch of this process; its gradients are added to what is there.

        Args:
            micro: in [0, num_micro), of this process.
        Returns:
            The means of each part that it was worked on in.
        """
        number, total = self.team.rank * num_micro + micro, self.team.size * num_micro
        divided = self.cores.num_parts(self.recipe.batch_size // total)
        if divided == 1:
            views = self._views(task.step, number, total, clock)
            return [self.backward(views, task, number, total, clock, last=micro == num_micro - 1)]

        clocks = [Clock(self.device) for _ in range(divided)]

        def on_one_core(core: int) -> tuple[StepMeans, tuple[Tensor | None, ...]]:
            part, parts = number * divided + core, total * divided
            views = self._views(task.step, part, parts, clocks[core])
            loss, means = self._forward(views, task, part, parts, clocks[core])
            with clocks[core].part("backward"):
                # Each thread's own: several at once must not add to the same gradients.
                gradients = torch.autograd.grad(loss / parts, self.parameters, allow_unused=True)
            return means, gradients

        done = self.cores.map(on_one_core, divided)
        clock.add_mean(clocks)
        with clock.part("backward"):
            for _, gradients in done:
                add_gradients(self.parameters, gradients)
        return [means for means, _ in done]

    def backward(
        self, views: Views, task: StepTask, part: int, num_parts: int, clock: Clock, *, last: bool
    ) -> StepMeans:
        """Forward and backward of some of the step's views; their gradients are added to what is there.

        Args:
            part: of all processes' parts, in [0, num_parts).
            last: of this process in this step, after which its gradients are complete.
        """
        per_process = num_parts // self.team.size
        tf32 = tf32_products(self.precision, self.device)
        with keep_gradients_here(self.called_student, last=last), tf32:
            loss, means = self._forward(views, task, part, num_parts, clock)
            with clock.part("backward"):
                (loss if per_process == 1 else loss / per_process).backward()
        return means

    def probe(self, views: Views, task: StepTask, clock: Clock) -> None:
        """`backward` of a few images, as written: compiled code cannot be watched, and these shapes do not return."""
        compiled = self.compiled
        self._compile(False)
        try:
            self.backward(views, task, 0, 1, clock, last=False)
        finally:
            self._compile(compiled)

    def _compile(self, compiled: bool) -> None:
        self.compiled = compiled
        for backbone in self.backbones:
            backbone.compiled = compiled

    def _views(self, step: int, part: int, num_parts: int, clock: Clock) -> Views:
        with clock.part("views"), tf32_products(self.precision, self.device):
            images, sample_ids = self.batches.draw(step, part, num_parts)
            return self.make_views(images, sample_ids)

    def _forward(
        self, views: Views, task: StepTask, part: int, num_parts: int, clock: Clock
    ) -> tuple[Tensor, StepMeans]:
        """The loss with its graph, and what is kept of the part."""
        with clock.part("forward"):
            one_thread = self.cores.num_threads == 1
            cast = autocast(self.precision, self.device, keep_casts=one_thread)
            with self._randomness(task.step, part, num_parts, views) as draws, cast:
                with torch.no_grad():
                    teacher_logits = self.teacher(views.global_crops)
                student_logits = self.called_student(views.global_crops, views.local_crops, draws=draws)
            teacher_probs = teacher_probabilities(teacher_logits, task.center, task.values.teacher_temp)
            loss = dino_loss(student_logits, teacher_probs, self.recipe.student_temp, compiled=self.compiled)
            means = StepMeans(
                loss=loss.detach(),
                teacher_logits=teacher_logits.mean(dim=0),
                teacher_probs=teacher_probs.mean(dim=0) if task.watch else None,
                teacher_entropy=mean_entropy(teacher_probs) if task.watch else None,
            )
        return loss, means

    @contextmanager
    def _randomness(self, step: int, part: int, num_parts: int, views: Views) -> Iterator[DepthDraws | None]:
        """Stochastic depth as a function of (seed, step); in networks that are no plain ViT, of the part of the batch
        too."""
        if self.draws_by_image:
            images = len(views.global_crops) // 2
            yield DepthDraws(derive_seed(self.seed, "drop-path", step), part, num_parts, images)
            return
        on_gpu = self.device.type == "cuda"
        seed = derive_seed(self.seed, "drop-path", step, *([part] if part else []))
        with torch.random.fork_rng(devices=[self.device] if on_gpu else []):
            torch.default_generator.manual_seed(seed)
            if on_gpu:
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(seed)
            yield None


def add_gradients(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    """Adds to the parameters' gradients, as `backward` does; None adds nothing.

    Parameters never share what they get: autograd may give several of them one tensor, and gradients are later changed
    in place.
    """
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = gradient.clone()
        else:
            parameter.grad += gradient
