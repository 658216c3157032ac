"""Starts the worker processes of a search, watches them, and lets them save when they are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import augscale
from augscale.errors import InterruptedRun, StudyError
from augscale.records.worker import WorkerRecord, worker_file
from augscale.runs.folders import RunFolder
from augscale.searching.study import stopped_file
from augscale.system.devices import WorkerPlan
from augscale.system.memory import available_memory
from augscale.system.signals import StopFlag, held_back, stop_signal_of

POLL_SECONDS = 0.5
STOP_SECONDS = 25.0
"""Time to save after SIGTERM. Workers that need longer are killed, and their trials continue from an older checkpoint.
SLURM kills 30 s after its signal."""
RESTARTS_PER_WORKER = 2
SHARE_OF_FREE_MEMORY = 0.9
"""Share of the host's free memory that the workers may use; the rest is for this and other processes."""


@dataclass
class _Slot:
    """A place for a worker: its present process, and how often it was started again."""

    device: str
    process: subprocess.Popen[bytes]
    restarts: int = 0


def supervise(
    run: RunFolder,
    plan: WorkerPlan,
    *,
    deadline: float | None,
    on_poll: Callable[[], None],
    environment: Mapping[str, str] | None = None,
) -> None:
    """Runs the workers until all have ended.

    Args:
        run: a prepared run folder.
        plan: devices and threads.
        deadline: seconds since the epoch; passed on to the workers.
        on_poll: called about twice a second.
        environment: variables that the workers get besides this process's own.
    Raises:
        InterruptedRun: a stop signal came, here or to a worker; the workers have saved and ended.
        StudyError: a worker ended with an error of its own; its last line is in the message.
    """
    plan = replace(plan, free_memory=plan.free_memory or _free_memory(plan))
    extra, stop = dict(environment or {}), StopFlag()
    with stop.listening():
        slots = [
            _Slot(device=device, process=_start(run, plan, index, deadline, extra))
            for index, device in enumerate(plan.devices)
        ]
        try:
            while any(slot.process.poll() is None for slot in slots):
                on_poll()
                if number := _asked_to_stop(stop, slots):
                    raise _interrupted(run, number, _stop(run, [slot.process for slot in slots]))
                for index, slot in enumerate(slots):
                    _restart_if_killed(run, plan, slot, index, deadline, extra)
                _wait_for_end(slots)
            on_poll()
            if number := _asked_to_stop(stop, slots):
                raise _interrupted(run, number, killed=0)
        finally:
            _stop(run, [slot.process for slot in slots])
    failed = [(index, slot) for index, slot in enumerate(slots) if slot.process.returncode != 0]
    if failed:
        index, slot = failed[0]
        raise StudyError(f"worker {index} ended with code {slot.process.returncode}: {_last_line(run, index)}")


def _asked_to_stop(stop: StopFlag, slots: list[_Slot]) -> int | None:
    """The stop signal that this process or a worker received; a batch system may send it to any of them.

    A worker that obeyed the signal has ended and is not started again.
    """
    if stop():
        return stop.signal_number
    return next((number for slot in slots if (number := stop_signal_of(slot.process.poll()))), None)


def _free_memory(plan: WorkerPlan) -> int | None:
    """Bytes for each worker on a CPU, measured before any worker runs; workers on a GPU measure its memory."""
    free = available_memory() if set(plan.devices) == {"cpu"} else None
    return None if free is None else int(SHARE_OF_FREE_MEMORY * free / len(plan.devices))


def _start(
    run: RunFolder, plan: WorkerPlan, index: int, deadline: float | None, extra: dict[str, str]
) -> subprocess.Popen[bytes]:
    # -P: files of the working folder must not replace modules, as a user's `queue.py` would with -m alone.
    command = [sys.executable, "-P", "-m", "augscale", "worker", str(run.path), "--device", plan.devices[index]]
    command += ["--threads", str(plan.threads), "--num-workers", str(len(plan.devices))]
    command += ["--supervised-by", str(os.getpid())]
    command += ["--sharing", str(plan.devices.count(plan.devices[index]))]
    if plan.free_memory is not None:
        command += ["--free-memory", str(plan.free_memory)]
    if deadline is not None:
        command += ["--deadline", f"{deadline:.3f}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(plan.threads), "PYTHONUNBUFFERED": "1"} | _module_path() | extra
    with open(run.workers_dir / f"{index}.log", "ab") as log, held_back():
        # In a session of its own, so that Ctrl-C reaches the supervisor only, which tells the workers to save.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    run.log("worker started", pid=process.pid, device=plan.devices[index])
    return process


def _module_path() -> dict[str, str]:
    """PYTHONPATH with the folder of this package, unless it is installed where Python looks anyway."""
    folder = str(Path(augscale.__file__).parents[1])
    if folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        return {}
    return {"PYTHONPATH": os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])}


def _restart_if_killed(
    run: RunFolder, plan: WorkerPlan, slot: _Slot, index: int, deadline: float | None, extra: dict[str, str]
) -> None:
    """Restarts a worker that a signal killed, e.g. because memory ran out, but not one that ended by itself."""
    code = slot.process.poll()
    if code is not None and code < 0 and slot.restarts < RESTARTS_PER_WORKER:
        slot.restarts += 1
        run.log("worker restarted", worker=index, killed_by_signal=-code)
        slot.process = _start(run, plan, index, deadline, extra)


def _wait_for_end(slots: list[_Slot]) -> None:
    """Waits until the next poll, or until a worker has ended."""
    running = next((slot.process for slot in slots if slot.process.poll() is None), None)
    if running is not None:
        with suppress(subprocess.TimeoutExpired):
            running.wait(timeout=POLL_SECONDS)


def _stop(run: RunFolder, processes: list[subprocess.Popen[bytes]]) -> int:
    """Lets the workers save and end; returns how many were killed because they took too long."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    end, killed = time.monotonic() + STOP_SECONDS, 0
    for process in processes:
        try:
            process.wait(timeout=max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            killed += 1
            process.kill()
            process.wait()
            doing = WorkerRecord.read_if_there(worker_file(run, process.pid))
            if doing and doing.phase == "search" and doing.number is not None:
                stopped_file(run, doing.number).touch()
    return killed


def _interrupted(run: RunFolder, number: int, killed: int) -> InterruptedRun:
    name = signal.Signals(number).name
    saved = "running trials are saved"
    if killed:
        saved += f" except {killed} whose worker took too long, which continue from an older state"
    return InterruptedRun(f"stopped by {name}; {saved}, the same command continues {run.path}", number)


def _last_line(run: RunFolder, index: int) -> str:
    try:
        lines = (run.workers_dir / f"{index}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return "no output"
    return lines[-1] if lines else "no output"
