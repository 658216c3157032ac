"""`workers/HOST-PID.json`: the current work of a worker, for the live display and `augscale status`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from augscale.records.base import FileRecord
from augscale.records.fields import Number
from augscale.runs.folders import RunFolder, this_host


def worker_file(run: RunFolder, pid: int) -> Path:
    """The file of a worker on this host."""
    return run.workers_dir / f"{this_host()}-{pid}.json"


class WorkerRecord(FileRecord):
    """One worker; fields that its phase does not need are not written."""

    writer = "augscale search"

    host: str
    pid: int
    device: str = ""
    phase: Literal["starting", "search", "confirm", "waiting", "scoring untrained networks", "done"] = "starting"
    time: float = 0.0
    """Time of the last heartbeat, seconds since the epoch."""
    name: str = ""
    """Name of the trial or confirmation run."""
    number: int | None = None
    step: int = 0
    score: Number = None
    rung: int = 0
    loss: Number = None
    micro_batches: str | None = None
    deadline: float | None = None
    """End of its time budget, seconds since the epoch; None for no budget."""

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_unset=True)
