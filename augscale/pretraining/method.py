"""The interface of a pre-training method: all that the training loop knows of one.

A step divides its batch into parts (processes, micro-batches, threads), runs the networks on each, and asks the method
for the loss. There are two kinds of methods:

- `whole_batch = False`: the loss is a mean over images. The method sees one part at a time; loss, gradients and
  statistics are means over the parts, which are equal in size.
- `whole_batch = True`: images are compared with each other (negatives, nearest neighbors, assignments). The method sees
  the outputs of all micro-batches of its process at once, and gathers what it needs from other processes itself. See
  `whole_batch` for how micro-batches still bound the memory of the forward and backward passes.

Tensors of outputs and targets have shape (V, B, ...): views first, then images, so that parts are joined along
dimension 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from augscale.augmentation.views import Views
from augscale.config import StudyConfig
from augscale.networks.backbones import Backbone
from augscale.networks.stochastic_depth import DepthDraws
from augscale.pretrain_config import PretrainConfig
from augscale.pretraining.batches import Shard
from augscale.pretraining.distributed import DistributedContext
from augscale.pretraining.headed_network import HeadedNetwork
from augscale.pretraining.schedules import StepValues

Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some images of a step's batch."""

    views: Views
    """Views of B images."""
    shard: Shard
    """Which of the batch's images they are."""
    step: int
    """Optimizer updates done."""
    draws: DepthDraws | None = None
    """Random numbers of the student's stochastic depth; None: torch's generator."""

    @property
    def num_images(self) -> int:
        return len(self.views.global_crops) // 2


@dataclass(frozen=True, kw_only=True)
class StepFacts:
    """What a loss may depend on besides outputs and targets."""

    values: StepValues
    logged: bool
    """The statistics of this step will be read."""
    context: DistributedContext
    patients: Tensor | None = None
    """int64, shape (images of the whole batch,), numbers of patients; None: every image is its own patient."""
    compiled: bool = False
    """Functions that torch compiles may be used."""


class Method(ABC):
    """A pre-training method.

    Args:
        study: recipe and crops.
        backbone: of the student.
        seed: seed of the run, from which the seeds of the method's own draws are derived.
        device: device of its state.

    Attributes:
        state: tensors that a step changes and that the saved state of a run holds, besides networks and optimizer.
    """

    name: ClassVar[str]
    """Value of `pretrain.method`."""
    has_teacher: ClassVar[bool]
    """There is a second network, the moving average of the student, which is also the one that is evaluated."""
    whole_batch: ClassVar[bool]

    def __init__(self, study: StudyConfig, backbone: Backbone, seed: int, device: torch.device) -> None:
        self.study, self.backbone, self.seed, self.device = study, backbone, seed, device
        self.state: Tensors = {}

    @property
    def recipe(self) -> PretrainConfig:
        return self.study.pretrain

    @classmethod
    @abstractmethod
    def check(cls, study: StudyConfig, backbone: Backbone) -> None:
        """Checks that the method and the backbone fit together.

        Raises:
            ConfigError: they do not.
        """

    @classmethod
    @abstractmethod
    def network(cls, study: StudyConfig, backbone: Backbone, seed: int, *, student: bool) -> HeadedNetwork:
        """The student, or the teacher, around a backbone.

        All parameters and buffers of a teacher have a namesake in the student.

        Args:
            study: sizes of the head.
            backbone: with its initial weights.
            seed: seed of the initial weights.
            student: False: the teacher.
        """

    @classmethod
    @abstractmethod
    def chance_loss(cls, study: StudyConfig) -> float | None:
        """The loss of a network whose outputs say nothing, nats; None where it is not one number."""

    @property
    def draws_by_image(self) -> bool:
        """True if the draws of stochastic depth can be those of the whole batch, see `stochastic_depth`."""
        return self.backbone.draws_by_image

    def targets(self, teacher: HeadedNetwork, part: Part) -> Tensors:
        """Outputs of the teacher, called without gradients; nothing for a method without teacher.

        Returns:
            float32, shape (V, B, ...) each.
        """
        return {}

    @abstractmethod
    def outputs(self, student: nn.Module, part: Part) -> Tensors:
        """Outputs of the student.

        Args:
            student: the network of `network`, or a wrapper with the same `forward`; it is called once.
        Returns:
            float32, shape (V, B, ...) each.
        """

    @abstractmethod
    def loss(self, outputs: Tensors, targets: Tensors, facts: StepFacts) -> tuple[Tensor, Tensors]:
        """The loss to differentiate, and statistics.

        Args:
            outputs, targets: of one part, or with `whole_batch` of all images of this process.
            facts: of the step.
        Returns:
            A scalar whose gradient, averaged over the parts (with `whole_batch`: over the processes), is the gradient
            of the batch's loss; and statistics whose means over the parts are those of the batch, among them `loss`.
        """

    def next_state(self, means: Tensors) -> Tensors:
        """The next `state`.

        Args:
            means: statistics of the whole batch.
        """
        return self.state

    def withheld(self, student: HeadedNetwork, values: StepValues) -> list[nn.Parameter]:
        """Parameters that are not updated at this step."""
        return []

    @abstractmethod
    def information(self, means: Tensors) -> float:
        """The method's sign of collapse: what an output says about its image, nats.

        Args:
            means: statistics of a whole batch at a logged step.
        Returns:
            At least 0 up to rounding or chance; near 0 for a collapsed network.
        """

    def kept_bytes(self, images: int) -> int:
        """Estimated memory that a step needs besides its micro-batches, as it keeps the whole batch's outputs.

        Args:
            images: of one process.
        """
        return 0

    def schedules(self, values: StepValues) -> dict[str, float]:
        """What of a step's values the method uses, by the names of the settings, for the log of a run."""
        found = {"lr": values.lr, "weight_decay": values.weight_decay}
        return found | ({"teacher_momentum": values.teacher_momentum} if self.has_teacher else {})

    def described(self, values: StepValues) -> str:
        """Schedules at one step, for messages."""
        return f"lr {values.lr:.1e}"
