"""CPU seconds of a search outside its training runs: imports, preparation, start of a worker, answer, contact sheets.

    python -m benchmarks.search_start --trials 6 --set confirm.seeds=1
    python -m benchmarks.search_start --trials 6 --set confirm.seeds=1 --steps-of-default 5220 --wall-of-default 480

A search with one worker runs with an empty cache of images, its display as on a terminal. Functions of this process are
timed without those timed functions that they call; workers are child processes. `--steps-of-default` scales what was
measured to a search of so many training steps and two workers: computed, not measured. `benchmarks.search_time` has the
wall time of a finished search, part by part.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.live import Live

import augscale
from augscale.cli.options import parse_assignments
from augscale.config import load_study
from augscale.runs.folders import RunFolder
from augscale.searching import session
from augscale.searching.display import render
from augscale.searching.progress import read_progress
from augscale.searching.read_run import read_run
from augscale.searching.trial import build_context
from augscale.system.devices import cpu_cores
from benchmarks.machine import cpu_name
from benchmarks.run_times import confirmation_records, read_run_times, steps_done, trial_records
from benchmarks.waiting_parts import Timers, patch_parts

PARTS = {
    "check the study": ("augscale.searching.search:check_study",),
    "make or decode the images": ("augscale.searching.prepare:build_cache",),
    "check the images": ("augscale.searching.prepare:check_images",),
    "rest of the preparation": ("augscale.searching.search:prepare_run",),
    "storage": ("augscale.searching.search:begin_study",),
    "answer": ("augscale.searching.session:write_answer", "augscale.searching.session:write_trials_table"),
    "contact sheets": ("augscale.reporting.search.report:_contact_sheets",),
    "report": ("augscale.reporting.search.report:write_report",),
}
IMPORTS = """
from augscale.system.startup import lasting_imports
import augscale.cli.app
with lasting_imports():
    import augscale.searching.search, augscale.networks.backbones, augscale.pretraining.methods
"""
"""What the command itself imports before it prepares a run, and in the same way."""
WORKERS_OF_DEFAULT = 2
_CALLS = 20


@dataclass(kw_only=True)
class Waiting:
    """What `supervise` cost: this process, which watches and draws, and its workers."""

    own: float = 0.0
    workers: float = 0.0
    wall: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """CPU seconds of one search, and what it trained."""

    once: dict[str, float]
    """Parts that a search has once, whatever its length."""
    per_worker: dict[str, float]
    """Parts that each worker has."""
    waiting: Waiting
    untrained: float
    """Wall seconds of scoring networks before training, from the run's log."""
    steps: int
    """Of all trainings."""
    reading: float
    """CPU seconds of one reading of the run's state at its end."""
    drawing: float
    """CPU seconds of one drawing of the live table."""

    @property
    def seconds_per_step(self) -> float:
        """Of all that workers do after their start, scoring, claims and networks before training included."""
        return (self.waiting.workers - sum(self.per_worker.values())) / self.steps


def main() -> None:
    arguments = _arguments()
    os.environ |= {"OMP_NUM_THREADS": "1"}
    print(f"{cpu_name()}, {cpu_cores()} cores")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["AUGSCALE_CACHE"] = f"{scratch}/cache"
        found = measure(arguments, RunFolder(arguments.out or Path(scratch) / "run"))
    for line in table(found, arguments.steps_of_default, arguments.wall_of_default):
        print(line)


def measure(arguments: argparse.Namespace, run: RunFolder) -> Measured:
    """One search with one worker in an empty run folder."""
    timers, waiting = Timers(), Waiting()
    with ExitStack() as stack, open(os.devnull, "w", encoding="utf-8") as nowhere:
        patch_parts(stack, timers, PARTS)
        stack.enter_context(patch.object(session, "supervise", _watched(session.supervise, waiting)))
        augscale.search(
            arguments.study,
            trials=arguments.trials,
            workers=1,
            device="cpu",
            out=run.path,
            overrides=parse_assignments(arguments.set or []),
            console=Console(file=nowhere, force_terminal=True, width=100),
        )
    records = [*trial_records(run), *confirmation_records(run)]
    start = time.process_time()
    build_context(run, load_study(run.study_file), "cpu")
    context = time.process_time() - start
    reading, drawing = watching_costs(run)
    return Measured(
        once={"imports of the command": child_seconds([sys.executable, "-c", IMPORTS])}
        | {name: spent.seconds for name, spent in timers.parts.items()},
        per_worker={"start and end of a worker, imports": _worker_start(run), "images and panel of a worker": context},
        waiting=waiting,
        untrained=read_run_times(run).outside.get("scoring untrained networks", 0.0),
        steps=sum(steps_done(record) for record in records),
        reading=reading,
        drawing=drawing,
    )


