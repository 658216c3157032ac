import os
import signal
import subprocess
import sys
import time

import pytest

from augscale.system import signals
from augscale.system.signals import STOP_SIGNALS, StopFlag, held_back, stop_signal_of

ANSWER = """
import os, signal, time
from augscale.system.signals import *
{}
stop_until_ready()
{}
print("went on")
"""


def test_a_worker_stops_when_its_supervisor_is_gone_also_before_it_could_ask():
    """Its parent is then another process from the start; comparing with the parent at start-up would see no change."""
    assert not StopFlag(parent=os.getppid())()
    assert not StopFlag()()
    orphan = StopFlag(parent=os.getpid())
    assert orphan()
    assert orphan.signal_number == 15


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_every_stop_signal_sets_the_flag_and_handlers_are_put_back(number):
    before = signal.getsignal(number)
    stop = StopFlag()
    with stop.listening():
        os.kill(os.getpid(), number)
        assert stop()
    assert stop.signal_number == number
    assert signal.getsignal(number) == before


def test_the_first_signal_counts_and_is_told_once():
    told = []
    stop = StopFlag()
    stop.on_stop = lambda: told.append(stop.signal_number)
    with stop.listening():
        for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM):
            os.kill(os.getpid(), number)
    assert stop.signal_number == signal.SIGUSR1
    assert told == [signal.SIGUSR1]


def test_what_another_program_does_with_sigusr1_stays(monkeypatch):
    """submitit, say, has its job queued again by it."""
    theirs = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: theirs.append(number))
    try:
        with StopFlag().listening() as stop:
            os.kill(os.getpid(), signal.SIGUSR1)
        assert (theirs, stop()) == ([signal.SIGUSR1], False)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_that_comes_too_late_for_one_stage_of_a_program_stops_the_next(monkeypatch):
    monkeypatch.setattr(signals, "_program", signals._Program())
    signals._program.ours = True
    with StopFlag().listening():
        os.kill(os.getpid(), signal.SIGUSR2)  # its work ends, and does not look again
    with StopFlag().listening() as later:
        assert later()
    assert later.signal_number == signal.SIGUSR2
    monkeypatch.setattr(signals, "_program", signals._Program())
    with StopFlag().listening() as other:
        assert not other()


@pytest.mark.parametrize(("code", "number"), [
    (None, None), (0, None), (1, None), (6, None), (138, signal.SIGUSR1), (-10, signal.SIGUSR1), (140, signal.SIGUSR2),
    (143, signal.SIGTERM), (130, signal.SIGINT), (-9, None), (137, None), (-11, None),
])  # fmt: skip
def test_how_a_process_ended_says_whether_it_was_asked_to_stop(code, number):
    """SIGKILL does not: the out-of-memory killer's is like any other."""
    assert stop_signal_of(code) == number


def _ended(before: str, after: str, *, send: signal.Signals | None = None) -> tuple[int, str]:
    with held_back():
        process = subprocess.Popen(
            [sys.executable, "-c", ANSWER.format(before, after)], stdout=subprocess.PIPE, text=True
        )
    if send is not None:
        os.kill(process.pid, send)
    return process.wait(timeout=60), process.communicate()[0]


def test_a_signal_before_there_is_a_handler_waits_for_it():
    """It came while the interpreter started: by default it would have killed, as if the worker had died."""
    code, said = _ended("time.sleep(0.2)", "time.sleep(20)", send=signal.SIGUSR1)
    assert (code, said) == (138, "")


def test_signals_while_a_program_imports_end_it_at_once_and_the_second_changes_nothing():
    first, second = (f"os.kill(os.getpid(), signal.{name})" for name in ("SIGUSR2", "SIGTERM"))
    code, said = _ended("pass", f"try: {first}; time.sleep(20)\nfinally: {second}")
    assert (code, said) == (140, "")


def test_the_command_line_ends_with_the_code_of_a_signal_that_came_early():
    with held_back():
        process = subprocess.Popen(
            [sys.executable, "-m", "augscale", "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    start = time.monotonic()
    os.kill(process.pid, signal.SIGUSR1)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 138
    assert errors == "augscale: stopped by SIGUSR1; finished work is kept, and the same command continues\n"
    assert time.monotonic() - start < 30
