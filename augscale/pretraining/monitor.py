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
    """Seconds by part: of the program on a CPU, of the device's own timeline on a GPU, which works behind its back.

    A GPU's are known when it has been waited for (`settle`); "training" is then what lies between the parts.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._marks: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._mark = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts what happens within; on a GPU rungs and saving, which wait for it, by the program's own clock."""
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

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def add_mean(self, others: Sequence[Clock]) -> None:
        """Adds what clocks of several threads have counted at the same time, on average."""
        for other in others:
            for name, seconds in other.seconds.items():
                self._add(name, seconds / len(others))

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """For work that is no part of training; on a GPU entered when it has been waited for."""
        seconds = dict(self.seconds)
        try:
            yield
        finally:
            self.seconds = seconds
            self._marks.clear()
            self._mark = time.perf_counter()

    def settle(self) -> None:
        """Called when a GPU has been waited for: counts the stretch since the last call; "training" is what is left."""
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