def watching_costs(run: RunFolder) -> tuple[float, float]:
    """CPU seconds of one reading of a run's state, and of one drawing of it on a terminal of 100 columns."""
    _, config, study = read_run(run.path)
    progress = read_progress(run, config, study)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(file=nowhere, force_terminal=True, width=100)
        with Live(console=console, auto_refresh=False) as live:
            live.update(render(progress, 1.0))
            drawing = _seconds(live.refresh)
    return _seconds(lambda: read_progress(run, config, study)), drawing


def table(found: Measured, steps: int | None, wall: float | None) -> list[str]:
    """Lines of Markdown.

    Args:
        found: of a short search.
        steps: training steps of the search that the shares are computed for; None: of the measured one.
        wall: its wall seconds, in which this process watches; None: those measured.
    """
    workers = WORKERS_OF_DEFAULT if steps else 1
    steps, wall = steps or found.steps, wall or found.waiting.wall
    parts = found.once | {name: seconds * workers for name, seconds in found.per_worker.items()}
    parts["watching and display"] = found.waiting.own / found.waiting.wall * wall
    outside, trained = sum(parts.values()), found.seconds_per_step * steps
    lines = [
        f"{found.steps} steps, {found.seconds_per_step:.3f} CPU s each with all that workers do between start and "
        f"end (networks before training: {found.untrained:.1f} s of wall time)",
        f"one reading of the run's state {1000 * found.reading:.1f} ms, one drawing of the table "
        f"{1000 * found.drawing:.1f} ms of CPU time; busy cores draw less often",
        f"shares of a search of {steps} steps by {workers} worker(s) in {wall:.0f} s",
        "",
        "| part | CPU s measured | of the search | share |",
        "|---|---|---|---|",
    ]
    measured = found.once | found.per_worker | {"watching and display": found.waiting.own}
    for name, seconds in parts.items():
        lines.append(f"| {name} | {measured[name]:.2f} | {seconds:.2f} | {100 * seconds / (outside + trained):.2f} % |")
    lines.append(f"| all of these | | {outside:.1f} | {100 * outside / (outside + trained):.2f} % |")
    return [*lines, f"| training runs | | {trained:.0f} | {100 * trained / (outside + trained):.1f} % |"]


def child_seconds(command: list[str]) -> float:
    """CPU seconds of a child process, from its start to its end.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    before = _children()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return _children() - before


def _worker_start(run: RunFolder) -> float:
    """Of a worker whose budget has ended before its start: it imports all and ends."""
    command = [sys.executable, "-P", "-m", "augscale", "worker", str(run.path), "--device", "cpu", "--threads", "1"]
    return child_seconds([*command, "--supervised-by", str(os.getpid()), "--deadline", "1"])


def _watched(supervise: Any, waiting: Waiting) -> Any:
    def watched(*args: Any, **kwargs: Any) -> None:
        own, children, start = time.process_time(), _children(), time.perf_counter()
        supervise(*args, **kwargs)
        waiting.own += time.process_time() - own
        waiting.workers += _children() - children
        waiting.wall += time.perf_counter() - start

    return watched


def _seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    for _ in range(_CALLS):
        call()
    return (time.process_time() - start) / _CALLS


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="default")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--set", action="append", help="any setting of the study, KEY=VALUE")
    parser.add_argument("--out", type=Path, help="a new run folder, which is kept; temporary if not given")
    parser.add_argument("--steps-of-default", type=int, help="training steps of the search to compute shares of")
    parser.add_argument("--wall-of-default", type=float, help="its wall seconds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
