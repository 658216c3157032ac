"""Updates of weights that all methods share: moving average, clipping, frozen parameters (Caron et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_teacher(teacher: Sequence[Tensor], student: Sequence[Tensor], momentum: float) -> None:
    """teacher = momentum * teacher + (1 - momentum) * student, in place, all parameters in one call."""
    torch._foreach_lerp_(list(teacher), list(student), 1 - momentum)


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> None:
    """Scales each tensor's gradient down to `max_norm`; per tensor, as in the official code, not over all tensors.

    The factor is max_norm / (norm + 1e-6) if that is below 1. Nothing is read back from the device.

    Args:
        parameters: those without a gradient are skipped.
        max_norm: largest L2 norm of a tensor; 0 switches clipping off.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients or max_norm == 0:
        return
    norms = torch.stack(torch._foreach_norm(gradients))
    factors = (max_norm / (norms + 1e-6)).clamp_(max=1)
    torch._foreach_mul_(gradients, list(factors.unbind()))


def cancel_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Drops the gradients, so that the optimizer skips the parameters: neither update nor weight decay."""
    for parameter in parameters:
        parameter.grad = None


@contextmanager
def without_gradients(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """No gradients are computed for the parameters, so a backward pass ends above them; afterwards they are again."""
    frozen = [parameter for parameter in parameters if parameter.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
