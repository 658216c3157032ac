"""Layout of run folders, their locks and logs, and facts about where and when a run was made."""

from __future__ import annotations

import functools
import json
import os
import platform
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from augscale.errors import ConfigError, StudyError


def now() -> str:
    """Time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def this_host() -> str:
    return socket.gethostname()


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("augscale", "torch", "torchvision", "timm", "optuna", "numpy", "faiss-cpu", "faiss-gpu-cu12"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def writable_folder(path: Path) -> Path:
    """Makes the folder of `--out` and checks that it can be written.

    Raises:
        ConfigError: a file is in the way, or the folder cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written ({error.strerror}); expected a writable folder") from None
    return path


class RunFolder:
    """The folder of one search and the paths of its files."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.study_file = self.path / "study.toml"
        self.manifest_file = self.path / "manifest.json"
        """Input of the workers in addition to the study: cache, storage, data fingerprint."""
        self.answer_file = self.path / "answer.json"
        self.untrained_file = self.path / "untrained.json"
        """Score of the network before training."""
        self.best_card = self.path / "best.toml"
        self.report_file = self.path / "report.html"
        self.trials_table = self.path / "trials.csv"
        self.workers_dir = self.path / "workers"
        self.null_dir = self.path / "null"
        """Runs with learning rate 0, see `searching.null`."""
        self.confirm_dir = self.path / "confirm"
        self.database = self.path / "study.db"

    def trial_dir(self, number: int) -> Path:
        return self.path / "trials" / f"{number:04d}"

    def create(self) -> None:
        """Makes the folder and checks that it can be written.

        Raises:
            ConfigError: a file is in the way, or the folder cannot be written.
        """
        writable_folder(self.path)
        for folder in (self.path / "trials", self.workers_dir, self.confirm_dir):
            writable_folder(folder)

    def log(self, event: str, **fields: Any) -> None:
        """Appends one line to log.jsonl, timed to the millisecond.

        Lines are short, so appends of several processes do not mix.
        """
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": moment, "event": event, **fields})
        with open(self.path / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    @contextmanager
    def locked(self, name: str = "study", timeout_seconds: float = 120) -> Iterator[None]:
        """Holds the run's named lock; the operating system releases it if the process dies.

        Raises:
            StudyError: another process held it for longer than the time-out.
        """
        lock = FileLock(self.path / f"{name}.lock", timeout=timeout_seconds)
        try:
            lock.acquire()
        except Timeout:
            raise StudyError(f"{self.path}: another process has held {name}.lock for {timeout_seconds:.0f} s") from None
        try:
            yield
        finally:
            lock.release()


def try_lock(path: Path) -> FileLock | None:
    """The lock of a file; None if a living process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


class Stopwatch:
    """Seconds since construction."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start
