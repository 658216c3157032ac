"""Numbers for TensorBoard if the `tensorboard` package is installed; without it a run says so once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class TensorBoard:
    """Scalars by step, written to event files.

    Args:
        folder: folder of the event files.
        say: called with one line if nothing can be written; the run continues without event files.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._writer: Any = None
        self._disabled = False

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Adds a step's numbers. A session's first call hides what an earlier session wrote from that step on."""
        if self._disabled:
            return
        try:
            if self._writer is None:
                from torch.utils.tensorboard import SummaryWriter

                self._writer = SummaryWriter(str(self._folder), purge_step=step)
            for name, value in values.items():
                if value is not None:
                    self._writer.add_scalar(name, value, step)
        except ImportError:
            self._disable("the tensorboard package is not installed (extra `tensorboard`)")
        except OSError as error:
            self._disable(error.strerror or str(error))

    def close(self) -> None:
        if self._writer is not None and not self._disabled:
            try:
                self._writer.close()
            except OSError as error:
                self._disable(error.strerror or str(error))

    def _disable(self, reason: str) -> None:
        self._disabled = True
        self._say(f"no TensorBoard files: {reason}; log.jsonl holds the same numbers")
