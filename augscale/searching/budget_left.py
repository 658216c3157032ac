"""The time budget of a search as its workers have it: what is left of it, and when it ends.

`--budget` is the time of one call. Every worker records the end of its call's budget in its own file, so that another
process can show it, and a worker that joins from elsewhere can end with the others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from augscale.records.worker import WorkerRecord
from augscale.system.progress_bar import duration


@dataclass(frozen=True, kw_only=True)
class BudgetLeft:
    """The budget of the workers that are alive; where none is, that of the worker that ended last."""

    end: float | None
    """Seconds since the epoch, the latest of several; None for no budget."""
    workers: int
    """Workers that are alive."""
    limited: int = 0
    """Those of them that a budget ends."""
    stopped: float | None = None
    """Time of the last sign of life where no worker is alive, seconds since the epoch."""

    @property
    def common_end(self) -> float | None:
        """The end, if a budget ends all workers that are alive; None if it leaves one of them, or none is alive."""
        return self.end if self.workers and self.limited == self.workers else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds that are left, at least 0; of a stopped search those that were left when it stopped."""
        return None if self.end is None else max(0.0, self.end - (self.stopped or time.time()))

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return vars(self) | {"seconds_left": self.seconds_left}

    def __str__(self) -> str:
        left = self.seconds_left
        if self.end is None or left is None:
            return "no budget" if self.workers else "no worker runs: the same command goes on"
        if not self.workers:
            last = f"the budget of the last call ended at {clock(self.end)}"
            if left and self.stopped is not None:
                last = (
                    f"the last call was stopped at {clock(self.stopped)}, {duration(left)} before the end of its budget"
                )
            return f"no worker runs: {last}; the same command goes on, with a budget of its own"
        words = f"budget ends in {duration(left)}, at {clock(self.end)}" if left else "budget ended, saving"
        if self.limited < self.workers:
            words += f", for {self.limited} of {self.workers} workers; the others have none"
        return words


def budget_left(records: Sequence[WorkerRecord], alive: Sequence[WorkerRecord]) -> BudgetLeft | None:
    """The budget of a run.

    Args:
        records: all workers of the run.
        alive: those of them that are alive.
    Returns:
        None if no worker has begun.
    """
    if not records:
        return None
    if not alive:
        last = max(records, key=lambda worker: worker.time)
        return BudgetLeft(end=last.deadline, workers=0, stopped=last.time)
    ends = [worker.deadline for worker in alive if worker.deadline is not None]
    return BudgetLeft(end=max(ends, default=None), workers=len(alive), limited=len(ends))


def clock(seconds: float) -> str:
    """Local time of day, with the date if it is another day than today."""
    moment = time.localtime(seconds)
    today = moment[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", moment)
