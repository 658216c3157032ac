"""Confirmation: controls already while other workers still run trials; the same results, once, also after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from augscale.config import load_study
from augscale.errors import CheckpointError, InterruptedRun
from augscale.runs.files import read_json
from augscale.runs.folders import RunFolder
from augscale.searching import worker_runs
from augscale.searching.confirm import expected_runs, plan_confirmation
from augscale.searching.prepare import prepare_run
from augscale.searching.progress import read_progress
from augscale.searching.storage import sqlite_storage
from augscale.searching.study import claim_trial, enqueue_controls, open_study
from augscale.searching.worker import Worker
from augscale.system.signals import StopFlag

CONTROLS = ("weak", "strong")
SETTINGS = {"search.trials": 4, "search.controls": list(CONTROLS), "search.null_trials": 0}


class Search:
    """A search whose trials are told by hand, so that only confirmation runs are trained."""

    def __init__(self, path, **settings):
        self.run, self.config = RunFolder(path), load_study("smoke", SETTINGS | settings)
        manifest = prepare_run(self.run, self.config, storage=None, parameters=1, device_label="cpu")
        self.study = open_study(self.config, sqlite_storage(self.run.database), manifest.study_name)
        enqueue_controls(self.study, self.run, self.config)

    def run_trials(self, number: int) -> None:
        for _ in range(number):
            self.finish(self.claim())

    def claim(self):
        return claim_trial(self.study, self.run, self.config)

    def finish(self, claim) -> None:
        self.study.tell(claim.trial, 1.0 + claim.number)
        claim.lock.release()

    def work(self, until=None) -> None:
        """One worker in this process, stopped as by a signal once `until` is true."""
        worker = Worker(self.run, device="cpu", free_memory=10**12, stop=until and _Stop(until))
        with suppress(InterruptedRun):
            worker.work()

    def confirmed(self) -> dict[tuple[str, int], dict]:
        """What a finished confirmation run found, without the time it took; by contender and seed."""
        records = [read_json(path) for path in sorted(self.run.confirm_dir.glob("*/trial.json"))]
        return {
            (record["name"], record["seed_index"]): {
                "seed": record["seed"], "scales": record["scales"],
                "final": record["final"], "finished": record["finished"],
            }
            for record in records if record["state"] == "COMPLETE"
        }  # fmt: skip

    def logged(self, event: str) -> list[dict]:
        lines = [json.loads(line) for line in (self.run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line["event"] == event]


class _Stop(StopFlag):
    def __init__(self, condition):
        super().__init__()
        self.condition = condition

    def __call__(self) -> bool:
        if self.condition():
            self.signal_number = signal.SIGTERM
        return super().__call__()


@pytest.fixture
def search(tmp_path):
    return lambda name, **settings: Search(tmp_path / name, **settings)


def _without_time(found):
    return {key: value | {"finished": None} for key, value in found.items()}


def _confirmed_afterwards(path, **settings):
    """What the same search finds that is confirmed after its trials, by one worker."""
    one = Search(path, **settings)
    one.run_trials(4)
    one.work()
    return _without_time(one.confirmed())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return _confirmed_afterwards(tmp_path_factory.mktemp("plain") / "run")


def test_controls_are_confirmed_while_another_worker_runs_a_trial_and_only_once(search, plain):
    early = search("early")
    early.run_trials(3)
    running = early.claim()
    early.work(until=lambda: len(early.confirmed()) == 4)
    before = early.confirmed()
    assert set(before) == {(name, seed) for name in CONTROLS for seed in (0, 1)}
    assert read_json(early.run.confirm_dir / "plan.json") is None, "the best are not known yet"
    assert read_progress(early.run, early.config, early.study).confirmations_done == 4

    early.finish(running)
    early.work()
    after = early.confirmed()
    assert {key: after[key] for key in before} == before, "not run again"
    assert _without_time(after) == plain
    assert {name for name, _ in after} == {*CONTROLS, "trial 3"}
    assert len(early.logged("confirmation finished")) == 6


def test_a_control_that_no_candidate_reaches_is_confirmed_though_nobody_asked(search):
    settings = {"search.controls": ["none", "weak", "strong", "weak+med"], "search.trials": 6, "confirm.seeds": 1}
    led = search("led", **settings)
    scores = {"none": 0.1, "weak": 0.7, "strong": 0.5, "weak+med": 0.9}
    for _ in range(6):
        claim = led.claim()
        led.study.tell(claim.trial, scores.get(claim.control, 0.2 * (claim.number - 2)))  # trials 4 and 5: 0.4, 0.6
        claim.lock.release()
    top_k, asked_for = led.config.confirm.top_k, led.config.confirm.controls
    assert (top_k, asked_for) == (1, CONTROLS)
    assert expected_runs(led.config, led.study) == 4
    assert {run.name for run in plan_confirmation(led.run, led.config, led.study)} == {
        "trial 5", "weak", "strong", "weak+med"
    }  # fmt: skip


def test_a_worker_that_still_has_nothing_to_do_scores_untrained_networks(search):
    waiting = search("waiting")
    waiting.run_trials(3)
    running = waiting.claim()  # its lock is held as long as this lives
    scored = waiting.run.untrained_file
    waiting.work(until=lambda: len((read_json(scored) or {"confirm": []})["confirm"]) == 2)
    assert len(waiting.confirmed()) == 4
    untrained = read_json(scored)
    assert len({entry["score"] for entry in (untrained, *untrained["confirm"])}) == 3, "all different networks"
    waiting.finish(running)
    waiting.work()
    assert read_json(scored) == untrained


def test_a_control_that_runs_or_collapsed_is_not_confirmed_early(search):
    early = search("collapsed")
    weak, strong = early.claim(), early.claim()
    weak.trial.set_constraint("collapse", 1.0)
    early.finish(weak)
    early.run_trials(2)
    # Only untrained networks are left to do.
    early.work(until=lambda: early.run.untrained_file.exists())
    assert early.confirmed() == {}
    early.finish(strong)
    early.work()
    assert {name for name, _ in early.confirmed()} == {"strong", "trial 3"}


def test_more_trials_afterwards_keep_the_early_runs(search):
    early = search("more")
    early.run_trials(3)
    running = early.claim()
    early.work(until=lambda: len(early.confirmed()) == 2)
    before = early.confirmed()
    early.finish(running)
    more = search("more", **{"search.trials": 6})
    more.run_trials(2)
    more.work()
    after = more.confirmed()
    assert {key: after[key] for key in before} == before
    assert {name for name, _ in after} == {*CONTROLS, "trial 5"}
    assert len(more.logged("confirmation finished")) == 6


def test_after_a_kill_in_an_early_run_it_goes_on_from_its_checkpoint(search, tmp_path):
    longer = {"pretrain.steps": 40, "confirm.seeds": 1}
    killed = search("killed", **longer)
    killed.run_trials(3)
    running = killed.claim()
    process = _worker(killed.run)
    try:
        _wait_for(lambda: list(killed.run.confirm_dir.glob("*/state.pt")))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (state,) = killed.run.confirm_dir.glob("*/state.pt")
    assert read_json(state.parent / "trial.json")["state"] == "RUNNING"
    killed.finish(running)
    killed.work()
    found, wanted = killed.confirmed(), _confirmed_afterwards(tmp_path / "plain", **longer)
    assert found.keys() == wanted.keys()
    for key, record in found.items():
        assert (record["seed"], record["scales"]) == (wanted[key]["seed"], wanted[key]["scales"])
        # Begun in another process, where memory lies otherwise and products may round otherwise.
        assert record["final"]["score"] == pytest.approx(wanted[key]["final"]["score"], abs=5e-3)
    assert not list(killed.run.confirm_dir.glob("*/state.pt"))


def test_an_early_run_that_is_stopped_goes_on_from_its_checkpoint(search, plain):
    stopped = search("stopped")
    stopped.run_trials(3)
    running = stopped.claim()
    stopped.work(until=lambda: bool(list(stopped.run.confirm_dir.glob("*/state.pt"))))
    assert len(list(stopped.run.confirm_dir.glob("*/state.pt"))) == 1
    stopped.finish(running)
    stopped.work()
    assert _without_time(stopped.confirmed()) == plain


def _worker(run: RunFolder) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "augscale", "worker", str(run.path), "--threads", "1"]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)


def _wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def test_a_full_disk_ends_the_worker_and_costs_no_trial_and_no_confirmation(search, monkeypatch):
    full = search("full", **{"search.trials": 3, "search.controls": ["strong"], "confirm.controls": ["strong"]})
    real = worker_runs.run_trial

    def disk_is_full(*arguments, **options):
        raise CheckpointError("state.pt: cannot be written (No space left on device)")

    for done in (0, 3):
        monkeypatch.setattr(worker_runs, "run_trial", disk_is_full)
        for _ in range(3):
            with pytest.raises(CheckpointError, match="No space left"):
                full.work()
        states = [trial.state.name for trial in full.study.get_trials(deepcopy=False)]
        assert states == ["RUNNING"] if done == 0 else states == ["COMPLETE"] * 3
        assert full.confirmed() == {}
        monkeypatch.setattr(worker_runs, "run_trial", real)
        if done == 0:
            claim = full.claim()
            assert (claim.number, claim.starts) == (0, 1)
            full.finish(claim)
            full.run_trials(2)
    full.work()
    assert len(full.confirmed()) == 4


def test_who_was_confirmed_stays_a_contender_when_later_trials_score_higher(search):
    first = search("grown")
    first.run_trials(4)
    assert [run.name for run in plan_confirmation(first.run, first.config, first.study)][:3] == [
        "trial 3", "strong", "weak"
    ]  # fmt: skip
    more = first.config.model_copy(update={"search": first.config.search.model_copy(update={"trials": 6})})
    first.config = more
    first.run_trials(2)
    names = {run.name for run in plan_confirmation(first.run, more, first.study)}
    assert names == {"trial 5", "strong", "weak", "trial 3"}
