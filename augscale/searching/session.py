"""One session of a search: from the start of the workers to the answer."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import optuna
from optuna.trial import FrozenTrial, TrialState

from augscale.config import StudyConfig
from augscale.errors import StudyError
from augscale.records.answer import AnswerRecord
from augscale.runs.folders import RunFolder, Stopwatch
from augscale.searching.answer import write_answer
from augscale.searching.display import SearchDisplay
from augscale.searching.failures import COLLAPSE_ADVICE, all_failed, failure_sentence, reason_to_stop
from augscale.searching.progress import Progress, read_progress, read_workers
from augscale.searching.storage import Storage, merge_write_ahead_log
from augscale.searching.study import is_feasible, trials_started
from augscale.searching.supervisor import supervise
from augscale.searching.trials_table import write_trials_table
from augscale.system.devices import WorkerPlan
from augscale.system.progress_bar import working


@dataclass(kw_only=True)
class Session:
    """A prepared search: `train`, then `answer`."""

    run: RunFolder
    config: StudyConfig
    study: optuna.Study
    address: Storage
    display: SearchDisplay
    watch: Stopwatch
    began: float = field(default_factory=time.time)
    """Start of the call in seconds since the epoch."""
    budget: str | None = None
    """Time for this call as it was given; None for no limit."""
    _snapshot: Progress | None = field(default=None, init=False)
    _seen: float = field(default=-1.0, init=False)
    """Modification time of the newest file that the current snapshot includes."""

    def train(self, plan: WorkerPlan, seconds_allowed: float | None) -> None:
        """Runs the workers until every trial and every confirmation run has ended, or the budget.

        Args:
            plan: devices and threads.
            seconds_allowed: time for this call, from its start; None for no limit.
        Raises:
            InterruptedRun: a signal came; everything is saved.
            StudyError: too many trials failed, or a worker ended with an error of its own.
        """
        started = trials_started(self.study)
        if all_failed(started):
            self._poll()
            if len(started) >= self.config.search.trials:
                return
            self._stop_if_hopeless()
        deadline = None if seconds_allowed is None else self.began + seconds_allowed
        self.display.deadline = deadline
        if deadline is not None and time.time() >= deadline:
            self.run.log("budget ended before the workers started")
            return
        with self.display.running():
            try:
                supervise(
                    self.run,
                    plan,
                    deadline=deadline,
                    on_poll=self._poll,
                    environment=self.address.environment,
                )
            except StudyError:
                write_trials_table(self.run, self.config, self.study)
                # The worker's own message may lack the reasons of trials that other workers ran.
                self._stop_if_hopeless()
                raise
        self.run.log("workers ended")

    def answer(self) -> AnswerRecord:
        """Writes and prints the answer, and writes the report.

        Raises:
            StudyError: no trial can be used.
        """
        from augscale.reporting.search.report import write_report
        from augscale.reporting.search.terminal import print_answer

        run = self.run
        write_trials_table(run, self.config, self.study)
        with (
            run.locked("answer"),
            working(self.display.console, "writing the answer and the report", self.display.quiet),
        ):
            before = AnswerRecord.read_if_there(run.answer_file)
            total = self.watch.seconds + (before.seconds.get("total", 0.0) if before else 0.0)
            answer = write_answer(run, self.config, self.study, {"total": total}, self.budget)
            write_report(run.path)
        if answer.best is None and answer.unfinished and answer.unfinished.trials:
            raise StudyError(f"{run.path}: {answer.headline.removesuffix('.')}")
        if answer.best is None:
            why = _why_no_trial_can_be_used(trials_started(self.study))
            raise StudyError(
                f"no trial can be used: {why}; see {run.trials_table}. After a cause outside of the study's settings "
                f"is removed, a higher --trials than {self.config.search.trials} tries again"
            )
        run.log("search finished", best=answer.best)
        merge_write_ahead_log(run)
        if not self.display.quiet:
            print_answer(answer, run.path, self.display.console)
        return answer

    def _poll(self) -> None:
        """Shows the search; reads the storage only when a trial has moved on, to take no time from the workers."""
        stamps = [path.stat().st_mtime for path in self.run.path.glob("trials/*/trial.json")]
        newest = max([*stamps, (self.run.path / "log.jsonl").stat().st_mtime])
        if self._snapshot is None or newest != self._seen:
            try:
                self._snapshot, self._seen = read_progress(self.run, self.config, self.study), newest
            except optuna.exceptions.StorageInternalError:
                # Only the workers need the database. A pause of it must not end this process, which only watches.
                if self._snapshot is None:
                    raise
        # The display knows the budget of this call.
        self.display.update(replace(self._snapshot, workers=read_workers(self.run), budget=None))

    def _stop_if_hopeless(self) -> None:
        reason = reason_to_stop(trials_started(self.study), self.config.search.max_failures, self.began)
        if reason:
            raise StudyError(f"{reason}; see {self.run.trials_table}") from None


def _why_no_trial_can_be_used(trials: list[FrozenTrial]) -> str:
    collapsed = [trial for trial in trials if trial.state == TrialState.COMPLETE and not is_feasible(trial)]
    reasons = [failure_sentence(trials)]
    if collapsed:
        reasons.append(f"{len(collapsed)} of {len(trials)} trials collapsed: {COLLAPSE_ADVICE}")
    return "; ".join(filter(None, reasons)) or "none has completed"
