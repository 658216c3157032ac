"""What a run watches without making its steps wait: whether the loss is finite, and where the time goes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class LossCheck:
    """Remembers on the device the first loss that was not finite, so that steps need not wait for each other."""

    def __init__(self, device: torch.device) -> None:
        self._bad = torch.tensor([math.inf, 0.0], device=device)
        self._loss = torch.zeros((), device=device)

    def add(self, loss: Tensor, step: int) -> None:
        here = torch.stack([torch.full_like(loss, step), loss])
        seen = self._bad[0].isfinite()
        self._bad = torch.where(loss.isfinite() | seen, self._bad, here)
        self._loss = loss

    def first_bad(self) -> tuple[int, float] | None:
        """(step, loss), exact on every device; waits for the device."""
        step, loss = self._bad.tolist()
        return None if math.isinf(step) else (int(step), loss)

    def last(self) -> float:
        return float(self._loss)


class Clock:
    """Wall-clock seconds by part. A GPU works behind the program's back, so there only whole stretches are timed."""

    def __init__(self, device: torch.device) -> None:
        self._by_part = device.type == "cpu"
        self._mark = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            now = time.perf_counter()
            if self._by_part or name in ("rungs", "state"):
                self.seconds[name] = self.seconds.get(name, 0.0) + now - start
                self._mark = now

    def add_mean(self, others: Sequence[Clock]) -> None:
        """Adds what clocks of several threads have counted at the same time, on average."""
        for other in others:
            for name, seconds in other.seconds.items():
                self.seconds[name] = self.seconds.get(name, 0.0) + seconds / len(others)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """For work that is no part of training."""
        seconds = dict(self.seconds)
        try:
            yield
        finally:
            self.seconds = seconds
            self._mark = time.perf_counter()

    def settle(self) -> None:
        """Called when the device has been waited for: counts the stretch since the last call as training."""
        if not self._by_part:
            now = time.perf_counter()
            self.seconds["training"] = self.seconds.get("training", 0.0) + now - self._mark
            self._mark = now
