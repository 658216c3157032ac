"""Several CPU cores at work on one step: each thread does a part of the batch from end to end.

torch by itself gives every operation to all threads, which wait for each other hundreds of times per step and share out
small operations badly. Parts of the batch need not wait before their gradients are added up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

T = TypeVar("T")


class Cores:
    """The threads of this process, for work that may be cut into parts.

    Args:
        divide: whether the work may be cut; if not, or where torch does not run its operations on OpenMP's threads
            (whose number is then not each thread's own), all of it is one part.
    """

    def __init__(self, divide: bool) -> None:
        divide = divide and "ATen parallel backend: OpenMP" in torch.__config__.parallel_info()
        self.num_threads = torch.get_num_threads() if divide else 1
        self._pool: ThreadPoolExecutor | None = None

    def num_parts(self, images: int) -> int:
        """Into how many equal parts some images are cut: as many as leave all threads with equal work."""
        return math.gcd(self.num_threads, images)

    def map(self, work: Callable[[int], T], num_parts: int) -> list[T]:
        """Does all parts at the same time.

        Args:
            work: of a part's number. torch's grad mode and autocast are each thread's own: they are at their defaults.
            num_parts: from `num_parts`.
        Returns:
            What `work` returns, in the order of the parts. What it raises is raised here after all parts have ended.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="augscale-part")

        def alone(number: int) -> T:
            torch.set_num_threads(self.num_threads // num_parts)
            return work(number)

        try:
            running = [self._pool.submit(alone, number) for number in range(num_parts)]
            wait(running)
        finally:
            # MKL counts its threads for the whole process.
            torch.set_num_threads(self.num_threads)
        return [part.result() for part in running]
