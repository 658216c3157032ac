"""Values that the training loop gives to its caller."""

from __future__ import annotations

from dataclasses import dataclass

from augscale.networks.backbones import Backbone
from augscale.networks.head import DINOHead
from augscale.pretraining.micro_batches import MicroBatches


@dataclass(frozen=True, kw_only=True)
class StepLog:
    """One logged step."""

    step: int
    """Optimizer updates done, this one included."""
    loss: float
    """Nats, of this step's batch."""
    information: float
    """Nats, of the teacher's outputs on this step's batch, see `dino.information`."""
    lr: float
    teacher_temp: float


@dataclass(frozen=True, kw_only=True)
class RungEvent:
    """The run at a rung."""

    step: int
    """Optimizer updates done."""
    backbone: Backbone
    """The teacher's, in eval mode during the call."""
    head: DINOHead
    """The teacher's, likewise."""
    loss: float
    information: float
    log_out_dim: float
    """ln K, the loss of a student that has learned nothing."""
    seconds_by_part: dict[str, float]
    """As in `PretrainResult`, up to this rung's call."""


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """A finished run."""

    backbone: Backbone
    """The teacher's, in eval mode."""
    loss_history: list[tuple[int, float]]
    """(updates done, loss) at every logged step."""
    information: float
    steps: int
    images_per_second: float
    """Source images; rungs and saving not counted."""
    seconds_by_part: dict[str, float]
    """Keys views, forward, backward, optimiser, rungs, state, summed over all sessions of a resumed run. On a GPU,
    whose own timeline gives the first four, also "training": the time between them."""
    micro_batches: MicroBatches
    """At the end."""
