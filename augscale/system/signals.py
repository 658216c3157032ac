"""Signals that ask to stop, as a flag that long work looks at between steps, so that it can save before it stops.

SIGUSR1 and SIGUSR2 are what batch systems send ahead of the end (SLURM's --signal=USR1@60, to every process of a step),
and mean the same as SIGTERM: save, stop, exit code 128 + number. A process has three times:

- before it is ready, while it imports: `stop_until_ready` ends it at once. What starts a process holds signals back for
  it (`held_back`), so that none is lost, or kills, before there is a handler;
- while `StopFlag.listening`: the flag is set, and the work saves and stops;
- on its way out: a second signal changes nothing.
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
"""What another program that calls augscale may use for itself: its handlers stay."""


class _Program:
    """What holds for the whole process where the command line is the program, and not another that calls augscale."""

    def __init__(self) -> None:
        self.ours = False
        self.leaving = False
        """A stop signal is being obeyed: further ones change nothing."""
        self.unserved: int | None = None
        """A signal that came too late for the work that listened; the next work obeys it."""


_program = _Program()


class StoppedEarly(SystemExit):
    """A stop signal came while no work listened; not an Exception, so that no library takes it for a failed import."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)

    def __str__(self) -> str:
        name = signal.Signals(int(str(self.code)) - 128).name
        return f"stopped by {name}; what was finished is kept, the same command goes on"


class StopFlag:
    """Set by a stop signal, or when the supervisor that started this worker is gone.

    Args:
        parent: the supervisor's process id, from itself: it may be gone before this process can ask.
    """

    def __init__(self, *, parent: int | None = None) -> None:
        self.signal_number: int | None = None
        """The first that came."""
        self.on_stop: Callable[[], Any] | None = None
        """Called once, at the moment when the flag is set; short."""
        self._parent = parent

    def install(self) -> None:
        """Takes the stop signals over for the rest of the process; those that another program handles itself stay."""
        for number in STOP_SIGNALS:
            if not _is_anothers(number):
                signal.signal(number, self._set)
        if _program.unserved is not None:
            self._note(_program.unserved)
            _program.unserved = None

    @contextmanager
    def listening(self) -> Iterator[StopFlag]:
        """Installed for a while; in a thread, where Python hands out no signals, never set by one."""
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
    """For a program's first line: until some work listens, a stop signal ends the process with 128 + its number.

    SIGINT is left to Python, whose KeyboardInterrupt does the same.
    """
    _program.ours = True
    for number in STOP_SIGNALS:
        if number != signal.SIGINT and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _leave)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def hold_back() -> set[int] | None:
    """Keeps stop signals waiting, in this thread and in what it starts or becomes, until `stop_until_ready` there.

    Returns:
        What was held back before; None where the system cannot.
    """
    if not hasattr(signal, "pthread_sigmask"):
        return None
    return signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


@contextmanager
def held_back() -> Iterator[None]:
    """For the start of another process: it inherits that stop signals wait, and this one gets them afterwards."""
    before = hold_back()
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_further() -> None:
    """For a process that has obeyed a signal: the next one does not change its exit code while Python shuts down."""
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def stop_signal_of(code: int | None) -> int | None:
    """The stop signal that a process ended by, whether it obeyed (128 + number) or was too young to (-number).

    Args:
        code: as `subprocess` gives it; None while it runs.
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
        return True  # of a library that is not Python's: it could not be put back
    ours = handler in (signal.SIG_DFL, _leave) or isinstance(getattr(handler, "__self__", None), StopFlag)
    return number.name in _OWN_MEANING and not ours
