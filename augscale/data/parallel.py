"""Work on many images in threads: results in order, a bounded number in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

MAX_WORKERS = 32
_IN_FLIGHT = 4 * MAX_WORKERS

T = TypeVar("T")
R = TypeVar("R")


def num_workers() -> int:
    """Cores that this process may use, at most MAX_WORKERS: each thread may hold one large decoded image."""
    if hasattr(os, "sched_getaffinity"):
        return min(MAX_WORKERS, len(os.sched_getaffinity(0)))
    return min(MAX_WORKERS, os.cpu_count() or 1)


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
