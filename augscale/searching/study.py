"""The Optuna study of a run: storage, controls first, and the claiming of trials by workers.

A worker claims a trial under one file lock: it first looks for trials whose worker has died and continues the
first of them, and only then asks for a new one. Without the lock, several workers on SQLite run some queued trials
twice. While it runs, a trial's own lock file is held by its worker; the operating system releases that lock when
the process dies, however it dies, so a dead worker is known at once. Workers on other hosts, or of another run folder
that shares the storage, are judged by the age of the heartbeat in the storage instead.
"""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState

from augscale.augmentation.scales import AugmentationScales, load_scales
from augscale.config import SearchConfig, StudyConfig
from augscale.errors import StudyError
from augscale.runs.folders import RunFolder, now, this_host, try_lock
from augscale.searching.failures import reason_to_stop
from augscale.searching.space import distributions, params_from_scales, scales_from_params
from augscale.searching.storage import Storage, open_storage
from augscale.seeding import derive_seed

STARTS_ALLOWED = 2
"""A trial whose worker died is continued once; the second death makes it a failed trial."""
HEARTBEAT_SECONDS = 30.0
NAMELESS_SECONDS = 10.0
"""A trial that was asked for so long ago and still has no owner is one whose worker died in between."""
STALE_SECONDS = 600.0
"""A trial of another host without a heartbeat for so long counts as dead."""
PRUNER_FACTOR = 2
CONTROLS_SECONDS = 30.0
"""How long a host waits for the one that began the study to queue the controls."""
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


def begin_study(
    run: RunFolder, config: StudyConfig, storage: str | Storage | optuna.storages.BaseStorage, study_name: str
) -> optuna.Study:
    """Opens the study with its controls queued, by whoever comes first where several hosts begin at once."""
    storage = _opened(storage)
    try:
        optuna.create_study(storage=storage, study_name=study_name, direction="maximize")
    except optuna.exceptions.DuplicatedStudyError:
        study = open_study(config, storage, study_name)
        end = time.monotonic() + CONTROLS_SECONDS
        # Should the one that began it have died meanwhile, they are queued below.
        while not set(config.search.controls) <= _queued_controls(study) and time.monotonic() < end:
            time.sleep(0.2)
    else:
        study = open_study(config, storage, study_name)
    enqueue_controls(study, run, config)
    return study


def open_study(
    config: StudyConfig, storage: str | Storage | optuna.storages.BaseStorage, study_name: str
) -> optuna.Study:
    """Creates the study, or opens it where it exists.

    Args:
        storage: a URL, a checked address, or one that is open.
    Raises:
        StudyError: the storage cannot be opened.
    """
    return optuna.create_study(
        storage=_opened(storage),
        study_name=study_name,
        direction="maximize",
        load_if_exists=True,
        sampler=_sampler(config.search, 0),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=PRUNER_FACTOR)
        if config.search.prune
        else optuna.pruners.NopPruner(),
    )


def enqueue_controls(study: optuna.Study, run: RunFolder, config: StudyConfig) -> None:
    """Queues the controls so that they are the first trials of the study; once, and once more where one has failed."""
    with run.locked():
        trials = [t for t in study.get_trials(deepcopy=False) if "control" in t.user_attrs]
        known = {t.user_attrs["control"] for t in trials if t.state != TrialState.FAIL}
        failed = Counter(t.user_attrs["control"] for t in trials if t.state == TrialState.FAIL)
        # One that failed gets a second chance: what made it fail, say too little memory, may have been mended.
        known |= {control for control, times in failed.items() if times > 1}
        for control in config.search.controls:
            if control not in known:
                # A control outside the space has no parameters: the sampler must not learn from a false place.
                params = params_from_scales(config.space, load_scales(control)) or {}
                study.enqueue_trial(params, user_attrs={"control": control})


def _opened(storage: str | Storage | optuna.storages.BaseStorage) -> optuna.storages.BaseStorage:
    return open_storage(storage) if isinstance(storage, str | Storage) else storage


def _queued_controls(study: optuna.Study) -> set[str]:
    return {trial.user_attrs["control"] for trial in study.get_trials(deepcopy=False) if "control" in trial.user_attrs}


