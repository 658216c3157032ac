"""The display of a running search: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from augscale.records.answer import FailureRecord
from augscale.records.worker import WorkerRecord
from augscale.searching.progress import OPEN, Progress, TrialLine
from augscale.system.progress_bar import decoding_bar, duration

ROWS_SHOWN = 12
DRAWINGS_PER_SECOND = 1
"""Of the live table. A drawing takes 7 to 9 ms of a core that trains, and the state it shows is read twice a second."""
NUMBERS_SHOWN = 8
STATE_STYLE = {"COMPLETE": "green", "PRUNED": "dim", "FAIL": "red", "RUNNING": "cyan", "PAUSED": "yellow"}

_LOCAL = "local %"
_COLUMNS: tuple[tuple[str, Literal["left", "right"], int], ...] = (
    ("trial", "left", 12),
    ("state", "left", 8),
    ("score", "right", 6),
    ("rungs", "right", 5),
    ("time", "right", 4),
    ("global %", "left", 7),
    (_LOCAL, "left", 7),
    ("jitter", "left", 6),
)
"""Name, side and least width; on 80 columns only the note is cut, which `trials.csv` has, too. Without local crops
their column is left out."""


class SearchDisplay:
    """Shows snapshots of a search: a live table on a terminal, one line per finished trial elsewhere."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console = console
        self.quiet = quiet
        self.deadline: float | None = None
        """End of the time budget in seconds since the epoch; None for no limit."""
        self._live: Live | None = None
        self._told: set[int] = set()
        self._confirmations_told = 0
        self._start = time.monotonic()

    @contextmanager
    def running(self) -> Iterator[SearchDisplay]:
        """Shows the live table within; plain output needs none."""
        if self.quiet or not self.console.is_terminal:
            yield self
            return
        with Live(console=self.console, refresh_per_second=DRAWINGS_PER_SECOND, transient=False) as self._live:
            yield self

    def say(self, text: str) -> None:
        """Prints one line; a terminal wraps it between words."""
        if not self.quiet:
            self.console.print(text, highlight=False, markup=False, soft_wrap=not self.console.is_terminal)

    def images(self) -> AbstractContextManager[Callable[[int, int], None] | None]:
        """A progress callback (done, total) for the decoding of images."""
        return decoding_bar(self.console, quiet=self.quiet)

    def update(self, snapshot: Progress) -> None:
        """Shows the newest snapshot."""
        if self.quiet:
            return
        if self._live is not None:
            self._live.update(render(snapshot, time.monotonic() - self._start, deadline=self.deadline))
            return
        for line in snapshot.trials:
            if line.state not in OPEN and line.number not in self._told:
                self._told.add(line.number)
                left = _left(snapshot, self.deadline)
                self.say(f"[{len(self._told)}/{snapshot.wanted}] {_ended_trial(line, snapshot)}{left}")
        if snapshot.confirmations_done > self._confirmations_told:
            self._confirmations_told = snapshot.confirmations_done
            self.say(f"confirmation on fresh seeds: {snapshot.confirmations_done}/{snapshot.confirmations_planned}")
        sys.stdout.flush()


def _ended_trial(line: TrialLine, snapshot: Progress) -> str:
    best = f"best {snapshot.best.name} {snapshot.best.score:.3f}" if snapshot.best else "no best yet"
    score = "" if line.score is None else f" score {line.score:.3f}"
    note = f" ({line.note})" if line.note else ""
    return f"{line.name}: {line.state}{score}{note}; {line.crops_and_jitter}; {best}"


def _left(snapshot: Progress, deadline: float | None) -> str:
    """The forecast of the whole search, beside it what the budget leaves."""
    left = f", about {duration(snapshot.seconds_left)} left" if snapshot.seconds_left else ""
    if deadline is None:
        return f"{left}, {snapshot.budget}" if snapshot.budget and snapshot.budget.workers else left
    seconds = deadline - time.time()
    return f"{left}, budget {'ends in ' + duration(seconds) if seconds > 0 else 'ended'}"


def render(
    snapshot: Progress, elapsed: float | None, *, all_trials: bool = False, deadline: float | None = None
) -> RenderableType:
    """Head line, best so far, forecast, workers, and the newest (or all) trials."""
    counts = ", ".join(f"{count} {state.lower()}" for state, count in sorted(snapshot.counts.items()))
    left = _left(snapshot, deadline)
    spent = f", {duration(elapsed)}" if elapsed is not None else ""
    parts = [
        Text(f"trials {snapshot.finished}/{snapshot.wanted} ({counts or 'starting'}) by {snapshot.method}{spent}{left}")
    ]
    if snapshot.best is not None:
        best = snapshot.best
        parts.append(Text(f"best so far: {best.name}, score {best.score:.3f}  {best.crops_and_jitter}", style="bold"))
    done, planned, paused = (
        snapshot.confirmations_done, snapshot.confirmations_planned, snapshot.paused_confirmations
    )  # fmt: skip
    if done or paused or (planned and snapshot.finished >= snapshot.wanted):
        note = f", {paused} paused" if paused else ""
        parts.append(Text(f"confirmation on fresh seeds: {done}/{planned}{note}"))
    if snapshot.budget and not snapshot.budget.workers:
        parts.append(Text(str(snapshot.budget)))
    parts += [_worker_line(worker) for worker in snapshot.workers]
    failures = [_failure_line(group) for group in snapshot.failures]
    return Group(*parts, _trials_table(snapshot, all_trials), *failures)


def _trials_table(snapshot: Progress, all_trials: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    local_crops = any(line.short_scales[1] is not None for line in snapshot.trials)
    for name, justify, width in _COLUMNS:
        if name == _LOCAL and not local_crops:
            continue
        table.add_column(name, justify=justify, no_wrap=True, min_width=width)
    # The note has what the other columns leave.
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    for line in snapshot.trials if all_trials else snapshot.trials[-ROWS_SHOWN:]:
        mark = "* " if snapshot.best is not None and line.number == snapshot.best.number else "  "
        table.add_row(
            mark + line.name,
            Text(line.state.lower(), style=STATE_STYLE.get(line.state, "")),
            "" if line.score is None else f"{line.score:.3f}",
            str(line.rungs_done),
            duration(line.seconds),
            *(value for value in line.short_scales if value is not None),
            Text(line.note, style="dim"),
        )
    return table


def _failure_line(group: FailureRecord) -> Text:
    """The whole reason; the note in the trial's row may be cut."""
    numbers = ", ".join(map(str, group.trials[:NUMBERS_SHOWN])) + ("..." if len(group.trials) > NUMBERS_SHOWN else "")
    return Text(f"failed, {group} (trial {numbers})\n  what to change: {group.advice}", style="red", overflow="fold")


def _worker_line(worker: WorkerRecord) -> Text:
    text = f"  {worker.device}: {worker.phase}"
    if worker.phase in ("search", "confirm"):
        text += f" {worker.name}, step {worker.step}"
        if worker.loss is not None:
            text += f", loss {worker.loss:.3f}"
        if worker.score is not None:
            text += f", score {worker.score:.3f} at rung {worker.rung}"
        if worker.micro_batches:
            text += f", {worker.micro_batches}"
    return Text(text, style="dim")
