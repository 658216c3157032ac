"""The Optuna study of a run: its storage, its controls, and the claiming of trials by workers.

A worker claims a trial under one file lock: it first looks for a trial whose worker has died and continues it, and
only then asks for a new one. Without the lock, several workers on SQLite run some queued trials twice. A worker holds
the lock file of its trial while it runs; the operating system releases the lock when the process dies, however it
dies, so a dead worker is known at once. Workers on other hosts, and of another run folder that shares the storage,
are judged by the age of the heartbeat in the storage.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState

from augscale.augmentation.scales import AugmentationScales, load_scales
from augscale.config import StudyConfig
from augscale.errors import StudyError
from augscale.runs.folders import RunFolder, now, this_host, try_lock
from augscale.searching.failures import reason_to_stop
from augscale.searching.samplers import build_sampler
from augscale.searching.space import params_from_scales, scales_from_params, searched
from augscale.searching.storage import Storage, open_storage

STARTS_ALLOWED = 2
"""A trial whose worker died is continued once; the second death makes it a failed trial."""
HEARTBEAT_SECONDS = 30.0
OWNERLESS_SECONDS = 10.0
"""If a trial still has no owner this long after it was created, its worker counts as dead."""
STALE_SECONDS = 600.0
"""The worker of a trial on another host counts as dead after this long without a heartbeat."""
PRUNER_FACTOR = 2
CONTROLS_SECONDS = 30.0
"""Longest time that a host waits for another host, which created the study, to queue the controls."""
OUTSIDE = "outside the space"
"""Constraint that a control outside the space violates. Such a control can win, but has no parameters: among the best
trials it would displace trials that the sampler learns from."""


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
    """Opens the study with its controls queued; where several hosts begin at once, the first one queues them."""
    storage = _opened(storage)
    try:
        optuna.create_study(storage=storage, study_name=study_name, direction="maximize")
    except optuna.exceptions.DuplicatedStudyError:
        study = open_study(config, storage, study_name)
        end = time.monotonic() + CONTROLS_SECONDS
        # If the host that created it has died meanwhile, the controls are queued below.
        while time.monotonic() < end and not _controls_are_queued(study, config):
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
        config: settings of the sampler and the pruner.
        storage: a URL, a checked address, or an open storage.
        study_name: in the storage.
    Raises:
        StudyError: the storage cannot be opened.
    """
    return optuna.create_study(
        storage=_opened(storage),
        study_name=study_name,
        direction="maximize",
        load_if_exists=True,
        sampler=build_sampler(config, 0),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=PRUNER_FACTOR)
        if config.search.prune
        else optuna.pruners.NopPruner(),
    )


def enqueue_controls(study: optuna.Study, run: RunFolder, config: StudyConfig) -> None:
    """Queues the controls as the first trials of the study; a control that failed once is queued again."""
    with run.locked():
        trials = study.get_trials(deepcopy=False)
        known = {control_of(t) for t in trials if t.state != TrialState.FAIL}
        failed = Counter(control_of(t) for t in trials if t.state == TrialState.FAIL)
        # The cause of a failure, e.g. too little memory, may have been removed.
        known |= {control for control, times in failed.items() if times > 1}
        for control in config.search.controls:
            if control not in known:
                # A control outside the space has no parameters: the sampler must not learn from a wrong place.
                params = _control_params(config, control) or {}
                study.enqueue_trial(params, user_attrs={"control": control})


def _controls_are_queued(study: optuna.Study, config: StudyConfig) -> bool:
    return set(config.search.controls) <= {control_of(trial) for trial in study.get_trials(deepcopy=False)}


def _opened(storage: str | Storage | optuna.storages.BaseStorage) -> optuna.storages.BaseStorage:
    return open_storage(storage) if isinstance(storage, str | Storage) else storage


