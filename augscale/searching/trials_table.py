"""`trials.csv`: all trials of a search in one table."""

from __future__ import annotations

import csv
import io
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from augscale.augmentation.scales import AugmentationScales
from augscale.config import StudyConfig
from augscale.records.panel import UntrainedRecord
from augscale.records.trial import TrialRecord
from augscale.runs.files import write_text_atomic
from augscale.runs.folders import RunFolder
from augscale.searching.null import null_runs
from augscale.searching.study import control_of, is_feasible, trial_scales, trials_started

_LAST_RUNG = ("score", "effective_rank", "information", "loss")
COLUMNS = (
    "number", "kind", "state", "score", "control", "feasible", "steps", "effective_rank", "information", "loss",
    "seconds", "starts", "reason", *AugmentationScales.model_fields,
)  # fmt: skip


def write_trials_table(run: RunFolder, config: StudyConfig, study: optuna.Study) -> None:
    """Writes `trials.csv`: a row per started trial, then the rows that learning is measured against.

    States are Optuna's. The rows after the trials have no number: one per run with learning rate 0 (kind "null"), and
    one of the network that all trials begin with (kind "untrained").
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_trial_row(run, config, trial) for trial in trials_started(study))
    for null in null_runs(run, config):
        record = null.record
        row = {"kind": "null", "control": null.name, "state": record.state if record else None}
        writer.writerow(row | _scales_cells(null.scales) | _record_cells(record))
    untrained = UntrainedRecord.read_if_there(run.untrained_file)
    if untrained is not None:
        facts = {"score": untrained.score, "effective_rank": untrained.effective_rank}
        writer.writerow({"kind": "untrained", "state": "COMPLETE", "steps": 0} | facts)
    write_text_atomic(run.trials_table, text.getvalue())


def _trial_row(run: RunFolder, config: StudyConfig, trial: FrozenTrial) -> dict[str, Any]:
    row = {
        "number": trial.number,
        "kind": "control" if control_of(trial) else "trial",
        "state": trial.state.name,
        "score": trial.value,
        "control": control_of(trial) or "",
        "feasible": is_feasible(trial) if trial.state.is_finished() else "",
        "starts": trial.user_attrs.get("starts", 1),
        "reason": trial.user_attrs.get("reason", ""),
    }
    record = TrialRecord.in_folder(run.trial_dir(trial.number))
    return row | _record_cells(record) | _scales_cells(trial_scales(config, trial))


def _record_cells(record: TrialRecord | None) -> dict[str, Any]:
    """The time of a trial, and the last rung that it reached."""
    if record is None:
        return {}
    if not record.rungs:
        return {"seconds": record.seconds}
    last = record.rungs[-1]
    return {"seconds": record.seconds, "steps": last.step} | {name: getattr(last, name) for name in _LAST_RUNG}


def _scales_cells(scales: AugmentationScales) -> dict[str, Any]:
    cells = scales.model_dump().items()
    return {name: " ".join(map(str, v)) if isinstance(v, (tuple, list)) else v for name, v in cells}
