"""The time of a worker by phase; logged when the worker ends, read by `benchmarks.search_time`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OTHER = "other"


class PhaseClock:
    """Wall-clock seconds by phase. Time counts for the innermost phase, so the phases add up to the whole.

    Args:
        clock: seconds since any moment, rising.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase, self._since = OTHER, clock()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the time within for `name`, and the time after it for the outer phase again."""
        outer = self._phase
        self._turn_to(name)
        try:
            yield
        finally:
            self._turn_to(outer)

    def seconds(self) -> dict[str, float]:
        """Seconds by phase up to now, rounded to milliseconds; "other" is the time outside of all phases."""
        self._turn_to(self._phase)
        return {name: round(value, 3) for name, value in self._seconds.items()}

    def _turn_to(self, name: str) -> None:
        now = self._clock()
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = name, now
