"""Opens a run that `search` began, and reads its state; imports no torch, so `augscale status` answers soon."""

from __future__ import annotations

from pathlib import Path

import optuna

from augscale.config import StudyConfig, load_study
from augscale.errors import ConfigError
from augscale.records.manifest import ManifestRecord
from augscale.runs.folders import RunFolder
from augscale.searching.progress import Progress, read_progress
from augscale.searching.storage import run_storage
from augscale.searching.study import open_study


def read_run(run_dir: str | Path) -> tuple[RunFolder, StudyConfig, optuna.Study]:
    """Opens a run that `search` began.

    Raises:
        ConfigError: not a run folder.
    """
    run = RunFolder(run_dir)
    manifest = ManifestRecord.read_if_there(run.manifest_file)
    if manifest is None:
        raise ConfigError(f"{run.path}: not a run folder of augscale search (no readable manifest.json)")
    if not manifest.study_name:
        kind = manifest.kind or "another kind of run"
        raise ConfigError(f"{run.path}: holds {kind}; expected the run folder of a search")
    if manifest.storage is None and not run.database.exists():
        raise ConfigError(f"{run.database} is missing; expected the whole run folder, study.db-wal included")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = load_study(run.study_file)
    return run, config, open_study(config, run_storage(run, manifest.storage), manifest.study_name)


def status(run_dir: str | Path) -> Progress:
    """The state of a search: trials by state, best so far, what is left of its time budget, forecast of the end."""
    return read_progress(*read_run(run_dir))
