"""Errors that a user can act on; the command line prints their message in one line and exits with their code."""

from __future__ import annotations


class AugscaleError(Exception):
    """Base of all errors that augscale raises for a user to act on.

    The message names the file or setting, the value found and what is accepted.
    """

    exit_code = 1


class ConfigError(AugscaleError):
    """A study file, flag or scale is wrong; nothing was started."""

    exit_code = 2


class DataError(AugscaleError):
    """Images or manifests cannot be used as given."""

    exit_code = 3


class CheckpointError(AugscaleError):
    """A weights file or a saved state cannot be read or written, or does not fit."""

    exit_code = 4


class DivergedError(AugscaleError):
    """The loss of a run is no longer finite."""

    exit_code = 5


class MemoryShortageError(AugscaleError):
    """Memory ran out, and a step cannot be divided into smaller micro-batches."""


class Paused(Exception):
    """A caller's `should_stop` returned True; the state is saved if there is a file for it.

    Args:
        step: optimizer updates in the saved state; None if that is an earlier state, e.g. one saved at a rung.
    """

    def __init__(self, step: int | None = None) -> None:
        super().__init__("paused" if step is None else f"paused at step {step}")
        self.step = step


class StudyError(AugscaleError):
    """A search cannot continue: its storage fails, or no trial can be used."""

    exit_code = 6


class InterruptedRun(AugscaleError):
    """A signal asked the program to stop; everything finished is saved.

    Args:
        signal_number: 2 (SIGINT) gives exit code 130, 15 (SIGTERM) gives 143, and so on, as shells expect.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
