"""A worker: claims trials until none are left, then confirmation runs.

Everything that a worker shares with others is in the run folder and the storage; `worker_process` starts one.
"""

from __future__ import annotations

import math
import os
import signal
import statistics
import time
import traceback
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import TrialState

from augscale.config import StudyConfig, load_study
from augscale.errors import AugscaleError, InterruptedRun, Paused
from augscale.networks.weights import save_weights
from augscale.pretraining.micro_batches import MicroBatches
from augscale.runs.files import read_json, write_json
from augscale.runs.folders import RunFolder, this_host, try_lock
from augscale.searching.confirm import (
    ConfirmationRun,
    claim_confirmation,
    confirm_seed,
    control_runs,
    expected_runs,
    is_finished,
    plan_confirmation,
)
from augscale.searching.failures import all_failed, is_of_the_machine, reason_of
from augscale.searching.null import null_config, null_runs
from augscale.searching.phases import PhaseClock
from augscale.searching.storage import run_storage
from augscale.searching.study import (
    HEARTBEAT_SECONDS,
    PRUNER_FACTOR,
    Claim,
    claim_trial,
    open_study,
    ranked,
    running_elsewhere,
    stopped_file,
    trials_started,
)
from augscale.searching.trial import TrialContext, build_context, close_record, run_trial, score_untrained, sidecar
from augscale.seeding import derive_seed
from augscale.system.passwords import without_passwords
from augscale.system.signals import StopFlag

POLL_SECONDS = 0.2


