"""Reads a run folder for the report; files that are missing or broken are left out, with a note.

Nothing here computes a result: scores, intervals and verdicts are those that the search wrote. A search may still be
running while it is read, and a crash may have left half a file, so every file is optional.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from augscale.config import LOCAL_PARAMETERS
from augscale.errors import DataError
from augscale.pretrain_config import METHOD_NAMES
from augscale.records.answer import AnswerRecord, ContenderRecord
from augscale.records.base import FileRecord
from augscale.records.manifest import ManifestRecord
from augscale.records.panel import UntrainedRecord
from augscale.records.trial import TRIAL_FILE, TrialRecord
from augscale.runs.folders import RunFolder

R = TypeVar("R", bound=FileRecord)


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """Everything that a report shows."""

    path: Path
    answer: AnswerRecord | None
    """None while the search is running."""
    trials: tuple[TrialRecord, ...]
    """Trials, ordered by number."""
    confirmations: tuple[TrialRecord, ...]
    """Confirmation runs, ordered by number and seed."""
    untrained: UntrainedRecord | None
    """The network that every trial starts from, on the same panel."""
    study: Mapping[str, Any]
    """The resolved study file, or empty."""
    manifest: ManifestRecord
    has_card: bool
    """True if best.toml exists."""
    notes: tuple[str, ...]
    """Files that could not be read, a line each."""

    @property
    def score_name(self) -> str:
        return self.answer.score_name if self.answer else str(self.setting("probe", "score") or "dprime")

    def setting(self, section: str, key: str) -> Any:
        """A setting of the study, None where the file does not have it."""
        table = self.study.get(section)
        return table.get(key) if isinstance(table, Mapping) else None

    @property
    def method_name(self) -> str:
        """Name of the method of pre-training; studies of earlier versions knew DINO only."""
        name = str(self.setting("pretrain", "method") or "dino")
        return METHOD_NAMES.get(name, name)

    @property
    def local_crops(self) -> bool:
        """False if trials drew no local crops."""
        if self.answer and not self.answer.local_crops:
            return False
        return self.setting("crops", "n_local") != 0

    @property
    def best(self) -> ContenderRecord | None:
        """The answer's best; None also before there is an answer."""
        return self.answer.best_contender if self.answer else None

    @property
    def best_trial(self) -> TrialRecord | None:
        """The trial of the answer's best; before there is an answer, the usable trial with the highest score."""
        if self.answer:
            number = self.best.number if self.best else None
            return next((trial for trial in self.trials if trial.number == number), None)
        return max((t for t in self.trials if t.is_usable), key=lambda t: (t.score, -t.number), default=None)

    @property
    def best_name(self) -> str | None:
        trial = self.best_trial
        return trial.name if trial else self.best.name if self.best else None

    @property
    def controls(self) -> tuple[TrialRecord, ...]:
        """Trials of fixed scales, such as strong and weak."""
        return tuple(t for t in self.trials if t.control is not None)

    @property
    def best_and_controls(self) -> tuple[TrialRecord, ...]:
        """The trials that figures name, the best first."""
        best = self.best_trial
        return (() if best is None else (best,)) + tuple(t for t in self.controls if t is not best)

    def count(self, shown_state: str) -> int:
        """Trials in a state, see `TrialRecord.shown_state`."""
        return sum(t.shown_state == shown_state for t in self.trials)


def read_run(run_dir: Path) -> RunResults:
    """Reads the files of a run folder; each of them may be missing, partial or broken.

    If trials drew no local crops, what their records say of them is left out: it had no effect.
    """
    run = RunFolder(run_dir)
    notes: list[str] = []
    trials = _read_trials(run, run.path / "trials", notes)
    confirmations = _read_trials(run, run.confirm_dir, notes)
    found = RunResults(
        path=run.path,
        answer=_read(AnswerRecord, run, run.answer_file, notes),
        trials=tuple(sorted(trials, key=lambda t: t.number)),
        confirmations=tuple(sorted(confirmations, key=lambda t: (t.number, t.seed_index or 0))),
        untrained=_read(UntrainedRecord, run, run.untrained_file, notes),
        study=_read_study(run.study_file, notes),
        manifest=_read(ManifestRecord, run, run.manifest_file, notes) or ManifestRecord(),
        has_card=run.best_card.exists(),
        notes=tuple(notes),
    )
    return found if found.local_crops else _without_local_crops(found)


def _without_local_crops(run: RunResults) -> RunResults:
    def bare(trial: TrialRecord) -> TrialRecord:
        scales = {name: value for name, value in trial.scales.items() if name != "local_crops_scale"}
        return trial.model_copy(update={"scales": scales, "params": _without_local(trial.params)})

    answer = run.answer
    if answer is not None:
        answer = answer.model_copy(update={"local_crops": False, "importance": _without_local(answer.importance)})
    trials, confirmations = (tuple(bare(trial) for trial in part) for part in (run.trials, run.confirmations))
    return replace(run, answer=answer, trials=trials, confirmations=confirmations)


def _without_local(by_parameter: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in by_parameter.items() if name not in LOCAL_PARAMETERS}


def _read_trials(run: RunFolder, folder: Path, notes: list[str]) -> list[TrialRecord]:
    found = [_read(TrialRecord, run, path, notes) for path in sorted(folder.glob(f"*/{TRIAL_FILE}"))]
    return [trial for trial in found if trial]


def _read(kind: type[R], run: RunFolder, path: Path, notes: list[str]) -> R | None:
    if not path.exists():
        return None
    try:
        return kind.read(path)
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: ")
        notes.append(f"{path.relative_to(run.path)} could not be read and is left out ({reason})")
        return None


def _read_study(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} could not be read ({error}); settings are not shown")
        return {}
