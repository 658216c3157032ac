"""What a person sees while a search runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from augscale.searching import progress as progress_module
from augscale.searching.failures import FailureGroup
from augscale.system.progress_bar import decoding_bar, duration

ROWS_SHOWN = 12
NUMBERS_SHOWN = 8
STATE_STYLE = {"COMPLETE": "green", "PRUNED": "dim", "FAIL": "red", "RUNNING": "cyan", "PAUSED": "yellow"}


class SearchDisplay:
    """Shows snapshots of a search; on a terminal in place, elsewhere one line per finished trial."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console = console
        self.quiet = quiet
        self._live: Live | None = None
        self._told: set[int] = set()
        self._confirmations_told = 0
        self._start = time.monotonic()

    @contextmanager
    def running(self) -> Iterator[SearchDisplay]:
        """The live region; plain output needs none."""
        if self.quiet or not self.console.is_terminal:
            yield self
            return
        with Live(console=self.console, refresh_per_second=4, transient=False) as self._live:
            yield self

    def say(self, text: str) -> None:
        """One line, on standard error's console or the terminal."""
        if not self.quiet:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def images(self) -> AbstractContextManager[Callable[[int, int], None] | None]:
        """A progress callback (done, total) for the decoding of images."""
        return decoding_bar(self.console, quiet=self.quiet)

    def update(self, snapshot: progress_module.Progress) -> None:
        """Shows the newest snapshot."""
        if self.quiet:
            return
        if self._live is not None:
            self._live.update(render(snapshot, time.monotonic() - self._start))
            return
        for line in snapshot.trials:
            if line.state not in progress_module.OPEN and line.number not in self._told:
                self._told.add(line.number)
                best = f"best {snapshot.best.name} {snapshot.best.score:.3f}" if snapshot.best else "no best yet"
                score = "" if line.score is None else f" score {line.score:.3f}"
                note = f" ({line.note})" if line.note else ""
                left = f", about {duration(snapshot.seconds_left)} left" if snapshot.seconds_left else ""
                self.say(
                    f"[{len(self._told)}/{snapshot.wanted}] {line.name}: {line.state}{score}{note}; "
                    f"{line.crops_and_jitter}; {best}{left}"
                )
        if snapshot.confirmations_done > self._confirmations_told:
            self._confirmations_told = snapshot.confirmations_done
            self.say(f"confirmation on fresh seeds: {snapshot.confirmations_done}/{snapshot.confirmations_planned}")
        sys.stdout.flush()


def render(snapshot: progress_module.Progress, elapsed: float | None, *, all_trials: bool = False) -> RenderableType:
    """Head line, best so far, forecast, workers, and the newest (or all) trials."""
    counts = ", ".join(f"{count} {state.lower()}" for state, count in sorted(snapshot.counts.items()))
    left = f", about {duration(snapshot.seconds_left)} left" if snapshot.seconds_left is not None else ""
    spent = f", {duration(elapsed)}" if elapsed is not None else ""
    head = Text(f"trials {snapshot.finished}/{snapshot.wanted} ({counts or 'starting'}){spent}{left}")
    parts: list[RenderableType] = [head]
    if snapshot.best is not None:
        best = snapshot.best
        parts.append(Text(f"best so far: {best.name}, score {best.score:.3f}  {best.crops_and_jitter}", style="bold"))
    if (
        snapshot.confirmations_done
        or snapshot.paused_confirmations
        or (snapshot.finished >= snapshot.wanted and snapshot.confirmations_planned)
    ):
        done, planned = snapshot.confirmations_done, snapshot.confirmations_planned
        paused = f", {snapshot.paused_confirmations} paused" if snapshot.paused_confirmations else ""
        parts.append(Text(f"confirmation on fresh seeds: {done}/{planned}{paused}"))
    parts += [_worker_line(worker) for worker in snapshot.workers]
    table = Table(box=None, pad_edge=False, header_style="dim")
    # What a narrow terminal cuts are the crops and the notes, which `trials.csv` has too.
    for name, justify, width in (
        ("trial", "left", 12),
        ("state", "left", 8),
        ("score", "right", 6),
        ("rungs", "right", 5),
        ("time", "right", 4),
    ):
        table.add_column(name, justify=justify, no_wrap=True, min_width=width)  # type: ignore[arg-type]
    table.add_column("global, local crops; jitter", no_wrap=True)
    table.add_column("", no_wrap=True, overflow="ellipsis")
    for line in snapshot.trials if all_trials else snapshot.trials[-ROWS_SHOWN:]:
        mark = "* " if snapshot.best is not None and line.number == snapshot.best.number else "  "
        table.add_row(
            mark + (line.name if line.name.startswith("trial") else f"{line.name} (control)"),
            Text(line.state.lower(), style=STATE_STYLE.get(line.state, "")),
            "" if line.score is None else f"{line.score:.3f}",
            str(line.rungs_done),
            duration(line.seconds),
            line.crops_and_jitter,
            Text(line.note, style="dim"),
        )
    return Group(*parts, table, *(_failure_line(group) for group in snapshot.failures))


def _failure_line(group: FailureGroup) -> Text:
    """Not cut, as the note of the trial's row is."""
    numbers = ", ".join(map(str, group.trials[:NUMBERS_SHOWN])) + ("..." if len(group.trials) > NUMBERS_SHOWN else "")
    return Text(f"failed, {group} (trial {numbers})\n  what to change: {group.advice}", style="red", overflow="fold")


def _worker_line(worker: dict[str, Any]) -> Text:
    text = f"  {worker['device']}: {worker['phase']}"
    if worker["phase"] in ("search", "confirm"):
        text += f" {worker['name']}, step {worker.get('step', 0)}"
        if worker.get("loss") is not None:
            text += f", loss {worker['loss']:.3f}"
        if worker.get("score") is not None:
            text += f", score {worker['score']:.3f} at rung {worker['rung']}"
        if worker.get("micro_batches"):
            text += f", {worker['micro_batches']}"
    return Text(text, style="dim")
