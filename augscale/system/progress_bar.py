"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Gives a function to call with (what is done, how much is done, how much there is), as often as one likes."""
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


def line_printer(console: Console) -> Callable[[str], None]:
    """Prints a line as it is."""
    return lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def decoding_bar(console: Console, *, quiet: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """The same for the decoding of images, which reports (done, total); None where nothing is to be printed."""
    if quiet:
        yield None
        return
    with progress_bar(console) as on_progress:
        yield partial(on_progress, "decoding images")


def _lines(console: Console) -> Callable[[str, int, int], None]:
    """Plain lines for logs; short work says nothing."""
    last = time.monotonic()

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            console.print(f"{what}: {done}/{total}", highlight=False, markup=False, soft_wrap=True)

    return report
