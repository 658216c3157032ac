"""Display of a full run: a progress bar with forecast on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from augscale.records.full_run import PanelEvaluation
from augscale.records.metrics import score_label
from augscale.system.progress_bar import decoding_bar, duration

PLAIN_SECONDS = 30.0
"""Shortest time between two plain lines of steps; every evaluation has a line of its own."""


class FullRunDisplay:
    """Steps, loss, speed, score and forecast of one session."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console = console
        self.quiet = quiet
        self._bar: Progress | None = None
        self._task: Any = None
        self._steps = 0
        self._first: tuple[int, float] | None = None
        self._last_line = 0.0
        self._best = ""

    @contextmanager
    def running(self, steps: int) -> Iterator[None]:
        """Context in which the progress bar is shown."""
        self._steps = steps
        if self.quiet or not self.console.is_terminal:
            yield
            return
        columns = (
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        with Progress(*columns, console=self.console) as self._bar:
            self._task = self._bar.add_task("starting", total=steps, left="")
            yield
        self._bar = None

    def images(self) -> AbstractContextManager[Callable[[int, int], None] | None]:
        """A progress callback (done, total) for the decoding of images."""
        return decoding_bar(self.console, quiet=self.quiet)

    def say(self, text: str) -> None:
        if not self.quiet:
            console = self._bar.console if self._bar is not None else self.console
            console.print(text, highlight=False, markup=False, soft_wrap=True)

    def step(self, step: int, loss: float, images_per_second: float | None) -> None:
        """Shows a logged step."""
        now = time.monotonic()
        if self._first is None:
            self._first = (step, now)
        speed = "" if images_per_second is None else f", {images_per_second:.3g} images/s"
        text = f"loss {loss:.3f}{speed}{self._best}"
        left = self._left(step, now)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=text, left=left)
        elif now - self._last_line >= PLAIN_SECONDS:
            self._last_line = now
            self.say(f"step {step}/{self._steps} ({step / self._steps:.0%}): {text}{', ' * bool(left)}{left}")

    def evaluating(self, step: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description="scoring the panel")

    def evaluated(self, evaluation: PanelEvaluation, best: PanelEvaluation) -> None:
        """Shows an evaluation, and the best one so far."""
        self._best = f", best {best.score:.3f} at step {best.step}"
        verdict = f" (collapsed: {evaluation.evidence[0]})" if evaluation.verdict == "collapsed" else ""
        self.say(
            f"step {evaluation.step}/{self._steps}, epoch {evaluation.epoch:.4g}: {score_label(evaluation.score_name)} "
            f"{evaluation.score:.3f}{verdict}{self._best}"
        )

    def _left(self, step: int, now: float) -> str:
        """Remaining time by this session's mean time per step, which includes evaluations and saving."""
        if self._first is None or step <= self._first[0]:
            return ""
        pace = (now - self._first[1]) / (step - self._first[0])
        return f"about {duration(pace * (self._steps - step))} left"
