"""Progress of long work: a bar on a terminal, a line every half minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Yields a function of (description, number done, total)."""
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


@contextmanager
def working(console: Console, what: str, quiet: bool = False) -> Iterator[None]:
    """Shows a spinner with the seconds that have passed while work runs that cannot be counted; terminals only."""
    if quiet or not console.is_terminal:
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        bar.add_task(what, total=None)
        yield


def line_printer(console: Console) -> Callable[[str], None]:
    """A function that prints a line without markup; a terminal wraps it between words."""
    return lambda text: console.print(text, highlight=False, markup=False, soft_wrap=not console.is_terminal)


@contextmanager
def decoding_bar(console: Console, *, quiet: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """Yields a function of (number done, total) for the decoding of images; None if `quiet`."""
    if quiet:
        yield None
        return
    with progress_bar(console) as on_progress:
        yield partial(on_progress, "decoding images")


def duration(seconds: float | None) -> str:
    """1:05:09, 12:34 or 0:07; an empty string for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _lines(console: Console) -> Callable[[str, int, int], None]:
    """Plain lines for logs; short work prints nothing."""
    last = time.monotonic()

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            console.print(f"{what}: {done}/{total}", highlight=False, markup=False, soft_wrap=True)

    return report
