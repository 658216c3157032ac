"""torch.compile for what a GPU does between its matrix products, where it waits for memory more than it computes.

Compiled are functions of which networks and tensors are arguments, not networks: a search pays once per worker and not
once per trial, and nothing that a trial varies is compiled in. Shapes are: those of a run are few.
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
"""Of a run that compiles by itself: at the paper's setting compiling takes as long as it saves in about so many."""
_MOST_VERSIONS = 64
"""Of one function. A ViT's block needs 6 (first or not, student's two crop sizes, teacher), and 6 more whenever a step
that ran out of memory is done again in smaller parts; beyond torch's default of 8 it would run uncompiled."""


@functools.cache
def compiled_version(function: F) -> F:
    """A function as torch compiles it, anew for every shape: those of a run are few, and fixed ones run faster."""
    import torch._dynamo.config as settings

    settings.recompile_limit = max(settings.recompile_limit, _MOST_VERSIONS)
    return torch.compile(function, dynamic=False)  # type: ignore[return-value]


def resolve_compile(setting: str, device: torch.device, steps: int) -> bool:
    """Whether a run compiles.

    Args:
        setting: "always", "never", or "auto": on a GPU where torch can compile, and in runs long enough to gain by it.
        device: of the run. On a CPU nothing is ever compiled: it gains nothing there (docs/experiments.md).
        steps: of the run.
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
    """What keeps torch from compiling for a device, in one line, None where nothing does: it is tried on a trifle."""
    try:
        compiled_version(_trifle)(torch.ones(2, device=device))
    except Exception as error:  # of dynamo, inductor, Triton, the C compiler: whatever it is, runs go on without
        text = str(error).strip()
        return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
    return None


def _trifle(x: Tensor) -> Tensor:
    return (2 * x + 1).sum()