def claim_trial(
    study: optuna.Study, run: RunFolder, config: StudyConfig, *, ask: bool = True, since: float = 0.0
) -> Claim | None:
    """Continues a trial whose worker died or paused, else asks for a new one.

    Args:
        study: from `open_study`.
        run: its run folder.
        config: its settings.
        ask: False: only interrupted trials are continued, because the time budget is used up.
        since: start of this session in seconds since the epoch, see `reason_to_stop`.
    Returns:
        The claim, or None when the wanted number of trials has started or no new one may be asked for.
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
        study.sampler = build_sampler(config, len(started))
        return _start(study, run, config)


def stopped_file(run: RunFolder, number: int) -> Path:
    """A file that marks a trial whose worker was told to stop, so that its end does not count against the trial.

    It is written as soon as the stop signal arrives, because a scheduler sends SIGKILL some time later. A SIGKILL
    without this file counts as a death of the trial: the kernel's out-of-memory killer sends SIGKILL, too, and a trial
    that needs too much memory must not be tried forever.
    """
    return run.trial_dir(number) / "stopped"


def any_running(study: optuna.Study) -> bool:
    """True if any trial is running, in any process."""
    return any(t.state == TrialState.RUNNING for t in study.get_trials(deepcopy=False))


def trials_started(study: optuna.Study) -> list[FrozenTrial]:
    """Every trial that was ever started, in order of number."""
    return [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]


def control_of(trial: FrozenTrial | optuna.Trial) -> str | None:
    """The name of the control that a trial is, None for a trial with searched scales."""
    control: str | None = trial.user_attrs.get("control")
    return control


def is_feasible(trial: FrozenTrial) -> bool:
    """True if a finished trial may win, i.e. did not collapse. Controls outside the space may win, too."""
    return all(value <= 0 for name, value in trial.constraints.items() if name != OUTSIDE)


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials that did not collapse, best score first."""
    usable = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if is_feasible(trial) and trial.value is not None
    ]
    return sorted(usable, key=lambda trial: (-float(trial.value or 0.0), trial.number))


def trial_scales(config: StudyConfig, trial: FrozenTrial | optuna.Trial) -> AugmentationScales:
    """The scales that a trial trains with."""
    control = control_of(trial)
    return load_scales(control) if control else scales_from_params(config.space, trial.params)


def _start(study: optuna.Study, run: RunFolder, config: StudyConfig) -> Claim:
    trial = study.ask()
    _suggest(trial, config)
    # The heartbeat is set first: other hosts would take a trial with an owner and no heartbeat for abandoned.
    trial.set_user_attr("heartbeat", time.time())
    trial.set_user_attr("starts", 1)
    trial.set_user_attr("run", str(run.path.resolve()))
    trial.set_user_attr("host", this_host())
    lock = try_lock(run.trial_dir(trial.number) / "lock")
    if lock is None:
        raise StudyError(f"{run.trial_dir(trial.number)}: the lock of a new trial is held by another process")
    return Claim(trial=trial, scales=trial_scales(config, trial), control=control_of(trial), starts=1, lock=lock)


def _continue(study: optuna.Study, run: RunFolder, config: StudyConfig, frozen: FrozenTrial) -> Claim | None:
    """Claims the trial of a worker that is gone; None if the worker may be alive or the trial has died too often."""
    attributes, here = frozen.user_attrs, (this_host(), str(run.path.resolve()))
    lock = None if _may_live(run, frozen, here) else try_lock(run.trial_dir(frozen.number) / "lock")
    if lock is None:
        return None
    if study.get_trials(deepcopy=False)[frozen.number].state != TrialState.RUNNING:
        # It ended between the listing and the lock.
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
    _suggest(trial, config)  # a worker killed between asking and suggesting leaves some parameters open
    run.log("trial continued", trial=frozen.number, start=starts, time_of_claim=now(), pid=os.getpid())
    return Claim(trial=trial, scales=trial_scales(config, trial), control=control_of(trial), starts=starts, lock=lock)


def _may_live(run: RunFolder, trial: FrozenTrial, here: tuple[str, str]) -> bool:
    """True if the worker of a running trial may be alive, as far as this is known without the lock of the trial.

    Lock files of another host, or of another run folder that shares the storage, cannot be seen here.
    """
    started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    silence = time.time() - float(trial.user_attrs.get("heartbeat", started))
    owner = (trial.user_attrs.get("host"), trial.user_attrs.get("run"))
    if None in owner:
        return silence < OWNERLESS_SECONDS
    # A trial that was paused in this very folder may have been owned by another name of the host or of the folder.
    paused_here = trial.user_attrs.get("paused") and (run.trial_dir(trial.number) / "state.pt").exists()
    return owner != here and not paused_here and silence < STALE_SECONDS


def _suggest(trial: optuna.Trial, config: StudyConfig) -> None:
    """Draws the trial's parameters; a control outside the space has none."""
    control = control_of(trial)
    if control is not None and _control_params(config, control) is None:
        # The largest violation by far, in case all other trials have collapsed.
        if OUTSIDE not in trial.constraints:
            trial.set_constraint(OUTSIDE, 1e6)
        return
    for name, distribution in searched(config).items():
        trial.suggest_float(name, distribution.low, distribution.high)


def _control_params(config: StudyConfig, control: str) -> dict[str, float] | None:
    """The parameters of a control, None where it lies outside the space."""
    return params_from_scales(config.space, load_scales(control), local_crops=config.draws_local_crops)
