"""Stop signals as a flag that long work checks between steps, so that it can save before it stops.

Batch systems send SIGUSR1 or SIGUSR2 ahead of the end (SLURM's --signal=USR1@60, to every process of a step); they mean
the same as SIGTERM: save, stop, exit with code 128 + number. A process goes through three phases:

- during imports, a signal ends the process at once (`stop_until_ready`). The parent blocks the signals until then
  (`held_back`), so that none is lost or kills the process before it has a handler;
- during `StopFlag.listening`, a signal sets the flag, and the work saves and stops;
- while the process ends, a second signal has no effect.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

STOP_SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if name in signal.Signals.__members__
)
"""Windows has no SIGUSR1 and SIGUSR2."""
_OWN_MEANING = ("SIGUSR1", "SIGUSR2")
"""Signals that a program which calls augscale may use for its own purposes; its handlers are kept."""


class _Program:
    """State of the whole process."""

    def __init__(self) -> None:
        self.ours = False
        """True if the process is the `augscale` command, not another program that calls augscale."""
        self.leaving = False
        """True while the process stops because of a signal; further signals have no effect."""
        self.unserved: int | None = None
        """A signal that came too late for the work that listened; it stops the next work."""


_program = _Program()


class StoppedEarly(SystemExit):
    """A stop signal came while no work listened. Not an Exception, which a library may take for a failed import."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)

    def __str__(self) -> str:
        name = signal.Signals(int(str(self.code)) - 128).name
        return f"stopped by {name}; finished work is kept, and the same command continues"


class StopFlag:
    """Set by a stop signal, or when the supervisor that started this worker is gone. Call it to read it.

    Args:
        parent: process id of the supervisor. The supervisor passes it, because it may end before this process can ask.
    """

    def __init__(self, *, parent: int | None = None) -> None:
        self.signal_number: int | None = None
        """Number of the first signal; None before it."""
        self.on_stop: Callable[[], Any] | None = None
        """Called once, when the flag is set; must be short."""
        self._parent = parent

    def install(self) -> None:
        """Handles the stop signals for the rest of the process, except those that another program handles itself."""
        for number in STOP_SIGNALS:
            if not _is_anothers(number):
                signal.signal(number, self._set)
        if _program.unserved is not None:
            self._note(_program.unserved)
            _program.unserved = None

    @contextmanager
    def listening(self) -> Iterator[StopFlag]:
        """Handles the stop signals inside the block; only in the main thread, to which Python delivers signals."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.getsignal(number) for number in STOP_SIGNALS if not _is_anothers(number)}
        self.install()
        try:
            yield self
        except BaseException:
            _program.leaving |= _program.ours and self.signal_number is not None
            raise
        else:
            if _program.ours and self.signal_number is not None:
                _program.unserved = self.signal_number
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def __call__(self) -> bool:
        if self.signal_number is None and self._parent not in (None, os.getppid()):
            self._note(signal.SIGTERM)
        return self.signal_number is not None

    def _set(self, number: int, frame: FrameType | None) -> None:
        self._note(number)

    def _note(self, number: int) -> None:
        if self.signal_number is None:
            self.signal_number = number
            if self.on_stop is not None:
                with suppress(OSError):
                    self.on_stop()


def stop_until_ready() -> None:
    """Until work listens, a stop signal ends the process with exit code 128 + its number.

    For a program's first line. SIGINT is left to Python, whose KeyboardInterrupt has the same effect.
    """
    _program.ours = True
    for number in STOP_SIGNALS:
        if number != signal.SIGINT and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _leave)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def hold_back() -> set[int] | None:
    """Blocks stop signals in this thread and in the processes that it starts or becomes, until `stop_until_ready`.

    Returns:
        The signals that were blocked before; None if the system cannot block signals.
    """
    if not hasattr(signal, "pthread_sigmask"):
        return None
    return signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


@contextmanager
def held_back() -> Iterator[None]:
    """Wraps the start of another process, which inherits the blocked signals; this process unblocks them afterwards."""
    before = hold_back()
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_further() -> None:
    """Ignores stop signals from now on, so that a second one does not change the exit code during Python's shutdown."""
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def stop_signal_of(code: int | None) -> int | None:
    """The stop signal that ended a process, by its exit code: 128 + number, or -number before it had a handler.

    Args:
        code: as in `subprocess`; None while the process runs.
    """
    number = None if code is None else -code if code < 0 else code - 128
    return number if number in STOP_SIGNALS else None


def _leave(number: int, frame: FrameType | None) -> None:
    if not (_program.leaving or sys.is_finalizing()):
        _program.leaving = True
        raise StoppedEarly(number)


def _is_anothers(number: signal.Signals) -> bool:
    handler = signal.getsignal(number)
    if handler is None:
        return True  # installed outside of Python: it could not be restored
    ours = handler in (signal.SIG_DFL, _leave) or isinstance(getattr(handler, "__self__", None), StopFlag)
    return number.name in _OWN_MEANING and not ours
