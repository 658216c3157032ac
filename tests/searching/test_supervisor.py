"""Signals to workers, and workers that were told to stop; no trial is trained here."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState

from augscale.config import load_study
from augscale.errors import ConfigError, InterruptedRun, Paused
from augscale.records.worker import WorkerRecord
from augscale.runs.folders import RunFolder
from augscale.searching import supervisor, worker_runs
from augscale.searching.phases import PhaseClock
from augscale.searching.storage import sqlite_storage
from augscale.searching.study import claim_trial, enqueue_controls, open_study, stopped_file
from augscale.searching.worker import Worker
from augscale.searching.worker_runs import ClaimedTrial
from augscale.system.devices import WorkerPlan
from augscale.system.signals import StopFlag

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


@pytest.mark.parametrize(("ends", "code"), [
    ("sys.exit(138)", 138),  # saved and stopped
    ("os.kill(os.getpid(), signal.SIGUSR1); time.sleep(9)", 138),  # before it had a handler
    ("sys.exit(143)", 143),
])  # fmt: skip
def test_a_signal_to_a_worker_alone_stops_the_search_as_one_to_all_does(run, monkeypatch, ends, code):
    started = []

    def start(*_):
        program = f"import os, signal, sys, time; {ends if not started else 'time.sleep(60)'}"
        started.append(subprocess.Popen([sys.executable, "-S", "-c", program]))
        return started[-1]

    monkeypatch.setattr(supervisor, "_start", start)
    plan = WorkerPlan(devices=("cpu", "cpu"), threads=1)
    with pytest.raises(InterruptedRun) as error:
        supervisor.supervise(run, plan, deadline=None, on_poll=lambda: None)
    assert error.value.exit_code == code
    assert len(started) == 2, "nobody is started in its place"
    assert started[1].poll() is not None, "the other one was told, too"


class _Trained(Worker):
    """A worker without images or networks, for a trial that ends as it is told."""

    def __init__(self, run: RunFolder, stop: StopFlag) -> None:
        self.run, self.stop, self.clock = run, stop, PhaseClock()
        self.config = load_study("smoke")
        self.study = open_study(self.config, sqlite_storage(run.database), "test")
        enqueue_controls(self.study, run, self.config)
        self.context = SimpleNamespace(rung_steps=[])
        self.largest_micro_batch, self._status = None, WorkerRecord(host="here", pid=1)


def _run_one(run: RunFolder, monkeypatch, stop: StopFlag, ends) -> tuple[_Trained, BaseException | None]:
    def trial(context, record, directory: Path, **_):
        record.keep(directory)
        ends(directory)

    monkeypatch.setattr(worker_runs, "run_trial", trial)
    trained = _Trained(run, stop)
    claim = claim_trial(trained.study, run, trained.config)
    try:
        ClaimedTrial(trained, claim).run()
    except Exception as error:
        return trained, error
    return trained, None


def test_an_error_after_a_stop_signal_is_no_failure_of_the_trial(run, monkeypatch):
    """The signal goes to every process of a step; those that load or compile die of it, which looks like an error."""
    stop = StopFlag()

    def ends(directory: Path) -> None:
        stop._set(10, None)
        assert (directory / "stopped").exists(), "also should SIGKILL follow before it is saved"
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated")

    trained, error = _run_one(run, monkeypatch, stop, ends)
    assert isinstance(error, Paused)
    assert trained.study.trials[0].state == TrialState.RUNNING
    again = claim_trial(trained.study, run, trained.config)
    assert (again.number, again.starts) == (0, 1)
    assert not stopped_file(run, 0).exists()


def test_a_trial_whose_worker_is_killed_after_a_stop_signal_has_not_died(run, monkeypatch):
    stop = StopFlag()

    def ends(_: Path) -> None:
        stop._set(10, None)
        raise KeyboardInterrupt  # as SIGKILL: nothing is told

    with pytest.raises(KeyboardInterrupt):
        _run_one(run, monkeypatch, stop, ends)
    for lock in run.path.glob("trials/*/lock"):
        lock.unlink()  # the operating system releases it
    config = load_study("smoke")
    again = claim_trial(open_study(config, sqlite_storage(run.database), "test"), run, config)
    assert (again.number, again.starts) == (0, 1)


def test_a_storage_that_is_out_of_reach_is_no_failure_of_the_trial(run, monkeypatch):
    def ends(_: Path) -> None:
        raise optuna.exceptions.StorageInternalError("the server has gone away")

    trained, error = _run_one(run, monkeypatch, StopFlag(), ends)
    assert isinstance(error, optuna.exceptions.StorageInternalError)
    assert trained.study.trials[0].state == TrialState.RUNNING


def test_an_error_of_the_settings_is_kept_as_one(run, monkeypatch):
    def ends(_: Path) -> None:
        raise ConfigError("pretrain.max_memory = 1MB: too little")

    trained, error = _run_one(run, monkeypatch, StopFlag(), ends)
    assert error is None
    assert trained.study.trials[0].user_attrs["error"] == "ConfigError"


def test_files_of_the_working_folder_replace_no_module_of_a_worker(run, monkeypatch, tmp_path):
    started = {}

    def popen(command, *, env, **_):
        started.update(command=command, env=env)
        return SimpleNamespace(pid=1)

    run.workers_dir.mkdir(parents=True, exist_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(supervisor.subprocess, "Popen", popen)
        supervisor._start(run, WorkerPlan(devices=("cpu",), threads=1), 0, None, {})
    folder = tmp_path / "scripts"
    folder.mkdir()
    for name in ("typer.py", "queue.py", "augscale.py"):
        (folder / name).write_text("raise SystemExit('a file of the user')")
    module = started["command"][: started["command"].index("augscale") + 1]
    worker = subprocess.run([*module, "--version"], cwd=folder, env=started["env"], capture_output=True, text=True)
    assert (worker.returncode, worker.stdout.split()[0]) == (0, "augscale"), worker.stderr
