"""The Optuna study of a run: storage, controls first, and the claiming of trials by workers.

A worker claims a trial under one file lock: it first looks for trials whose worker has died and continues the
first of them, and only then asks for a new one. Without the lock, several workers on SQLite run some queued trials
twice. While it runs, a trial's own lock file is held by its worker; the operating system releases that lock when
the process dies, however it dies, so a dead worker is known at once. Workers on other hosts, or of another run folder
that shares the storage, are judged by the age of the heartbeat in the storage instead.
"""

from __future__ import annotations

import os
import sqlite3
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import optuna
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState

from augscale.augmentation.scales import AugmentationScales, load_scales
from augscale.config import SearchConfig, StudyConfig
from augscale.errors import StudyError
from augscale.runs import RunFolder, now, this_host, try_lock
from augscale.searching.space import distributions, params_from_scales, scales_from_params
from augscale.seeding import derive_seed

STARTS_ALLOWED = 2
"""A trial whose worker died is continued once; the second death makes it a failed trial."""
HEARTBEAT_SECONDS = 30.0
NAMELESS_SECONDS = 10.0
"""A trial that was asked for so long ago and still has no owner is one whose worker died in between."""
STALE_SECONDS = 600.0
"""A trial of another host without a heartbeat for so long counts as dead."""
PRUNER_FACTOR = 2
OUTSIDE = "outside the space"
"""Constraint that a control without parameters violates. It can win, but it is no place that the sampler could propose:
as one of the best trials it would take the room of those that the sampler learns from, and teach it nothing."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A trial that this worker, and no other, may run."""

    trial: optuna.Trial
    scales: AugmentationScales
    control: str | None
    starts: int
    lock: FileLock

    @property
    def number(self) -> int:
        return self.trial.number


def open_storage(url: str) -> optuna.storages.BaseStorage:
    """Opens the storage of a study.

    Args:
        url: an SQLAlchemy URL, e.g. sqlite:///runs/default/study.db or postgresql://host/db.
    Raises:
        StudyError: the storage cannot be opened; the message says why, without the password.
    """
    # Several workers write to one SQLite file: wait for its lock rather than fail.
    sqlite = {"connect_args": {"timeout": 120, "factory": _Connection}}
    arguments: dict[str, Any] = sqlite if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=arguments)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StudyError(f"--storage {_without_password(url)}: cannot be opened ({reason})") from error


