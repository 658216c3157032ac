"""Worker-seconds of a finished search by what they were spent on, from `trial.json` files and `log.jsonl`.

`evaluate` and `diagnose` keep no such records: `benchmarks.waiting_parts` shows their parts, beside plain ways to do
the same. CPU seconds of a search's start and end are those of `benchmarks.search_start`.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from augscale.config import StudyConfig, load_study
from augscale.errors import ConfigError
from augscale.runs.files import read_json
from augscale.runs.folders import RunFolder

TRAINING_PARTS = ("views", "forward", "backward", "optimiser", "training")
"""Of a record's `seconds_by_part`; "training" is what lies between the others on a GPU."""
PARTS = (*TRAINING_PARTS, "scoring", "reporting", "state", "set-up and rest", "not split")
PHASES = {
    "claiming": "claiming: Optuna, storage",
    "telling": "telling, saving weights",
    "waiting": "waiting for other workers",
    "untrained": "scoring untrained networks",
    "other": "other",
}
"""What workers log of their life outside trials, and how the table calls it."""


@dataclass(frozen=True, kw_only=True)
class RunTimes:
    """Where the time of one search went; seconds."""

    study: str
    device: str
    versions: dict[str, str]
    workers: int
    """The most of any session."""
    sessions: int
    """Commands that worked on the run: 1, and one more for each resumption."""
    wall_seconds: float
    """From the first to the last event, preparation included, summed over sessions."""
    worker_seconds: float
    """Wall seconds times workers, summed over sessions."""
    states: dict[str, int]
    """Trials by state."""
    confirmations: int
    search_steps: int
    """Optimiser steps of the trials, without confirmation."""
    search: dict[str, float]
    """Worker-seconds of the trials by one of PARTS."""
    confirm: dict[str, float]
    """The same for the confirmation runs."""
    outside: dict[str, float]
    """Worker-seconds outside trials and confirmation runs, by what they were spent on, what nothing recorded
    included."""

    @property
    def parts(self) -> list[str]:
        """Those of PARTS that took time, in that order."""
        return [part for part in PARTS if self.search.get(part, 0.0) or self.confirm.get(part, 0.0)]

    @property
    def trials_seconds(self) -> float:
        """Of trials and confirmation runs."""
        return sum(self.search.values()) + sum(self.confirm.values())

    @property
    def training_seconds(self) -> float:
        return sum(self.search.get(part, 0.0) + self.confirm.get(part, 0.0) for part in TRAINING_PARTS)

    @property
    def scoring_seconds(self) -> float:
        return self.search.get("scoring", 0.0) + self.confirm.get("scoring", 0.0)

    @property
    def outside_seconds(self) -> float:
        return sum(self.outside.values())


def read_run_times(run: RunFolder) -> RunTimes:
    """Adds up what a run folder says about time.

    Args:
        run: of a search that has ended.
    Raises:
        ConfigError: not a run folder, or the search has not finished.
    """
    manifest, config = open_run(run)
    events = _events(run)
    sessions = _sessions(events)
    if not sessions or not any(event["event"] == "search finished" for event in events):
        raise ConfigError(f"{run.path}: log.jsonl tells of no finished search; expected one that ended with an answer")
    trials = trial_records(run)
    confirmations = confirmation_records(run)
    search, confirm = _parts(trials), _parts(confirmations)
    total = sum(session.wall * session.workers for session in sessions)
    outside: defaultdict[str, float] = defaultdict(float)
    for session in sessions:
        for name, seconds in session.outside().items():
            outside[name] += seconds
    known = sum(search.values()) + sum(confirm.values()) + sum(outside.values())
    return RunTimes(
        study=config.name,
        device=str(manifest["device"]),
        versions=dict(manifest["versions"]),
        workers=max(session.workers for session in sessions),
        sessions=len(sessions),
        wall_seconds=sum(session.wall for session in sessions),
        worker_seconds=total,
        states=dict(Counter(record["state"] for record in trials)),
        confirmations=len(confirmations),
        search_steps=sum(steps_done(record) for record in trials),
        search=search,
        confirm=confirm,
        outside={name: seconds for name, seconds in outside.items() if seconds} | {"not recorded": total - known},
    )


def open_run(run: RunFolder) -> tuple[dict[str, Any], StudyConfig]:
    """The manifest and the study of a run folder.

    Raises:
        ConfigError: not a run folder.
    """
    manifest = read_json(run.manifest_file)
    if manifest is None:
        raise ConfigError(f"{run.path}: not a run folder of augscale search (no readable manifest.json)")
    return manifest, load_study(run.study_file)


