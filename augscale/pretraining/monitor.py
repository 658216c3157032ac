"""Measurements that do not make steps wait for the device: statistics, a check of the loss, and times."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from augscale.pretraining.distributed import DistributedContext


def means_over(parts: Sequence[dict[str, Tensor]], context: DistributedContext) -> dict[str, Tensor]:
    """Means of statistics over equal parts of all processes; those of a single part are returned as they are.

    Args:
        parts: statistics of every part of this process, float32 of the same names and shapes.
        context: the processes, which need a single all-reduce.
    """
    if len(parts) == 1 and context.is_single:
        return parts[0]
    first = parts[0]
    rows = torch.stack([torch.cat([part[name].reshape(-1) for name in first]) for part in parts])
    flat = context.all_reduce_mean(rows.mean(dim=0))
    means = flat.split([tensor.numel() for tensor in first.values()])
    return {name: mean.view(first[name].shape) for name, mean in zip(first, means, strict=True)}


class LossCheck:
    """Keeps, on the device, the first loss that was not finite, so that no step has to wait for the device."""

    def __init__(self, device: torch.device) -> None:
        self._bad = torch.tensor([math.inf, 0.0], device=device)
        self._loss = torch.zeros((), device=device)

    def add(self, loss: Tensor, step: int) -> None:
        here = torch.stack([torch.full_like(loss, step), loss])
        seen = self._bad[0].isfinite()
        self._bad = torch.where(loss.isfinite() | seen, self._bad, here)
        self._loss = loss

    def first_bad(self) -> tuple[int, float] | None:
        """(step, loss); waits for the device."""
        step, loss = self._bad.tolist()
        return None if math.isinf(step) else (int(step), loss)

    def last(self) -> float:
        return float(self._loss)


class Clock:
    """Seconds by part of a step; on a GPU measured by CUDA events, because it lags behind the program.

    The events are read in `settle`, after the program has waited for the GPU; "training" is the time between the parts.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._marks: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._mark = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts the time inside the block. Rungs and saving wait for a GPU, so the program's clock measures them."""
        if self._on_gpu and name not in ("rungs", "state"):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            try:
                yield
            finally:
                end.record()
                self._marks.append((name, begin, end))
            return
        start = time.perf_counter()
        try:
            yield
        finally:
            now = time.perf_counter()
            self._add(name, now - start)
            self._mark = now

    def add_mean(self, others: Sequence[Clock]) -> None:
        """Adds the mean of the clocks of several threads that worked at the same time."""
        for other in others:
            for name, seconds in other.seconds.items():
                self._add(name, seconds / len(others))

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Leaves out the time inside the block; on a GPU, enter it only after waiting for the device."""
        seconds = dict(self.seconds)
        try:
            yield
        finally:
            self.seconds = seconds
            self._marks.clear()
            self._mark = time.perf_counter()

    def settle(self) -> None:
        """Counts the time since the last call; on a GPU, call it only after waiting for the device."""
        if not self._on_gpu:
            return
        now = time.perf_counter()
        rest = now - self._mark
        for name, begin, end in self._marks:
            seconds = begin.elapsed_time(end) / 1e3
            self._add(name, seconds)
            rest -= seconds
        self._add("training", max(0.0, rest))
        self._marks.clear()
        self._mark = now

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
