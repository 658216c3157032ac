"""What the training loop tells its caller."""

from __future__ import annotations

from dataclasses import dataclass

from augscale.pretraining.backbones import Backbone


class Paused(Exception):
    """`should_stop` said so; the state is saved where there is a place for it."""


@dataclass(frozen=True, kw_only=True)
class StepLog:
    """One logged step."""

    step: int
    """Optimiser updates done, this one included."""
    loss: float
    """Nats, of this step's batch."""
    information: float
    """Nats, of the teacher's outputs on this step's batch, see `dino.information`."""
    lr: float
    teacher_temp: float


@dataclass(frozen=True, kw_only=True)
class RungEvent:
    """What a rung is told."""

    step: int
    """Optimiser updates done."""
    backbone: Backbone
    """The teacher's, in eval mode for the time of the call."""
    loss: float
    information: float
    log_out_dim: float
    """ln K, the loss of a student that knows nothing."""
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
    """On a CPU views, forward, backward, optimiser, rungs, state; on a GPU, whose work is not waited for within a
    step, training, rungs, state. Sums over all sessions of a resumed run."""