def trial_records(run: RunFolder) -> list[dict[str, Any]]:
    """`trial.json` of every trial, by number."""
    return _records(run, "trials")


def confirmation_records(run: RunFolder) -> list[dict[str, Any]]:
    """`trial.json` of every confirmation run."""
    return _records(run, "confirm")


def steps_done(record: dict[str, Any]) -> int:
    """Optimiser steps up to the last rung."""
    return int(record["rungs"][-1]["step"]) if record["rungs"] else 0


def training_seconds(record: dict[str, Any]) -> float:
    """Of one trial, 0 where it was not recorded."""
    return sum(record["seconds_by_part"].get(part, 0.0) for part in TRAINING_PARTS)


def scoring_seconds(record: dict[str, Any]) -> float | None:
    """Of one trial's rungs; None where it was not recorded apart from reporting to Optuna."""
    seconds = [rung.get("seconds") for rung in record["rungs"]]
    return None if None in seconds else float(sum(seconds))


def _records(run: RunFolder, folder: str) -> list[dict[str, Any]]:
    found = [read_json(path) for path in sorted(run.path.glob(f"{folder}/*/trial.json"))]
    return [record for record in found if record is not None]


def _parts(records: list[dict[str, Any]]) -> dict[str, float]:
    total: defaultdict[str, float] = defaultdict(float)
    for record in records:
        parts, whole = record["seconds_by_part"], float(record["seconds"])
        if not parts:
            total["not split"] += whole
            continue
        for part in (*TRAINING_PARTS, "state"):
            total[part] += parts.get(part, 0.0)
        rungs, scoring = parts.get("rungs", 0.0), scoring_seconds(record)
        # Before scoring was timed apart, the time of a rung was nearly all scoring.
        total["scoring"] += min(rungs, scoring) if scoring is not None else rungs
        total["reporting"] += max(0.0, rungs - scoring) if scoring is not None else 0.0
        total["set-up and rest"] += max(0.0, whole - sum(parts.values()))
    return {part: total[part] for part in PARTS if total[part]}


@dataclass(frozen=True, kw_only=True)
class _Session:
    """One command's events, from "search started" on."""

    events: list[dict[str, Any]]

    @property
    def workers(self) -> int:
        first = self.events[0]
        if "workers" in first:
            return int(first["workers"])
        match = re.search(r"(\d+) workers?", first["device"])
        return int(match.group(1)) if match else 1

    @property
    def wall(self) -> float:
        return self._preparation + self.events[-1]["at"] - self.events[0]["at"]

    @property
    def _preparation(self) -> float:
        return float(self.events[0].get("preparation_seconds", 0.0))

    def outside(self) -> dict[str, float]:
        """Worker-seconds outside trials that something recorded."""
        found: defaultdict[str, float] = defaultdict(float, preparation=self._preparation * self.workers)
        started, ready, done = (self._by_pid(f"worker {what}") for what in ("started", "ready", "done"))
        begin = self.events[0]["at"]
        found["start of workers"] = sum(
            event["at"] - started[pid]["at"] for pid, event in ready.items() if pid in started
        )
        found["preparation"] += sum(event["at"] - begin for event in list(started.values())[: self.workers])
        for event in done.values():
            for name, label in PHASES.items():
                found[label] += event["seconds"].get(name, 0.0)
        ended = self._moment("workers ended")
        if ended is not None:
            found["end of workers"] = sum(ended - event["at"] for event in done.values())
            finished = self._moment("search finished")
            found["answer and report"] = 0.0 if finished is None else (finished - ended) * self.workers
        return found

    def _by_pid(self, name: str) -> dict[int, dict[str, Any]]:
        return {event["pid"]: event for event in self.events if event["event"] == name}

    def _moment(self, name: str) -> float | None:
        return next((float(event["at"]) for event in self.events if event["event"] == name), None)


def _events(run: RunFolder) -> list[dict[str, Any]]:
    try:
        lines = (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    events = [json.loads(line) for line in lines]
    return [event | {"at": datetime.fromisoformat(event["time"]).timestamp()} for event in events]


def _sessions(events: list[dict[str, Any]]) -> list[_Session]:
    starts = [index for index, event in enumerate(events) if event["event"] == "search started"]
    bounds = zip(starts, [*starts[1:], len(events)], strict=True)
    return [_Session(events=events[begin:end]) for begin, end in bounds]
