"""A worker: claims trials until none are left, then confirmation runs.

Workers share the run folder and the storage, nothing else. The supervisor starts `python -m augscale worker RUN ...`
once per GPU or core; the same command joins a search from another terminal, where the password of a storage must be in
the environment. `worker_runs` runs what a worker has claimed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import torch

from augscale.config import load_study
from augscale.errors import InterruptedRun, Paused
from augscale.pretraining.micro_batches import MicroBatches
from augscale.records.manifest import ManifestRecord
from augscale.records.panel import UntrainedRecord
from augscale.records.worker import WorkerRecord, worker_file
from augscale.runs.folders import RunFolder, this_host, try_lock
from augscale.searching.budget import Budget
from augscale.searching.budget_left import budget_left, clock
from augscale.searching.confirm import (
    ConfirmationRun,
    claim_confirmation,
    confirm_seed,
    control_runs,
    plan_confirmation,
)
from augscale.searching.failures import all_failed
from augscale.searching.null import null_runs
from augscale.searching.phases import PhaseClock
from augscale.searching.progress import read_workers
from augscale.searching.storage import run_storage
from augscale.searching.study import any_running, claim_trial, open_study, trials_started
from augscale.searching.trial import build_context, score_untrained
from augscale.searching.worker_runs import ClaimedTrial, run_confirmation
from augscale.seeding import derive_seed
from augscale.system.memory import memory_limit
from augscale.system.signals import StopFlag

POLL_SECONDS = 0.2


class Worker:
    """Runs trials of one study on one device.

    Args:
        run: a prepared run folder.
        device: e.g. "cpu" or "cuda:1".
        num_workers: workers that share the work, for the forecast of the time budget.
        deadline: seconds since the epoch at which the worker saves and ends; None for no limit.
        free_memory: bytes that this worker may use where the study sets no limit; None: measured before every trial.
        stop: returns True when the worker has to save and stop.
    """

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
        self.run, self.budget = run, Budget(deadline=deadline, workers=num_workers)
        self.started = time.time()
        self.stop = stop or StopFlag()
        self.config = load_study(run.study_file)
        manifest = ManifestRecord.read(run.manifest_file)
        self.study = open_study(self.config, run_storage(run, manifest.storage), manifest.study_name)
        self._status = WorkerRecord(host=this_host(), pid=os.getpid(), device=device, deadline=deadline)
        self.show(phase="starting")
        self.context = build_context(run, self.config, device, free_memory)
        self.nulls = null_runs(run, self.config)
        self.largest_micro_batch: int | None = None
        """Micro-batch size in images of the last trial whose size memory limited; later trials begin with it."""
        self.clock = PhaseClock()
        run.log("worker ready", pid=os.getpid())

    def work(self) -> None:
        """Searches, then confirms. While there is no trial to run, it confirms controls or scores untrained networks.

        At the end of the time budget what runs is saved, and the worker returns.

        Raises:
            InterruptedRun: a signal came; everything is saved.
            StudyError: too many trials failed in a row, or the storage is out of reach.
        """
        try:
            self._search()
            self._confirm()
        except Paused:
            if not self.stop():
                self.run.log("budget ended", pid=os.getpid())
                return
            number = self.stop.signal_number or int(signal.SIGTERM)
            name = signal.Signals(number).name
            raise InterruptedRun(f"stopped by {name}; the running trial is saved", number) from None
        finally:
            self.show(phase="done")
            self.run.log("worker done", pid=os.getpid(), seconds=self.clock.seconds())

    def should_stop(self) -> bool:
        """True if the worker has to save and end: after a signal, or at the end of the time budget."""
        return self.stop() or self.budget.has_ended

    def show(self, **fields: Any) -> None:
        """Writes what this worker is doing, for the live display and `augscale status`."""
        self._status = self._status.model_copy(update=fields | {"time": time.time()})
        self._status.write(worker_file(self.run, os.getpid()))

    def note_micro_batches(self, chosen: MicroBatches, **whose: Any) -> None:
        """Shows and logs a micro-batch size that memory has limited, and keeps it for later trials."""
        self.show(micro_batches=str(chosen) if chosen.changes else None)
        if chosen.changes:
            self.largest_micro_batch = chosen.size
            self.run.log("micro-batches", **whose, number=chosen.number, size=chosen.size, **vars(chosen.changes[-1]))

    def _search(self) -> None:
        while True:
            if self.should_stop():
                raise Paused
            with self.clock.phase("claiming"):
                ask = self.budget.allows_a_trial(self.run, self.config, self.study)
                claim = claim_trial(self.study, self.run, self.config, ask=ask, since=self.started)
            if claim is not None:
                with self.clock.phase("telling"):
                    ClaimedTrial(self, claim).run()
            elif any_running(self.study):
                # If another worker dies, this one continues its trial. Until then it does work that needs no trial.
                certain = [*self.nulls, *control_runs(self.run, self.config, self.study)]
                if not self._confirm_one(certain):
                    self._score_untrained_or_wait()
            else:
                return

    def _confirm(self) -> None:
        """Works until all null and confirmation runs have ended and all untrained networks are scored by any worker."""
        if all_failed(trials_started(self.study)):
            return  # there is nothing to compare
        runs = list(self.nulls)
        runs += plan_confirmation(self.run, self.config, self.study) if self.config.confirm.seeds else []
        while not (all(confirmation.has_ended for confirmation in runs) and self._untrained_is_scored()):
            if self.should_stop():
                raise Paused
            # What training has gained is measured against these networks: they come first where time may be short.
            if self.budget.deadline is not None and self._score_untrained_if_free():
                continue
            if not self._confirm_one(runs):
                self._score_untrained_or_wait()

    def _confirm_one(self, runs: list[ConfirmationRun]) -> bool:
        """Runs the first one that has not ended and that no other worker holds; returns False if there is none."""
        claimed = claim_confirmation(runs)
        if claimed is None:
            return False
        confirmation, lock = claimed
        try:
            with self.clock.phase("telling"):
                run_confirmation(self, confirmation)
        finally:
            lock.release()
        return True

    def _score_untrained_or_wait(self) -> None:
        """Scores the next untrained network: that of the trials' seed first, then those of the fresh seeds.

        The work is short and nothing waits for it, so it is done while there is nothing else to do.
        """
        if not self._score_untrained_if_free():
            self.show(phase="waiting")
            with self.clock.phase("waiting"):
                time.sleep(POLL_SECONDS)

    def _score_untrained_if_free(self) -> bool:
        """Scores the next untrained network; returns False if all are scored or another worker scores one."""
        lock = None if self._untrained_is_scored() else try_lock(self.run.path / "untrained.lock")
        if lock is None:
            return False
        try:
            if not self._untrained_is_scored():
                self.show(phase="scoring untrained networks")
                with self.clock.phase("untrained"):
                    self._score_untrained()
        finally:
            lock.release()
        return True

    def _score_untrained(self) -> None:
        file, search = self.run.untrained_file, self.config.search
        known = UntrainedRecord.read_if_there(file)
        if known is None:
            first = score_untrained(self.context, derive_seed(search.seed, "trials"))
            UntrainedRecord.model_validate(dict(first)).write(file)
        else:
            scored = score_untrained(self.context, confirm_seed(search, len(known.confirm)))
            known.model_copy(update={"confirm": (*known.confirm, scored)}).write(file)

    def _untrained_is_scored(self) -> bool:
        known = UntrainedRecord.read_if_there(self.run.untrained_file)
        return known is not None and len(known.confirm) >= self.config.confirm.seeds


def run_worker(
    run_dir: Path,
    *,
    device: str,
    threads: int | None = None,
    num_workers: int = 1,
    deadline: float | None = None,
    free_memory: int | None = None,
    sharing: int = 1,
    parent: int | None = None,
) -> None:
    """Runs a worker. It saves and stops at a signal, and when the process that started it dies.

    Args:
        run_dir: a run folder prepared by `search`.
        device: e.g. "cpu" or "cuda:1".
        threads: CPU threads; None keeps torch's choice.
        num_workers: how many workers share the work, for the forecast of the time budget.
        deadline: seconds since the epoch at which the worker saves and ends; None for no limit, or, without a parent,
            for that of the workers that it joins.
        free_memory: bytes that this worker may use where the study sets no limit; None: measured now.
        sharing: number of workers on this GPU, among which its free memory is divided when it is measured.
        parent: id of the process whose end makes this one save and stop.
    """
    if parent is None and deadline is None:
        others = read_workers(RunFolder(run_dir))
        deadline, num_workers = joined_deadline(others), num_workers + len(others)
        print(_joining_words(len(others), deadline), flush=True)
    if Budget(deadline=deadline).has_ended:
        return  # the start of a process took what was left
    if threads:
        torch.set_num_threads(threads)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    stop = StopFlag(parent=parent)
    stop.install()
    # Measured once, so that all trials get the same micro-batches: later the other workers use some of the memory.
    free_memory = free_memory or memory_limit(None, torch.device(device), sharing=sharing)
    worker = Worker(
        RunFolder(run_dir),
        device=device,
        num_workers=num_workers,
        deadline=deadline,
        free_memory=free_memory,
        stop=stop,
    )
    worker.work()


def joined_deadline(others: Sequence[WorkerRecord]) -> float | None:
    """When a worker ends that joins others: with the last of them; None if one of them has no budget, or none runs."""
    known = budget_left(others, others)
    return known.common_end if known else None


def _joining_words(others: int, deadline: float | None) -> str:
    """One line on the time budget of a worker that was started by hand."""
    if deadline is not None:
        return f"this worker joins {others} until {clock(deadline)}, the end of the search's budget"
    why = "not all workers that it joins have one" if others else "no other worker runs"
    return f"no budget applies to this worker ({why}): it works until the search has ended, or a signal comes"