class Worker:
    """Runs trials of one study on one device."""

    def __init__(
        self,
        run: RunFolder,
        *,
        device: str,
        num_workers: int = 1,
        deadline: float | None = None,
        free_memory: int | None = None,
        stop: StopFlag | None = None,
    ) -> None:
        manifest = read_json(run.manifest_file)
        self.run = run
        self.started = time.time()
        self.num_workers = num_workers
        self.deadline = deadline
        self.stop = stop or StopFlag()
        self.config: StudyConfig = load_study(run.study_file)
        self.study = open_study(self.config, run_storage(run, manifest), manifest["study_name"])
        self._progress: dict[str, Any] = {"host": this_host(), "pid": os.getpid(), "device": device}
        self._show(phase="starting")
        self.context: TrialContext = build_context(run, self.config, device, free_memory)
        self.nulls = null_runs(run, self.config)
        self.largest_micro_batch: int | None = None
        """Images that memory allowed at last, where it decided; later trials begin with them."""
        self.clock = PhaseClock()
        run.log("worker ready", pid=os.getpid())

    def work(self) -> None:
        """Search, then confirm; rather than wait, confirm controls already, or score untrained networks.

        Raises:
            InterruptedRun: a signal came; everything is saved.
            StudyError: too many trials failed in a row, or the storage is out of reach.
        """
        try:
            self._search()
            self._confirm()
        except Paused:
            number = self.stop.signal_number or int(signal.SIGTERM)
            name = signal.Signals(number).name
            raise InterruptedRun(f"stopped by {name}; the running trial is saved", number) from None
        finally:
            self._show(phase="done")
            self.run.log("worker done", pid=os.getpid(), seconds=self.clock.seconds())

    def _search(self) -> None:
        while True:
            if self.stop():
                raise Paused
            with self.clock.phase("claiming"):
                claim = claim_trial(self.study, self.run, self.config, ask=not self._over_budget(), since=self.started)
            if claim is not None:
                with self.clock.phase("telling"):
                    self._run_claim(claim)
            elif running_elsewhere(self.study):
                # The other worker may die; its trial would then be this one's to finish. Meanwhile there is something
                # to do that no trial decides about.
                certain = [*self.nulls, *control_runs(self.run, self.config, self.study)]
                if not self._confirm_one(certain):
                    self._score_untrained_or_wait()
            else:
                return

    def _run_claim(self, claim: Claim) -> None:
        directory, stopped = self.run.trial_dir(claim.number), stopped_file(self.run, claim.number)
        name = claim.control or f"trial {claim.number}"
        self.stop.on_stop = stopped.touch
        if self.stop():
            stopped.touch()
        last_heartbeat = time.time()

        def on_rung(rung: dict[str, Any]) -> None:
            index = self.context.rung_steps.index(rung["step"])
            if not math.isfinite(rung["score"]):
                raise AugscaleError(f"score is {rung['score']} at step {rung['step']}")
            # Successive halving knows powers of its factor; the rungs are numbered in them.
            if PRUNER_FACTOR**index not in self.study.get_trials(deepcopy=False)[claim.number].intermediate_values:
                claim.trial.report(rung["score"], PRUNER_FACTOR**index)
            self._show(score=rung["score"], rung=index + 1)
            prune = claim.trial.should_prune()
            if prune and not claim.control and rung["step"] < self.config.pretrain.steps:
                raise optuna.TrialPruned

        def on_step(step: int, loss: float) -> None:
            nonlocal last_heartbeat
            self._show(step=step, loss=loss)
            if time.time() - last_heartbeat > HEARTBEAT_SECONDS:
                last_heartbeat = time.time()
                claim.trial.set_user_attr("heartbeat", last_heartbeat)

        def on_micro_batches(chosen: MicroBatches) -> None:
            self._note_micro_batches(chosen, trial=claim.number)

        self._show(phase="search", name=name, number=claim.number, step=0, score=None, rung=0)
        fields = {"number": claim.number, "control": claim.control, "params": claim.trial.params}
        try:
            with self.clock.phase("trials"):
                record, result = run_trial(
                    self.context,
                    claim.scales,
                    directory=directory,
                    seed=derive_seed(self.config.search.seed, "trials"),
                    fields=fields | {"starts": claim.starts},
                    on_rung=on_rung,
                    on_step=on_step,
                    on_micro_batches=on_micro_batches,
                    largest_micro_batch=self.largest_micro_batch,
                    should_stop=self.stop,
                )
        except Paused as paused:
            self._put_aside(claim, step=paused.step)
            raise
        except optuna.TrialPruned:
            record = read_json(directory / "trial.json")
            record["pruned_at"] = record["rungs"][-1]["step"]
            self._tell(claim, record, TrialState.PRUNED)
        except Exception as error:
            if self.stop():
                # Helper processes get the signal, too, and their end looks like an error here. Were it another, it
                # would come again.
                self._put_aside(claim, reason=reason_of(error))
                raise Paused from error
            if is_of_the_machine(error):
                # The trial is as good as before: it goes on from its state when the machine is in order again.
                self._put_aside(claim, reason=reason_of(error))
                raise
            self._fail(claim, error)
        else:
            save_weights(directory / "teacher.safetensors", result.backbone, sidecar(self.context, record))
            self._tell(claim, record, TrialState.COMPLETE)
            self._drop_weights()
        self.stop.on_stop = None
        for file in (directory / "state.pt", stopped):
            file.unlink(missing_ok=True)
        claim.lock.release()

    def _put_aside(self, claim: Claim, *, step: int | None = None, reason: str | None = None) -> None:
        """Leaves a trial, for no fault of its own, to whoever claims next; it goes on from its state."""
        try:
            claim.trial.set_user_attr("paused", True)
            if step is not None:
                claim.trial.set_user_attr("paused_step", step)
        except optuna.exceptions.StorageInternalError:
            # A storage that is out of reach is why: what says so lies in the run folder then.
            stopped_file(self.run, claim.number).touch()
        fields = {"step": step, "reason": reason}
        self.run.log("trial paused", trial=claim.number, **{key: v for key, v in fields.items() if v is not None})
        claim.lock.release()

    def _tell(self, claim: Claim, record: dict[str, Any], state: TrialState) -> None:
        health = record["health"]
        if health is not None:
            claim.trial.set_constraint("collapse", float(health["violation"]))
        close_record(self.run.trial_dir(claim.number), record, state.name)
        score = record["rungs"][-1]["score"]
        if state == TrialState.COMPLETE:
            self.study.tell(claim.trial, score)
        else:
            self.study.tell(claim.trial, state=state)
        self.run.log("trial finished", trial=claim.number, state=state.name, score=score)

    def _fail(self, claim: Claim, error: Exception) -> None:
        directory = self.run.trial_dir(claim.number)
        reason = reason_of(error)
        if not isinstance(error, AugscaleError):
            reason = f"{type(error).__name__}: {reason}"
            text = without_passwords(traceback.format_exc())
            (directory / "traceback.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
        record = read_json(directory / "trial.json")
        if record is not None:
            close_record(directory, record, "FAIL", reason)
        claim.trial.set_user_attr("reason", reason)
        claim.trial.set_user_attr("error", type(error).__name__)
        self.study.tell(claim.trial, state=TrialState.FAIL)
        self.run.log("trial failed", trial=claim.number, reason=reason)

    def _drop_weights(self) -> None:
        """Keeps the weights of the controls and of the best trials only, unless the study keeps all."""
        if self.config.search.keep_weights != "best":
            return
        with self.run.locked():
            order = ranked(self.study)
            keep = {trial.number for trial in order[: self.config.search.keep_best]}
            for trial in trials_started(self.study):
                if trial.number not in keep and trial.user_attrs.get("control") is None and trial.state.is_finished():
                    for suffix in (".safetensors", ".json"):
                        (self.run.trial_dir(trial.number) / f"teacher{suffix}").unlink(missing_ok=True)

    def _confirm(self) -> None:
        """Until every null and confirmation run has ended and every untrained network is scored, whoever does it."""
        if all_failed(trials_started(self.study)):
            return  # there is nothing to compare
        runs = list(self.nulls)
        runs += plan_confirmation(self.run, self.config, self.study) if self.config.confirm.seeds else []
        while not (all(is_finished(confirmation) for confirmation in runs) and self._untrained_is_scored()):
            if self.stop():
                raise Paused
            if not self._confirm_one(runs):
                self._score_untrained_or_wait()

    def _confirm_one(self, runs: list[ConfirmationRun]) -> bool:
        """Does the first run that is neither finished nor another worker's; False where there is none."""
        claimed = claim_confirmation(runs)
        if claimed is None:
            return False
        confirmation, lock = claimed
        try:
            with self.clock.phase("telling"):
                self._run_confirmation(confirmation)
        finally:
            lock.release()
        return True

    def _score_untrained_or_wait(self) -> None:
        """Scores the next of the networks that trials and confirmation runs start from, one for each seed, and of more.

        Short work that nothing else depends on: it is left for the time in which there is nothing else to do.
        """
        lock = None if self._untrained_is_scored() else try_lock(self.run.path / "untrained.lock")
        if lock is None:
            self._wait()
            return
        try:
            if self._untrained_is_scored():
                return
            known, search = read_json(self.run.untrained_file), self.config.search
            self._show(phase="scoring untrained networks")
            with self.clock.phase("untrained"):
                if known is None:
                    known = score_untrained(self.context, derive_seed(search.seed, "trials")) | {"confirm": []}
                else:
                    seed = confirm_seed(search, len(known["confirm"]))
                    known["confirm"].append(score_untrained(self.context, seed))
                write_json(self.run.untrained_file, known)
        finally:
            lock.release()

    def _untrained_is_scored(self) -> bool:
        known = read_json(self.run.untrained_file)
        return known is not None and len(known["confirm"]) >= self.config.confirm.seeds

    def _run_confirmation(self, confirmation: ConfirmationRun) -> None:
        event, context = "confirmation", self.context
        name = f"{confirmation.name}, seed {confirmation.seed_index + 1}"
        if confirmation.kind == "null":
            event, name = "null", f"{confirmation.name}, learning rate 0"
            context = replace(context, config=null_config(self.config))
        self._show(phase="confirm", name=name, number=confirmation.number, step=0, score=None, rung=0)
        fields = {"name": confirmation.name, "kind": confirmation.kind, "number": confirmation.number}
        fields |= {"seed_index": confirmation.seed_index, "control": None, "params": {}}
        try:
            with self.clock.phase("confirmation"):
                record, _ = run_trial(
                    context,
                    confirmation.scales,
                    directory=confirmation.directory,
                    seed=confirmation.seed,
                    fields=fields,
                    on_step=lambda step, loss: self._show(step=step, loss=loss),
                    on_micro_batches=lambda chosen: self._note_micro_batches(chosen, confirmation=name),
                    largest_micro_batch=self.largest_micro_batch,
                    should_stop=self.stop,
                )
        except Paused:
            raise
        except Exception as error:
            if self.stop():
                raise Paused from error  # see `_run_claim`
            if is_of_the_machine(error):
                raise
            record = read_json(confirmation.directory / "trial.json") or dict(fields)
            close_record(confirmation.directory, record, "FAIL", f"{type(error).__name__}: {reason_of(error)}")
            self.run.log(f"{event} failed", name=name, reason=reason_of(error))
        else:
            close_record(confirmation.directory, record, "COMPLETE")
            self.run.log(f"{event} finished", name=name, score=record["final"]["score"])
        (confirmation.directory / "state.pt").unlink(missing_ok=True)

    def _wait(self) -> None:
        self._show(phase="waiting")
        with self.clock.phase("waiting"):
            time.sleep(POLL_SECONDS)

    def _note_micro_batches(self, chosen: MicroBatches, **whose: Any) -> None:
        """Shown and logged where memory has decided, and kept for the trials to come."""
        self._show(micro_batches=str(chosen) if chosen.changes else None)
        if chosen.changes:
            self.largest_micro_batch = chosen.size
            self.run.log("micro-batches", **whose, number=chosen.number, size=chosen.size, **vars(chosen.changes[-1]))

    def _over_budget(self) -> bool:
        """Whether a new trial would leave too little time for itself and the confirmation."""
        if self.deadline is None:
            return False
        complete = [
            record["seconds"]
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if (record := read_json(self.run.trial_dir(trial.number) / "trial.json"))
        ]
        full_trial = statistics.median(complete) if complete else 0.0
        runs = len(self.nulls) + expected_runs(self.config, self.study)
        rounds = 1 + math.ceil(runs / self.num_workers)
        return time.time() + rounds * full_trial > self.deadline

    def _show(self, **fields: Any) -> None:
        """Writes what this worker is doing, for the live display and `augscale status`."""
        self._progress |= fields | {"time": time.time()}
        write_json(self.run.workers_dir / f"{this_host()}-{os.getpid()}.json", self._progress)
