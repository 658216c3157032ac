"""Runs what a worker has claimed: a trial of the search, or a confirmation or null run."""

from __future__ import annotations

import time
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState

from augscale.errors import AugscaleError, Paused
from augscale.networks.weights import save_weights
from augscale.pretraining.events import PretrainResult
from augscale.records.trial import TRIAL_FILE, RungRecord, State, TrialRecord
from augscale.runs.folders import RunFolder, now
from augscale.searching.confirm import ConfirmationRun
from augscale.searching.failures import is_machine_fault, reason_of
from augscale.searching.null import null_config
from augscale.searching.study import (
    HEARTBEAT_SECONDS,
    PRUNER_FACTOR,
    Claim,
    control_of,
    ranked,
    stopped_file,
    trials_started,
)
from augscale.searching.trial import new_record, run_trial, sidecar
from augscale.seeding import derive_seed
from augscale.system.passwords import without_passwords

if TYPE_CHECKING:
    from augscale.searching.worker import Worker


class ClaimedTrial:
    """A trial of the search that this worker has claimed: runs it and reports its result to Optuna."""

    def __init__(self, worker: Worker, claim: Claim) -> None:
        self.worker, self.claim = worker, claim
        self.directory = worker.run.trial_dir(claim.number)
        self.stopped = stopped_file(worker.run, claim.number)
        self.last_heartbeat = time.time()

    def run(self) -> None:
        """Runs the trial to its end.

        Raises:
            Paused: a signal came or the budget ended; the trial is left to the next worker.
            Exception: a cause in the machine, e.g. a full disk; the trial is left to the next worker, too.
        """
        worker, claim = self.worker, self.claim
        worker.stop.on_stop = self.stopped.touch
        if worker.stop():
            self.stopped.touch()
        name = claim.control or f"trial {claim.number}"
        worker.show(phase="search", name=name, number=claim.number, step=0, score=None, rung=0)
        try:
            record, result = self._train()
        except Paused as paused:
            self._leave(step=paused.step)
            raise
        except optuna.TrialPruned:
            record = TrialRecord.read(self.directory / TRIAL_FILE)
            self._tell(record.model_copy(update={"pruned_at": record.rungs[-1].step}), TrialState.PRUNED)
        except Exception as error:
            if worker.stop():
                # Helper processes receive the signal, too, and their end looks like an error here. A real error would
                # occur again.
                self._leave(reason=reason_of(error))
                raise Paused from error
            if is_machine_fault(error):
                # The trial continues from its saved state when the machine works again.
                self._leave(reason=reason_of(error))
                raise
            self._fail(error)
        else:
            save_weights(self.directory / "teacher.safetensors", result.backbone, sidecar(worker.context, record))
            self._tell(record, TrialState.COMPLETE)
            drop_weights(worker)
        worker.stop.on_stop = None
        for file in (self.directory / "state.pt", self.stopped):
            file.unlink(missing_ok=True)
        claim.lock.release()

    def _train(self) -> tuple[TrialRecord, PretrainResult]:
        worker, claim = self.worker, self.claim
        identity = {"number": claim.number, "control": claim.control, "params": claim.trial.params}
        seed = derive_seed(worker.config.search.seed, "trials")
        with worker.clock.phase("trials"):
            return run_trial(
                worker.context,
                new_record(claim.scales, seed, starts=claim.starts, **identity),
                self.directory,
                on_rung=self._on_rung,
                on_step=self._on_step,
                on_micro_batches=lambda chosen: worker.note_micro_batches(chosen, trial=claim.number),
                largest_micro_batch=worker.largest_micro_batch,
                should_stop=worker.should_stop,
            )

    def _on_rung(self, rung: RungRecord) -> None:
        worker, trial, score = self.worker, self.claim.trial, rung.score
        assert score is not None
        index = worker.context.rung_steps.index(rung.step)
        # Optuna's successive halving prunes at powers of its factor, so rung i is reported as step factor ** i.
        place = PRUNER_FACTOR**index
        if place not in worker.study.get_trials(deepcopy=False)[self.claim.number].intermediate_values:
            trial.report(score, place)
        worker.show(score=score, rung=index + 1)
        prune = trial.should_prune()
        if prune and not self.claim.control and rung.step < worker.config.pretrain.steps:
            raise optuna.TrialPruned

    def _on_step(self, step: int, loss: float) -> None:
        self.worker.show(step=step, loss=loss)
        if time.time() - self.last_heartbeat > HEARTBEAT_SECONDS:
            self.last_heartbeat = time.time()
            self.claim.trial.set_user_attr("heartbeat", self.last_heartbeat)

    def _leave(self, *, step: int | None = None, reason: str | None = None) -> None:
        """Pauses the trial. The next worker that claims it continues from its saved state; it has not failed."""
        worker, claim = self.worker, self.claim
        try:
            claim.trial.set_user_attr("paused", True)
            if step is not None:
                claim.trial.set_user_attr("paused_step", step)
        except optuna.exceptions.StorageInternalError:
            # The storage is out of reach, so a file in the run folder marks the pause.
            self.stopped.touch()
        fields = {"step": step, "reason": reason}
        worker.run.log("trial paused", trial=claim.number, **{k: v for k, v in fields.items() if v is not None})
        claim.lock.release()

    def _tell(self, record: TrialRecord, state: TrialState) -> None:
        worker, trial = self.worker, self.claim.trial
        if record.health is not None:
            trial.set_constraint("collapse", record.health.violation or 0.0)
        closed(record, "COMPLETE" if state == TrialState.COMPLETE else "PRUNED").keep(self.directory)
        score = record.rungs[-1].score
        if state == TrialState.COMPLETE:
            worker.study.tell(trial, score)
        else:
            worker.study.tell(trial, state=state)
        worker.run.log("trial finished", trial=self.claim.number, state=state.name, score=score)

    def _fail(self, error: Exception) -> None:
        worker, trial, reason = self.worker, self.claim.trial, reason_of(error)
        if not isinstance(error, AugscaleError):
            reason = f"{type(error).__name__}: {reason}"
            text = without_passwords(traceback.format_exc())
            (self.directory / "traceback.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
        record = TrialRecord.in_folder(self.directory)
        if record is not None:
            closed(record, "FAIL", reason).keep(self.directory)
        trial.set_user_attr("reason", reason)
        trial.set_user_attr("error", type(error).__name__)
        worker.study.tell(trial, state=TrialState.FAIL)
        worker.run.log("trial failed", trial=self.claim.number, reason=reason)


def run_confirmation(worker: Worker, confirmation: ConfirmationRun) -> None:
    """Runs a confirmation or null run that this worker has claimed.

    Raises:
        Paused: a signal came or the budget ended; the run is left to the next worker.
        Exception: a cause in the machine, e.g. a full disk; the run is left to the next worker, too.
    """
    event, context, directory = "confirmation", worker.context, confirmation.directory
    name = f"{confirmation.name}, seed {confirmation.seed_index + 1}"
    if confirmation.kind == "null":
        event, name = "null", f"{confirmation.name}, learning rate 0"
        context = replace(context, config=null_config(worker.config))
    worker.show(phase="confirm", name=name, number=confirmation.number, step=0, score=None, rung=0)
    identity = {key: getattr(confirmation, key) for key in ("name", "kind", "number", "seed_index")}
    new = new_record(confirmation.scales, confirmation.seed, **identity)
    try:
        with worker.clock.phase("confirmation"):
            record, _ = run_trial(
                context,
                new,
                directory,
                on_step=lambda step, loss: worker.show(step=step, loss=loss),
                on_micro_batches=lambda chosen: worker.note_micro_batches(chosen, confirmation=name),
                largest_micro_batch=worker.largest_micro_batch,
                should_stop=worker.should_stop,
            )
    except Paused:
        raise
    except Exception as error:
        if worker.stop():
            raise Paused from error  # see `ClaimedTrial.run`
        if is_machine_fault(error):
            raise
        failed = TrialRecord.in_folder(directory) or new
        closed(failed, "FAIL", f"{type(error).__name__}: {reason_of(error)}").keep(directory)
        worker.run.log(f"{event} failed", name=name, reason=reason_of(error))
    else:
        closed(record, "COMPLETE").keep(directory)
        worker.run.log(f"{event} finished", name=name, score=record.score)
    (directory / "state.pt").unlink(missing_ok=True)


def closed(record: TrialRecord, state: State, reason: str | None = None) -> TrialRecord:
    """The record of a run that has ended."""
    return record.model_copy(update={"state": state, "reason": reason, "finished": now()})


def drop_weights(worker: Worker) -> None:
    """Removes the weights of all but the controls and the best trials, unless the study keeps all."""
    search, run = worker.config.search, worker.run
    if search.keep_weights != "best":
        return
    with run.locked():
        keep = {trial.number for trial in ranked(worker.study)[: search.keep_best]}
        for trial in trials_started(worker.study):
            if trial.number not in keep and control_of(trial) is None and trial.state.is_finished():
                _remove_weights(run, trial.number)


def _remove_weights(run: RunFolder, number: int) -> None:
    for suffix in (".safetensors", ".json"):
        (run.trial_dir(number) / f"teacher{suffix}").unlink(missing_ok=True)