class _Connection(sqlite3.Connection):
    """SQLite with a write-ahead log: a commit need not wait for the disk, and Optuna makes twenty per trial.

    What was committed outlives its process, however that dies. A power cut may take the last trials' entries, never
    the file; those trials then run again.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # While another connection writes, a file without the log cannot get one and says so; it works as it is.
        with suppress(sqlite3.OperationalError):
            (mode,) = self.execute("PRAGMA journal_mode=WAL").fetchone()
            if mode == "wal":
                self.execute("PRAGMA synchronous=NORMAL")


def open_study(config: StudyConfig, storage_url: str, study_name: str) -> optuna.Study:
    """Creates the study, or opens it where it exists."""
    return optuna.create_study(
        storage=open_storage(storage_url),
        study_name=study_name,
        direction="maximize",
        load_if_exists=True,
        sampler=_sampler(config.search, 0),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=PRUNER_FACTOR)
        if config.search.prune
        else optuna.pruners.NopPruner(),
    )


def enqueue_controls(study: optuna.Study, run: RunFolder, config: StudyConfig) -> None:
    """Queues the controls, once, so that they are the first trials of the study."""
    with run.locked():
        known = {trial.user_attrs.get("control") for trial in study.get_trials(deepcopy=False)}
        for control in config.search.controls:
            if control not in known:
                # A control outside the space has no parameters: the sampler must not learn from a false place.
                params = params_from_scales(config.space, load_scales(control)) or {}
                study.enqueue_trial(params, user_attrs={"control": control})


def claim_trial(study: optuna.Study, run: RunFolder, config: StudyConfig, *, ask: bool = True) -> Claim | None:
    """Continues a trial whose worker died or paused, else asks for a new one.

    Args:
        ask: False only continues interrupted trials (when the time budget is used up).
    Returns:
        The claim, or None when the wanted total is reached or nothing may be asked.
    Raises:
        StudyError: the last `search.max_failures` trials all failed.
    """
    with run.locked():
        trials = study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state == TrialState.RUNNING and (claim := _continue(study, run, config, trial)):
                return claim
        started = [trial for trial in trials if trial.state != TrialState.WAITING]
        if not ask or len(started) >= config.search.trials:
            return None
        _stop_after_failures(started, config.search.max_failures)
        study.sampler = _sampler(config.search, len(started))
        return _start(study, run, config)


def running_elsewhere(study: optuna.Study) -> bool:
    """Whether any trial is being run now."""
    return any(t.state == TrialState.RUNNING for t in study.get_trials(deepcopy=False))


def trials_started(study: optuna.Study) -> list[FrozenTrial]:
    """Every trial that was ever started, in order of number."""
    return [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a finished trial may win: it did not collapse. Controls outside the space may, too."""
    return all(value <= 0 for name, value in trial.constraints.items() if name != OUTSIDE)


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials that did not collapse, best score first."""
    usable = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if is_feasible(trial) and trial.value is not None
    ]
    return sorted(usable, key=lambda trial: (-float(trial.value or 0.0), trial.number))


def trial_scales(config: StudyConfig, trial: FrozenTrial) -> AugmentationScales:
    """The scales that a trial trains with."""
    control = trial.user_attrs.get("control")
    return load_scales(control) if control else scales_from_params(config.space, trial.params)


def _start(study: optuna.Study, run: RunFolder, config: StudyConfig) -> Claim:
    trial = study.ask()
    control = trial.user_attrs.get("control")
    _suggest(trial, config)
    trial.set_user_attr("host", this_host())
    trial.set_user_attr("run", str(run.path.resolve()))
    trial.set_user_attr("starts", 1)
    trial.set_user_attr("heartbeat", time.time())
    lock = try_lock(run.trial_dir(trial.number) / "lock")
    if lock is None:
        raise StudyError(f"{run.trial_dir(trial.number)}: the lock of a new trial is held by another process")
    scales = load_scales(control) if control else scales_from_params(config.space, trial.params)
    return Claim(trial=trial, scales=scales, control=control, starts=1, lock=lock)


def _continue(study: optuna.Study, run: RunFolder, config: StudyConfig, frozen: FrozenTrial) -> Claim | None:
    """The trial of a worker that is gone; None where it still runs or has died too often."""
    attributes = frozen.user_attrs
    here = (this_host(), str(run.path.resolve()))
    owner = (attributes.get("host"), attributes.get("run"))
    # Another host, or another run folder on this one that shares the storage: its lock files are not to be seen here.
    if None in owner:
        started = frozen.datetime_start.timestamp() if frozen.datetime_start else 0.0
        if time.time() - started < NAMELESS_SECONDS:
            return None
    elif owner != here and time.time() - attributes.get("heartbeat", 0.0) < STALE_SECONDS:
        return None
    lock = try_lock(run.trial_dir(frozen.number) / "lock")
    if lock is None:
        return None
    if study.get_trials(deepcopy=False)[frozen.number].state != TrialState.RUNNING:
        # Told and released between the listing and the lock: finished, not dead.
        lock.release()
        return None
    trial = optuna.Trial(study, frozen._trial_id)
    starts = int(attributes.get("starts", 1)) + (0 if attributes.get("paused") else 1)
    if starts > STARTS_ALLOWED:
        trial.set_user_attr("reason", f"its worker died {STARTS_ALLOWED} times")
        study.tell(trial, state=TrialState.FAIL)
        run.log("trial failed", trial=frozen.number, reason=f"its worker died {STARTS_ALLOWED} times")
        lock.release()
        return None
    claimed = {"host": here[0], "run": here[1], "starts": starts, "paused": False, "heartbeat": time.time()}
    for name, value in claimed.items():
        trial.set_user_attr(name, value)
    control = attributes.get("control")
    _suggest(trial, config)  # a worker killed between asking and suggesting leaves some parameters open
    run.log("trial continued", trial=frozen.number, start=starts, time_of_claim=now(), pid=os.getpid())
    scales = load_scales(control) if control else scales_from_params(config.space, trial.params)
    return Claim(trial=trial, scales=scales, control=control, starts=starts, lock=lock)


def _suggest(trial: optuna.Trial, config: StudyConfig) -> None:
    """Draws the trial's parameters; a control outside the space has none."""
    control = trial.user_attrs.get("control")
    if control is not None and not params_from_scales(config.space, load_scales(control)):
        # By far the worst of those that violate anything, in case all others have collapsed.
        if OUTSIDE not in trial.constraints:
            trial.set_constraint(OUTSIDE, 1e6)
        return
    for name, distribution in distributions(config.space).items():
        trial.suggest_float(name, distribution.low, distribution.high)


def _sampler(search: SearchConfig, trials_so_far: int) -> optuna.samplers.BaseSampler:
    """A sampler whose draws depend on the study's seed and the number of trials, not on who asks."""
    seed = derive_seed(search.seed, "sampler", trials_so_far) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if search.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if search.sampler == "qmc":
            # The sequence must be one and the same for all workers.
            fixed = derive_seed(search.seed, "sampler") % 2**32
            return optuna.samplers.QMCSampler(seed=fixed, scramble=True, warn_independent_sampling=False)
        # group: controls without parameters must not empty the joint space that is modelled.
        return optuna.samplers.TPESampler(
            seed=seed,
            # Optuna counts the controls, too.
            n_startup_trials=search.startup_trials + len(search.controls),
            multivariate=True,
            group=True,
            constant_liar=True,
        )


def _stop_after_failures(started: list[FrozenTrial], limit: int) -> None:
    finished = [trial for trial in started if trial.state.is_finished()][-limit:]
    if len(finished) == limit and all(trial.state == TrialState.FAIL for trial in finished):
        reason = finished[-1].user_attrs.get("reason", "no reason recorded")
        raise StudyError(f"the last {limit} trials failed; the newest, trial {finished[-1].number}: {reason}")


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    scheme, separator, user = head.partition("://")
    return f"{scheme}{separator}{user.split(':')[0]}{at}{tail}" if at else url
