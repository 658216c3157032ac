"""SIGINT and SIGTERM as a flag that long work looks at between steps, so that it can save before it stops."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopFlag:
    """Set by SIGINT or SIGTERM, or when the supervisor that started this worker is gone.

    Args:
        parent: the supervisor's process id, from itself: it may be gone before this process can ask.
    """

    def __init__(self, *, parent: int | None = None) -> None:
        self.signal_number: int | None = None
        self._parent = parent

    def install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._set)

    @contextmanager
    def listening(self) -> Iterator[StopFlag]:
        """Installed for a while; in a thread, where Python hands out no signals, never set by one."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.install()
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def __call__(self) -> bool:
        if self.signal_number is None and self._parent not in (None, os.getppid()):
            self.signal_number = signal.SIGTERM
        return self.signal_number is not None

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
