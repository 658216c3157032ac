"""Steps that run out of memory: how the error is recognized, and how the step is repeated.

A step can be repeated as long as no weight has changed. So everything that allocates comes before the update, AdamW's
moments included.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from augscale.errors import MemoryShortageError

T = TypeVar("T")

_MESSAGES = ("DefaultCPUAllocator: can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")
"""In errors other than torch.OutOfMemoryError: of the CPU's allocator, the CUDA driver, cuBLAS and cuDNN."""


def is_out_of_memory(error: BaseException) -> bool:
    """True for errors that say that a GPU's or the host's memory is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


def retry_out_of_memory(attempt: Callable[[], T], shrink: Callable[[str], None]) -> T:
    """Calls `attempt` until it does not run out of memory, and `shrink` with the error's first line in between.

    Other errors, and those of `shrink`, propagate.
    """
    while True:
        try:
            return attempt()
        except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
            if not is_out_of_memory(error):
                raise
            message = _first_line(error)
        # Outside the except clause, where the error's traceback would keep the tensors of the attempt alive.
        shrink(message)


@contextmanager
def not_repeatable() -> Iterator[None]:
    """Wraps the update, which should allocate nothing and cannot be repeated.

    Raises:
        MemoryShortageError: the update ran out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryShortageError(
            "out of memory within an update, which cannot be done again; the state saved before it is intact; expected "
            f"more micro-batches (--accumulate) or a lower --max-memory ({_first_line(error)})"
        ) from None


@contextmanager
def capped(device: torch.device, limit: int | None) -> Iterator[None]:
    """On a GPU: torch reports out of memory beyond `limit` bytes, CUDA's own context of some hundred MB not counted.

    On a CPU it does nothing: any limit there would also end other threads and libraries.
    """
    if device.type != "cuda" or limit is None:
        yield
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def drop_cached_memory(device: torch.device) -> None:
    """Frees what nothing refers to any more: reference cycles that an error left, and the CUDA allocator's cache."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@torch.no_grad()
def put_back(buffers: list[Tensor], before: list[Tensor]) -> None:
    """Copies the tensors of `before` into `buffers`, in place."""
    if buffers:
        torch._foreach_copy_(buffers, before)


@torch.no_grad()
def allocate_moments(optimizer: torch.optim.AdamW) -> None:
    """Makes AdamW's state of every parameter that has a gradient and no state yet, as AdamW itself would.

    During its step AdamW updates one parameter group before it allocates the state of the next, so running out of
    memory there would leave the step half done.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and not optimizer.state.get(parameter):
                optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                }


def _first_line(error: BaseException) -> str:
    """First line of the message; the error's type if there is none."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
