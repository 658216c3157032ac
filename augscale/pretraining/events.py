"""What the training loop tells its caller."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from augscale.errors import Paused
from augscale.networks.backbones import Backbone
from augscale.networks.head import DINOHead

__all__ = [
    "MicroBatchChange",
    "MicroBatches",
    "Paused",
    "PretrainResult",
    "RungEvent",
    "StepLog",
]


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
class MicroBatchChange:
    """Why a step is cut into more parts than it was."""

    step: int
    """The first step that is worked on in these parts, counted from 1."""
    before: int
    """Micro-batches per process and step."""
    after: int
    cause: str
    """"estimate" or "earlier run": before the session's first step; "out of memory": in the step, done again then."""
    message: str
    """What was estimated, or what the allocator said."""


@dataclass(frozen=True, kw_only=True)
class MicroBatches:
    """How a process's share of a batch is worked on."""

    number: int
    """Micro-batches per step, one after the other."""
    size: int
    """Images of each."""
    batch_norm: bool
    """Whether there is batch norm, which sees its micro-batch alone."""
    changes: tuple[MicroBatchChange, ...]
    """All of the run's, in order."""

    @property
    def note(self) -> str | None:
        """What the number means for comparisons, None where it means nothing."""
        if not self.batch_norm or not self.changes:
            return None
        return (
            f"batch norm saw micro-batches of {self.size} images, chosen by memory; not strictly comparable with runs "
            "in other micro-batches"
        )

    def __str__(self) -> str:
        return f"micro-batches {self.number} x {self.size}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"changes": [asdict(change) for change in self.changes], "note": self.note}


@dataclass(frozen=True, kw_only=True)
class RungEvent:
    """What a rung is told."""

    step: int
    """Optimiser updates done."""
    backbone: Backbone
    """The teacher's, in eval mode for the time of the call."""
    head: DINOHead
    """The teacher's, likewise."""
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
    """views, forward, backward, optimiser, rungs, state; on a GPU, where the first four are read off its own timeline,
    also training: what lies between them. Sums over all sessions of a resumed run."""
    micro_batches: MicroBatches
    """At the end."""
