"""A step's batch in equal parts: what is known of each, and how that becomes the step's.

Parts are worked on by several processes (`team`) or threads (`cores`) at once, and one after the other where memory
is short (`accumulate`). All parts meet the same center, that of the steps before, so every teacher output is what it
would be in the whole batch. Losses and gradients are means over the parts, which for equal parts is the mean over the
batch, and the center moves once per step, by the mean of all parts' teacher outputs. So the result is that of the
undivided batch to rounding. Two things see their part alone: batch norm (on GPUs: the micro-batches of all processes
together), and dropout, or stochastic depth in networks that are no plain ViT, which draw their own numbers in each part
(else see `stochastic_depth`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from augscale.errors import ConfigError
from augscale.pretraining.dino import information_of_parts
from augscale.pretraining.team import Team


@dataclass(frozen=True, kw_only=True)
class StepMeans:
    """What a step is known by afterwards, as means over some of its images; equal parts, so means may be averaged."""

    loss: Tensor
    """Nats, scalar."""
    teacher_logits: Tensor
    """float32, shape (K,)."""
    teacher_probs: Tensor | None
    """float32, shape (K,); None at steps that are not logged."""
    teacher_entropy: Tensor | None
    """Nats, scalar, of single outputs."""

    def information(self) -> float:
        """Nats, see `dino.information`."""
        assert self.teacher_probs is not None, "the step was not watched"
        assert self.teacher_entropy is not None
        return float(information_of_parts(self.teacher_probs, self.teacher_entropy))


def reduced(parts: list[StepMeans], team: Team) -> StepMeans:
    """Means over all micro-batches of all processes. One part of one process is handed on as it is."""
    if len(parts) == 1 and team.alone:
        return parts[0]
    flat = team.mean(torch.stack([_flat(part) for part in parts]).mean(dim=0))
    out_dim = len(parts[0].teacher_logits)
    loss, logits, rest = flat.split([1, out_dim, len(flat) - 1 - out_dim])
    return StepMeans(
        loss=loss[0],
        teacher_logits=logits,
        teacher_probs=rest[1:] if len(rest) else None,
        teacher_entropy=rest[0] if len(rest) else None,
    )


def _flat(means: StepMeans) -> Tensor:
    """One vector, so that a step sends one message."""
    watched = [] if means.teacher_probs is None else [means.teacher_entropy, means.teacher_probs]
    return torch.cat(
        [tensor.reshape(-1) for tensor in (means.loss, means.teacher_logits, *watched) if tensor is not None]
    )


def count_parts(batch_size: int, num_processes: int, accumulate: int) -> int:
    """Into how many equal parts every batch is cut.

    Raises:
        ConfigError: they would not be equal.
    """
    parts = num_processes * accumulate
    if accumulate < 1 or batch_size % parts:
        raise ConfigError(
            f"pretrain.batch_size = {batch_size} over {num_processes} processes x {accumulate} micro-batches: expected "
            f"a multiple of {max(parts, num_processes)}, so that all parts are equal, and at least 1 micro-batch"
        )
    return parts
