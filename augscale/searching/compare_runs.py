"""`augscale.compare_runs(...)`: two searches side by side, and whether their scores can be compared at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augscale.config import load_study
from augscale.errors import ConfigError
from augscale.records.answer import AnswerRecord
from augscale.records.manifest import ManifestRecord
from augscale.records.panel import UntrainedRecord
from augscale.records.trial import TRIAL_FILE, TrialRecord
from augscale.runs.folders import RunFolder
from augscale.settings import flatten

PANEL_SETTINGS = (
    "probe.images",
    "probe.views",
    "probe.levels",
    "probe.score",
    "probe.seed",
    "probe.labelled",
    "probe.unlabelled",
    "crops.global_size",
)
"""Settings that the panel and its score depend on, besides the images."""


@dataclass(frozen=True, kw_only=True)
class ControlScores:
    """Scores of one control; None where there is none."""

    search: float | None
    fresh: float | None
    """Mean on fresh seeds."""


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """One of the two searches."""

    path: Path
    manifest: ManifestRecord
    settings: dict[str, Any]
    """All settings of the study by dotted key."""
    answer: AnswerRecord | None
    """None if the search has not ended."""
    controls: dict[str, ControlScores]
    untrained: ControlScores
    """Scores of the networks before training."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        answer = self.answer
        best = answer.best_contender if answer else None
        return {
            "run": str(self.path),
            "headline": answer.headline if answer else None,
            "outcome": answer.outcome if answer else None,
            "best": best.to_dict() if best else None,
            "controls": {name: vars(scores) for name, scores in self.controls.items()},
            "untrained": vars(self.untrained),
            "counts": answer.counts if answer else {},
            "seconds": answer.seconds if answer else {},
        }


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Two searches side by side."""

    runs: tuple[ComparedRun, ComparedRun]
    settings: tuple[tuple[str, Any, Any], ...]
    """Key, and both values, of each setting that differs."""
    same_study: bool
    """True if every setting that alters a trial, and the images, are equal."""
    obstacles: tuple[str, ...]
    """Reasons why scores cannot be compared, in words; empty if they can."""

    @property
    def comparable(self) -> bool:
        """True if both panels, and the way in which they are scored, are the same."""
        return not self.obstacles

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "comparable": self.comparable,
            "obstacles": list(self.obstacles),
            "same_study": self.same_study,
            "settings": [{"key": key, "values": [one, other]} for key, one, other in self.settings],
            "runs": [run.to_dict() for run in self.runs],
        }


def compare_runs(first: str | Path, second: str | Path) -> RunComparison:
    """Compares the run folders of two searches; both may still be running.

    Raises:
        ConfigError: a folder is not the run folder of a search.
        DataError: a file in it cannot be read.
    """
    one, other = _read(first), _read(second)
    keys = sorted({*one.settings, *other.settings})
    differing = tuple(
        (key, one.settings.get(key), other.settings.get(key))
        for key in keys
        if one.settings.get(key) != other.settings.get(key)
    )
    return RunComparison(
        runs=(one, other),
        settings=differing,
        same_study=one.manifest.study_name == other.manifest.study_name,
        obstacles=tuple(_obstacles(one, other)),
    )


def _read(path: str | Path) -> ComparedRun:
    run = RunFolder(path)
    manifest = ManifestRecord.read_if_there(run.manifest_file)
    if manifest is None or not manifest.study_name:
        raise ConfigError(f"{run.path}: not the run folder of a search; expected one that augscale search has made")
    answer = AnswerRecord.read_if_there(run.answer_file)
    untrained = UntrainedRecord.read_if_there(run.untrained_file)
    return ComparedRun(
        path=run.path,
        manifest=manifest,
        settings=flatten(load_study(run.study_file).model_dump(mode="json")),
        answer=answer,
        controls=_controls(run, answer),
        untrained=ControlScores(
            search=untrained.score if untrained else None,
            fresh=answer.untrained.score if answer and answer.untrained and untrained and untrained.confirm else None,
        ),
    )


def _controls(run: RunFolder, answer: AnswerRecord | None) -> dict[str, ControlScores]:
    if answer is not None:
        contenders = [contender for contender in answer.contenders if contender.kind == "control"]
        return {c.name: ControlScores(search=c.search_score, fresh=c.confirm_mean) for c in contenders}
    files = sorted(run.path.glob(f"trials/*/{TRIAL_FILE}"))
    records = [record for file in files if (record := TrialRecord.in_folder(file.parent)) and record.control]
    return {str(record.control): ControlScores(search=record.score, fresh=None) for record in records}


def _obstacles(one: ComparedRun, other: ComparedRun) -> list[str]:
    found = []
    if one.manifest.data.fingerprint != other.manifest.data.fingerprint:
        found.append("the images, or how they are decoded, differ")
    changed = [key for key in PANEL_SETTINGS if one.settings.get(key) != other.settings.get(key)]
    if changed:
        found.append(f"the panels differ ({', '.join(changed)})")
    if one.manifest.statistics != other.manifest.statistics:
        found.append("batch norm statistics were gathered in different ways")
    versions = [run.manifest.versions.get("augscale") for run in (one, other)]
    if versions[0] != versions[1]:
        found.append(f"versions of augscale differ ({versions[0]} and {versions[1]})")
    return found
