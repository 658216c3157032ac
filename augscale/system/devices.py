"""Devices, transfer of arrays to them, and how many workers a machine can feed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from augscale.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import Tensor

MAX_CPU_WORKERS = 8
"""Default limit of CPU workers: with more parallel trials, TPE is hardly better than random."""


@dataclass(frozen=True, kw_only=True)
class WorkerPlan:
    """One device per worker, and the CPU threads of each."""

    devices: tuple[str, ...]
    threads: int
    free_memory: int | None = None
    """Bytes of main memory for each worker on a CPU; None if not measured."""

    def __str__(self) -> str:
        workers, threads = len(self.devices), self.threads
        counts = f"{workers} worker{'s' * (workers > 1)}, {threads} thread{'s' * (threads > 1)} each"
        return f"{', '.join(sorted(set(self.devices)))} ({counts})"


def cpu_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _wanted_threads() -> int:
    """OMP_NUM_THREADS if it is a number, else all cores."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(text)) if text.isdigit() else cpu_cores()


def resolve_device(device: str) -> str:
    """The device that "auto" stands for, or the given one after a check.

    Raises:
        ConfigError: no such device here.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"--device {device}: expected auto, cpu, cuda or cuda:N") from None
    if kind.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {device}: expected auto, cpu, cuda or cuda:N")
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def plan_workers(device: str, workers: int | None, trials: int) -> WorkerPlan:
    """One worker per GPU; on a CPU one one-thread worker per core, which beats one worker with all threads.

    Args:
        device: "auto", "cpu", "cuda" (all GPUs) or "cuda:N" (one).
        workers: number of workers; None for the default.
        trials: upper limit of workers.
    """
    import torch

    kind = resolve_device(device)
    pool = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if kind == "cuda" else [kind]
    if workers is None:
        workers = min(cpu_cores(), MAX_CPU_WORKERS) if kind == "cpu" else len(pool)
    workers = max(1, min(workers, trials))
    return WorkerPlan(
        devices=tuple(pool[index % len(pool)] for index in range(workers)),
        threads=min(max(1, cpu_cores() // workers), _wanted_threads()),
    )


def to_device(array: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """A host array on the device. The copy to a GPU is asynchronous, from pinned memory: the host does not wait."""
    import numpy as np
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A cached tensor of constants; it must not be changed in place.

    Returns:
        float32, shape (len(values),), on the device.
    """
    import torch

    return torch.tensor(values, device=device)
