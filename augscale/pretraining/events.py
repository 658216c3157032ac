"""Values that the training loop gives to its caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from augscale.networks.backbones import Backbone
from augscale.pretraining.micro_batches import MicroBatches


@dataclass(frozen=True, kw_only=True)
class StepLog:
    """One logged step."""

    step: int
    """Optimizer updates done, this one included."""
    loss: float
    """Loss of this step's batch, in nats."""
    information: float
    """Information of the outputs on this step's batch, in nats, see `Method.information`."""
    schedules: Mapping[str, float]
    """Learning rate and the other values of this step that the method uses, see `Method.schedules`."""


@dataclass(frozen=True, kw_only=True)
class RungEvent:
    """The run at a rung."""

    step: int
    """Optimizer updates done."""
    backbone: Backbone
    """Backbone of the teacher (of the student for a method without), in eval mode during the call."""
    head: nn.Module
    """Head of the same network, in eval mode during the call."""
    loss: float
    information: float
    chance_loss: float | None
    """The loss of outputs that say nothing, nats; None where the method has no such number."""
    seconds_by_part: dict[str, float]
    """As in `PretrainResult`, up to this rung."""


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """A finished run."""

    backbone: Backbone
    """Backbone of the teacher (of the student for a method without), in eval mode."""
    loss_history: list[tuple[int, float]]
    """(updates done, loss) at every logged step."""
    information: float
    steps: int
    images_per_second: float
    """Source images per second of training; time for rungs and saving is not counted."""
    seconds_by_part: dict[str, float]
    """Keys views, forward, backward, optimiser, rungs, state, summed over all sessions of a resumed run. On a GPU the
    first four are timed by CUDA events, and the key "training" is the time between them."""
    micro_batches: MicroBatches
    """Division of the batch at the end of the run."""
