"""Processes many images in threads, with results in order and a bounded number in memory, and counts progress."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import TypeVar

from augscale.data.image_records import ImageRecord
from augscale.system.devices import cpu_cores

MAX_WORKERS = 32
_IN_FLIGHT = 4 * MAX_WORKERS

T = TypeVar("T")
R = TypeVar("R")


def num_workers() -> int:
    """Cores that this process may use, at most MAX_WORKERS: each thread may hold one large decoded image."""
    return min(MAX_WORKERS, cpu_cores())


def map_in_order(pool: Executor, task: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`pool.map` with a bounded number of waiting results, and an empty queue when the consumer stops early."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(task, item))
            if len(waiting) >= _IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class Progress:
    """Converts steps into images done: a file takes two steps, read and decode; a built-in photograph takes one."""

    def __init__(self, records: Sequence[ImageRecord], report: Callable[[int, int], None] | None) -> None:
        self._report = report
        self._images = len(records)
        self._steps = len(records) + sum(record.path is not None for record in records)
        self._done = self._shown = 0

    def more(self, count: int) -> None:
        """Adds steps for files to be measured; the number shown never decreases."""
        self._steps += count

    def step(self, count: int = 1) -> None:
        self._done += count
        self._shown = max(self._shown, self._images * self._done // self._steps)
        if self._report is not None:
            self._report(self._shown, self._images)
