"""torch.compile for the operations between matrix products, which on a GPU are bound by memory bandwidth.

The compiled functions take networks and tensors as arguments; networks themselves are not compiled. So a search
compiles once per worker instead of once per trial, and the compiled code does not depend on what varies between trials.
Shapes are fixed, because a run has few.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from augscale.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

FEWEST_STEPS = 700
"""Shortest run, in steps, that `compile = "auto"` compiles; it pays off there at the paper's setting."""
_MOST_VERSIONS = 64
"""Limit of compiled versions of one function, beyond which torch runs it uncompiled; torch's default is 8. A ViT's
block needs 6 (first block or not; the student's two crop sizes and the teacher) for each size of micro-batch."""


@functools.cache
def compiled_version(function: F) -> F:
    """The function compiled by torch, once for every shape: fixed shapes run faster."""
    import torch._dynamo.config as settings

    settings.recompile_limit = max(settings.recompile_limit, _MOST_VERSIONS)
    return torch.compile(function, dynamic=False)  # type: ignore[return-value]


def resolve_compile(setting: str, device: torch.device, steps: int) -> bool:
    """Decides whether a run compiles.

    Args:
        setting: "always", "never", or "auto": if torch can compile here and the run is long enough to gain by it.
        device: device of the run. Nothing is compiled on a CPU, which gains nothing by it (docs/experiments.md).
        steps: length of the run.
    Raises:
        ConfigError: "always", and torch cannot compile here.
    """
    if setting == "never" or device.type == "cpu" or (setting == "auto" and steps < FEWEST_STEPS):
        return False
    reason = why_not(device)
    if reason is not None and setting == "always":
        raise ConfigError(
            f"pretrain.compile = 'always': torch cannot compile here ({reason}); expected 'auto' or 'never'"
        )
    if reason is not None:
        warnings.warn(f"torch cannot compile here ({reason}); training goes on without, more slowly", stacklevel=2)
    return reason is None


@functools.cache
def why_not(device: torch.device) -> str | None:
    """The error, in one line, of compiling a small function for the device; None if torch can compile."""
    try:
        compiled_version(_probe)(torch.ones(2, device=device))
    except Exception as error:  # of dynamo, inductor, Triton or the C compiler: runs continue uncompiled
        text = str(error).strip()
        return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
    return None


def _probe(x: Tensor) -> Tensor:
    return (2 * x + 1).sum()
