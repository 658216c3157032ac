"""One optimizer step, from the batch to the next weights and the method's next state.

The batch of a step is divided into equal shards: one per process (`distributed`), each of these into consecutive
micro-batches (`micro_batches`), and on a CPU each micro-batch into one shard per thread (`threads`). All shards see the
same weights and the same state of the method. For a loss that is a mean over images, loss, gradients and statistics are
means over the shards, which for equal shards are the means over the batch; a loss that compares images sees all
micro-batches at once (`whole_batch`), and threads do not divide them. So the result equals that of the undivided batch
up to rounding. Two things depend on the division: batch norm, which averages over one micro-batch (on GPUs over those
of all processes), and dropout, including stochastic depth in networks other than a plain ViT, which is drawn per shard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from augscale.augmentation.scales import AugmentationScales
from augscale.augmentation.views import MultiCropViews, Views
from augscale.config import StudyConfig
from augscale.errors import ConfigError, DivergedError, MemoryShortageError
from augscale.networks.batch_norm import uses_batch_statistics
from augscale.networks.precision import resolve_precision, tf32_products
from augscale.pretraining.batches import Batches, Shard
from augscale.pretraining.distributed import DistributedContext, gradient_sync
from augscale.pretraining.forward import Forward, ViewFunction
from augscale.pretraining.memory_estimate import measure_step, missing_moments
from augscale.pretraining.method import StepFacts, Tensors
from augscale.pretraining.methods import NO_PAIRS, has_pairs, method_of
from augscale.pretraining.micro_batches import MicroBatches, fewest_that_fit
from augscale.pretraining.monitor import Clock, LossCheck, means_over
from augscale.pretraining.out_of_memory import (
    allocate_moments,
    drop_cached_memory,
    not_repeatable,
    put_back,
    retry_out_of_memory,
)
from augscale.pretraining.parameter_groups import groups_of
from augscale.pretraining.schedules import StepValues, step_values
from augscale.pretraining.student_teacher import build_networks, distribute_networks
from augscale.pretraining.threads import DataParallelThreads
from augscale.pretraining.updates import cancel_gradients, clip_gradients, update_teacher, without_gradients
from augscale.pretraining.whole_batch import backward_of_whole_batch
from augscale.seeding import derive_seed
from augscale.system.compiling import resolve_compile
from augscale.system.devices import to_device
from augscale.system.memory import resident_memory


class Trainer:
    """Networks, optimizer and method of one run; `loop.pretrain` calls `train_step` until the run is done.

    Args:
        accumulate: smallest number of micro-batches into which each process divides its shard.
        memory_limit: bytes, see `system.memory.memory_limit`.
        make_views: replaces the views drawn from `scales`.
        on_micro_batches: called when micro-batches are chosen, and when they change; on rank 0 only.
        patients: int64, shape (N,), number of every image's patient; None: unknown.
    Raises:
        ConfigError: the study does not fit the model, the device or the number of processes.
        DataError: fewer images than the batch size.
        CheckpointError: the initial weights cannot be used.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        indices: npt.NDArray[np.int64],
        scales: AugmentationScales,
        study: StudyConfig,
        seed: int,
        device: torch.device,
        context: DistributedContext,
        accumulate: int = 1,
        memory_limit: int | None = None,
        make_views: ViewFunction | None = None,
        on_micro_batches: Callable[[MicroBatches], None] | None = None,
        patients: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.study, self.recipe, self.seed = study, study.pretrain, seed
        self.device, self.context = device, context
        self.memory_limit = memory_limit
        precision = resolve_precision(self.recipe.precision, device)
        self.precision = "fp32" if context.all_reduce_max(int(precision == "fp32")) else precision
        self.batches = Batches(
            images, indices, self.recipe.batch_size, derive_seed(seed, "order"), device, memory_limit, patients
        )
        if self.recipe.natural_positives and not has_pairs(None if patients is None else patients[indices]):
            raise ConfigError(NO_PAIRS)
        self.student, self.teacher = build_networks(study, seed, device)
        self.method = method_of(study)(study, self.student.backbone, seed, device)
        batch_norm = uses_batch_statistics(self.student)
        self.micro_batches = MicroBatches.of_batch(
            self.recipe.batch_size, context.world_size, accumulate, batch_norm=batch_norm
        )
        if not context.is_single:
            self.student, self.teacher = distribute_networks(self.student, self.teacher, context, device)
        self.compiled = resolve_compile(self.recipe.compile, device, self.recipe.steps)
        self.student.backbone.compiled = self.teacher.backbone.compiled = self.compiled
        view_seed = derive_seed(seed, "views")
        self.parallel_student = context.data_parallel(self.student)
        draws_by_image = self.method.draws_by_image
        dividing = device.type == "cpu" and context.is_single and draws_by_image and not batch_norm
        self.threads = DataParallelThreads(enabled=dividing and not self.method.whole_batch)
        self.forward = Forward(
            self.method,
            self.batches,
            make_views or MultiCropViews(scales, study.crops, images.shape[1], view_seed, compiled=self.compiled),
            seed=seed,
            device=device,
            precision=self.precision,
            keep_casts=self.threads.num_threads == 1,
            draws_by_image=draws_by_image,
        )
        self.student_parameters: list[nn.Parameter] = [p for p in self.student.parameters() if p.requires_grad]
        self.body_parameters = list(self.student.body_parameters().values())
        self.teacher_parameters: list[Tensor] = list(self.teacher.parameters())
        # A student may have parts, e.g. a predictor, that its teacher lacks.
        trained = dict(self.student.named_parameters())
        self.averaged_parameters: list[Tensor] = [trained[name] for name, _ in self.teacher.named_parameters()]
        self.buffers = list(dict.fromkeys([*self.student.buffers(), *self.teacher.buffers()]))
        self.groups = groups_of(self.student, self.recipe)
        self.optimizer = torch.optim.AdamW([group.for_optimizer() for group in self.groups], lr=0.0, fused=True)
        self.patients = patients
        self.step = 0
        self.saved_step = 0
        """Step of the last saved state; 0 if there is none."""
        self.clock = Clock(device)
        self.losses = LossCheck(device)
        self.on_micro_batches = on_micro_batches if context.is_main else None

    def train_step(self, *, logged: bool) -> None:
        """One optimizer step; if memory runs out, the same step is repeated in smaller micro-batches.

        Everything that allocates memory precedes the update, so a repeated step starts from unchanged weights.

        Args:
            logged: the step's statistics will be read.
        """
        values = step_values(self.recipe, self.step)
        buffers = [buffer.clone() for buffer in self.buffers]
        with without_gradients(self._skipped(values)):
            next_state = retry_out_of_memory(
                lambda: self._accumulate_gradients(values, logged),
                lambda message: self._take_smaller_micro_batches(buffers, message),
            )
        with self.clock.part("optimiser"), not_repeatable():
            self.optimizer.step()
            if self.teacher is not self.student:
                update_teacher(self.teacher_parameters, self.averaged_parameters, values.teacher_momentum)
            self.method.state = next_state
        self.step += 1

    def _accumulate_gradients(self, values: StepValues, logged: bool) -> Tensors:
        """Sets the clipped gradients of the whole batch, learning rate and weight decay; returns the next state."""
        self.optimizer.zero_grad(set_to_none=True)
        shards = Shard(self.context.rank, self.context.world_size).split(self.micro_batches.number)
        facts = StepFacts(
            values=values,
            logged=logged,
            context=self.context,
            patients=self._patients_of_batch(),
            compiled=self.compiled,
        )
        if self.method.whole_batch:
            statistics = [self._whole_batch(shards, facts)]
        else:
            statistics = [
                part for shard in shards for part in self._micro_batch(shard, facts, last=shard is shards[-1])
            ]
        self.statistics = means_over(statistics, self.context)
        self.losses.add(self.statistics["loss"], self.step + 1)
        if self.device.type == "cpu":  # a GPU's loss is read when it is logged, so that steps do not wait for it
            self.stop_if_not_finite()
        with self.clock.part("optimiser"):
            clip_gradients(self.student_parameters, self.recipe.clip_grad)
            cancel_gradients(self.method.withheld(self.student, values))
            cancel_gradients(self.body_parameters if values.backbone_frozen else [])
            for group, settings in zip(self.groups, self.optimizer.param_groups, strict=True):
                settings.update(group.values(values))
            allocate_moments(self.optimizer)
            return self.method.next_state(self.statistics)

    def _skipped(self, values: StepValues) -> list[nn.Parameter]:
        """Parameters that the backward pass can leave out.

        With several processes there are none: their gradients are exchanged for a fixed set of parameters.
        """
        return self.body_parameters if values.backbone_frozen and self.context.is_single else []

    def _patients_of_batch(self) -> Tensor | None:
        if self.patients is None or not self.method.whole_batch:
            return None
        return to_device(self.patients[self.batches.rows(self.step)], self.device)

    def _whole_batch(self, shards: Sequence[Shard], facts: StepFacts, views: Views | None = None) -> Tensors:
        """Adds the gradients of a loss that compares images; returns its statistics."""
        with tf32_products(self.precision, self.device):
            return backward_of_whole_batch(
                self.forward,
                self.parallel_student,
                self.student,
                self.teacher,
                shards,
                self.step,
                facts,
                self.clock,
                synchronize=views is None,
                views=views,
            )

    def _micro_batch(self, shard: Shard, facts: StepFacts, *, last: bool) -> list[Tensors]:
        """Adds the gradients of one micro-batch to the existing ones; returns the statistics of its shards.

        Args:
            last: the micro-batch is the last one of this process in this step.
        """
        num_shards = self.threads.num_shards(self.recipe.batch_size // shard.count)
        if num_shards > 1:
            return self._micro_batch_in_threads(shard.split(num_shards), facts)
        return [self._forward_backward(shard, facts, last=last)]

    def _forward_backward(self, shard: Shard, facts: StepFacts, *, last: bool, views: Views | None = None) -> Tensors:
        with gradient_sync(self.parallel_student, enabled=last), tf32_products(self.precision, self.device):
            loss, statistics = self._loss(shard, facts, self.clock, views)
            with self.clock.part("backward"):
                self._summand(loss, shard).backward()
        return statistics

    def _loss(self, shard: Shard, facts: StepFacts, clock: Clock, views: Views | None = None) -> tuple[Tensor, Tensors]:
        """Loss and statistics of one shard.

        Args:
            views: used instead of views of the shard's images.
        """
        part = self.forward.part(self.step, shard, clock, views)
        with clock.part("forward"):
            outputs, targets = self.forward.both(self.parallel_student, self.teacher, part)
            return self.method.loss(outputs, targets, facts)

    def _summand(self, loss: Tensor, shard: Shard) -> Tensor:
        """The term of a shard in the mean loss of its process; over processes, gradients are averaged instead."""
        shards_of_process = shard.count // self.context.world_size
        return loss if shards_of_process == 1 else loss / shards_of_process

    def _micro_batch_in_threads(self, shards: Sequence[Shard], facts: StepFacts) -> list[Tensors]:
        clocks = [Clock(self.device) for _ in shards]
        trained = [parameter for parameter in self.student_parameters if parameter.requires_grad]

        def in_thread(number: int) -> tuple[Tensors, tuple[Tensor | None, ...]]:
            shard, clock = shards[number], clocks[number]
            loss, statistics = self._loss(shard, facts, clock)
            with clock.part("backward"):
                # Returned, not accumulated: several threads must not add to the same tensors.
                loss = self._summand(loss, shard)
                gradients = torch.autograd.grad(loss, trained, allow_unused=True)
            return statistics, gradients

        done = self.threads.map(in_thread, len(shards))
        self.clock.add_mean(clocks)
        with self.clock.part("backward"):
            for _, gradients in done:
                add_gradients(trained, gradients)
        return [statistics for statistics, _ in done]

    def _take_smaller_micro_batches(self, buffers: list[Tensor], message: str) -> None:
        """Undoes a step that ran out of memory, and halves the micro-batches for the rest of the run.

        Args:
            buffers: copies of the networks' buffers from before the step.
            message: first line of the error.
        Raises:
            MemoryShortageError: they cannot be smaller, or other processes are in the middle of the step.
        """
        self.optimizer.zero_grad(set_to_none=True)
        drop_cached_memory(self.device)
        put_back(self.buffers, buffers)
        step, now = self.step + 1, self.micro_batches
        if not self.context.is_single:
            or_limit = ", or a lower --max-memory" if self.device.type == "cpu" else ""
            raise MemoryShortageError(
                f"process {self.context.rank} ran out of memory at step {step} with {now}; expected --accumulate "
                f"{now.next_number() or now.number} or more on all processes{or_limit}; the run goes on from its last "
                f"saved state ({message})"
            )
        self.micro_batches = now.halved(step, message)
        self._report_micro_batches()

    def fit_into_memory(self, largest: int | None) -> None:
        """Chooses the micro-batches of the steps to come: no larger than `largest`, and on a CPU by an estimate.

        A CPU has no out-of-memory error to wait for: Linux kills the process.

        Args:
            largest: images per micro-batch that an earlier run ended with; None: unknown.
        """
        step = self.step + 1
        if step <= self.recipe.steps:
            self.micro_batches = self.micro_batches.no_larger_than(largest, step)
        if step <= self.recipe.steps and self.device.type == "cpu":
            with self.clock.stopped():
                self.micro_batches = fewest_that_fit(
                    self.micro_batches,
                    self._estimated_bytes,
                    limit=self.memory_limit,
                    max_memory=self.recipe.max_memory,
                    step=step,
                    context=self.context,
                )
        self._report_micro_batches()

    def peak_bytes(self) -> int:
        """Peak of this process in its present micro-batches: estimated on a CPU, measured so far on a GPU."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        return self._estimated_bytes()(self.micro_batches.number)

    def _estimated_bytes(self) -> Callable[[int], int]:
        """Estimated peak of this process as a function of the number of micro-batches."""
        values, shard = step_values(self.recipe, self.step), Shard(self.context.rank, self.context.world_size)
        facts = StepFacts(values=values, logged=True, context=self.context, compiled=self.compiled)

        def forward_backward(views: Views) -> object:
            if self.method.whole_batch:
                return self._whole_batch([shard], facts, views)
            return self._forward_backward(shard, facts, last=False, views=views)

        in_use = resident_memory() + missing_moments(self.optimizer)
        memory = measure_step(
            forward_backward,
            (self.student,) if self.teacher is self.student else (self.student, self.teacher),
            self.study.crops,
            key=repr((self.study.backbone, self.study.crops, self.recipe, self.precision, self.context)),
        )
        images, threads = self.micro_batches.images, self.threads.num_threads
        in_use += self.method.kept_bytes(images)
        return lambda number: in_use + memory.peak(images // number, accumulating=number > 1, num_threads=threads)

    def _report_micro_batches(self) -> None:
        if self.on_micro_batches is not None:
            self.on_micro_batches(self.micro_batches)

    def stop_if_not_finite(self) -> None:
        """Waits for the device and checks all losses so far.

        Raises:
            DivergedError: the loss of this or an earlier step was not finite.
        """
        bad = self.losses.first_bad()
        self.clock.settle()
        if bad is not None:
            raise self._diverged(f"loss is {bad[1]}", bad[0])

    def check_weights(self) -> None:
        """Detects gradients of the last step that were not finite although the loss was.

        Raises:
            DivergedError: a weight of the network that is evaluated is not finite.
        """
        norms = torch.stack(torch._foreach_norm(self.teacher_parameters))
        if not bool(norms.isfinite().all()):
            network = "teacher" if self.method.has_teacher else "network"
            raise self._diverged(f"a weight of the {network} is not finite", self.step)

    def _diverged(self, what: str, step: int) -> DivergedError:
        values = step_values(self.recipe, step - 1)
        saved = f"last checkpoint: step {self.saved_step}" if self.saved_step else "no checkpoint"
        return DivergedError(f"{what} at step {step} ({self.method.described(values)}); {saved}")


def add_gradients(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    """Adds to the gradients of the parameters, as `backward` does; None adds nothing.

    The first gradient is copied: autograd may return one tensor for several parameters, and gradients are later changed
    in place.
    """
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = gradient.clone()
        else:
            parameter.grad += gradient