def claim_trial(
    study: optuna.Study, run: RunFolder, config: StudyConfig, *, ask: bool = True, since: float = 0.0
) -> Claim | None:
    """Continues a trial whose worker died or paused, else asks for a new one.

    Args:
        ask: False only continues interrupted trials (when the time budget is used up).
        since: seconds since the epoch; trials that failed before do not count as a reason to stop.
    Returns:
        The claim, or None when the wanted total is reached or nothing may be asked.
    Raises:
        StudyError: the last `search.max_failures` trials that ended all failed, or one by an error of the settings.
    """
    with run.locked():
        trials = study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state == TrialState.RUNNING and (claim := _continue(study, run, config, trial)):
                return claim
        started = [trial for trial in trials if trial.state != TrialState.WAITING]
        if not ask or len(started) >= config.search.trials:
            return None
        if reason := reason_to_stop(started, config.search.max_failures, since):
            raise StudyError(reason)
        study.sampler = _sampler(config.search, len(started))
        return _start(study, run, config)


def stopped_file(run: RunFolder, number: int) -> Path:
    """Says that the worker of a trial was told to stop: however it ends then, that is no fault of the trial.

    Written the moment the signal comes. A scheduler kills what has not ended some time after its signal, and SIGKILL
    says nothing of who sent it; out of the blue it counts as a death of the trial, for so does the kernel's
    out-of-memory killer end a process, and a trial that takes too much memory must not be tried for ever.
    """
    return run.trial_dir(number) / "stopped"


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
    # In this order: other hosts take a trial with an owner and no heartbeat for one whose worker has died.
    trial.set_user_attr("heartbeat", time.time())
    trial.set_user_attr("starts", 1)
    trial.set_user_attr("run", str(run.path.resolve()))
    trial.set_user_attr("host", this_host())
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
        if _seconds_since_sign_of_life(frozen) < NAMELESS_SECONDS:
            return None
    elif owner != here and not _put_aside_here(run, frozen) and _seconds_since_sign_of_life(frozen) < STALE_SECONDS:
        return None
    lock = try_lock(run.trial_dir(frozen.number) / "lock")
    if lock is None:
        return None
    if study.get_trials(deepcopy=False)[frozen.number].state != TrialState.RUNNING:
        # Told and released between the listing and the lock: finished, not dead.
        lock.release()
        return None
    trial = optuna.Trial(study, frozen._trial_id)
    stopped = stopped_file(run, frozen.number)
    starts = int(attributes.get("starts", 1)) + (0 if attributes.get("paused") or stopped.exists() else 1)
    stopped.unlink(missing_ok=True)
    if starts > STARTS_ALLOWED:
        trial.set_user_attr("reason", f"its worker died {STARTS_ALLOWED} times")
        study.tell(trial, state=TrialState.FAIL)
        run.log("trial failed", trial=frozen.number, reason=f"its worker died {STARTS_ALLOWED} times")
        lock.release()
        return None
    claimed = {"host": here[0], "run": here[1], "starts": starts, "paused": False, "heartbeat": time.time()}
    claimed |= {"paused_step": None} if attributes.get("paused_step") is not None else {}
    for name, value in claimed.items():
        trial.set_user_attr(name, value)
    control = attributes.get("control")
    _suggest(trial, config)  # a worker killed between asking and suggesting leaves some parameters open
    run.log("trial continued", trial=frozen.number, start=starts, time_of_claim=now(), pid=os.getpid())
    scales = load_scales(control) if control else scales_from_params(config.space, trial.params)
    return Claim(trial=trial, scales=scales, control=control, starts=starts, lock=lock)


def _seconds_since_sign_of_life(trial: FrozenTrial) -> float:
    started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return time.time() - float(trial.user_attrs.get("heartbeat", started))


def _put_aside_here(run: RunFolder, trial: FrozenTrial) -> bool:
    """Whether a trial was paused in good order in this very folder, under another name of the host or the folder."""
    return bool(trial.user_attrs.get("paused")) and (run.trial_dir(trial.number) / "state.pt").exists()


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
