"""Data-parallel threads on a CPU: each runs the forward and backward pass of its own shard of a micro-batch.

torch by itself spreads every single operation over all threads, which then wait for each other hundreds of times per
step and divide small operations badly. Shards of a batch have to wait only once, to add up their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

T = TypeVar("T")


class DataParallelThreads:
    """The CPU threads of this process.

    Args:
        enabled: allows dividing a micro-batch. There is one shard if it is False, or if torch does not use OpenMP,
            which alone lets every thread set its own thread count.
    """

    def __init__(self, enabled: bool) -> None:
        enabled = enabled and "ATen parallel backend: OpenMP" in torch.__config__.parallel_info()
        self.num_threads = torch.get_num_threads() if enabled else 1
        self._pool: ThreadPoolExecutor | None = None

    def num_shards(self, num_images: int) -> int:
        """Largest number of equal shards of `num_images` for which all threads get the same work."""
        return math.gcd(self.num_threads, num_images)

    def map(self, work: Callable[[int], T], num_shards: int) -> list[T]:
        """Calls `work` with each shard's number, all at the same time.

        Grad mode and autocast belong to a thread and are at their defaults within `work`. An error of any shard is
        raised after all have ended.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="augscale-shard")

        def in_thread(shard: int) -> T:
            torch.set_num_threads(self.num_threads // num_shards)
            return work(shard)

        try:
            futures = [self._pool.submit(in_thread, shard) for shard in range(num_shards)]
            wait(futures)
        finally:
            # MKL keeps one thread count for the whole process.
            torch.set_num_threads(self.num_threads)
        return [future.result() for future in futures]
