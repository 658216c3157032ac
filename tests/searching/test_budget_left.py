"""What is left of a time budget, as another process sees it, and when a worker that joins ends."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from augscale.records.worker import WorkerRecord
from augscale.searching import budget_left as module
from augscale.searching import worker as worker_module
from augscale.searching.budget_left import budget_left, clock
from augscale.searching.introduction import say_other_calls
from augscale.searching.worker import joined_deadline, run_worker

REAL_LOCALTIME = time.localtime
NOW = time.mktime((2026, 11, 30, 12, 0, 0, 0, 0, -1))


@pytest.fixture(autouse=True)
def noon(monkeypatch):
    monkeypatch.setattr(module.time, "time", lambda: NOW)
    monkeypatch.setattr(module.time, "localtime", lambda seconds=NOW: REAL_LOCALTIME(seconds))


def _worker(deadline: float | None = None, age: float = 0.0, phase: str = "search") -> WorkerRecord:
    return WorkerRecord(host="here", pid=1, phase=phase, time=NOW - age, deadline=deadline)


def _words(*alive: WorkerRecord, ended: tuple[WorkerRecord, ...] = ()) -> str:
    return str(budget_left([*ended, *alive], alive))


def test_a_running_search_says_what_is_left_and_for_whom():
    assert _words(_worker(NOW + 330), _worker(NOW + 330)).startswith("budget ends in 5:30, at ")
    two = [_worker(NOW + 330), _worker()]
    mixed = budget_left(two, two)
    assert str(mixed).endswith("for 1 of 2 workers; the others have none")
    assert mixed.to_dict()["seconds_left"] == 330
    assert _words(_worker()) == "no budget"
    assert _words(_worker(NOW - 1)) == "budget ended, saving"


def test_a_stopped_search_says_when_its_budget_ended_or_that_some_was_left():
    early = _worker(None, age=9000, phase="done")
    ended = _words(ended=(early, _worker(NOW - 600, age=599, phase="done")))
    assert ended.startswith("no worker runs: the budget of the last call ended at ")
    assert ended.endswith("; the same command goes on, with a budget of its own")
    stopped = budget_left([early, _worker(NOW + 60, age=600, phase="done")], [])
    assert ", 11:00 before the end of its budget;" in str(stopped)
    assert stopped.seconds_left == 660
    assert _words(ended=(early,)) == "no worker runs: the same command goes on"


@pytest.mark.parametrize(
    ("others", "limited", "words"),
    [
        ([_worker(NOW + 60), _worker(NOW + 60)], True, "2 workers until 12:01:00; the budget of this call is its own"),
        ([_worker()], True, "1 worker without a budget; the budget of this call is its own"),
        (
            [_worker(NOW + 60), _worker()],
            False,
            "2 workers, 1 of them with a budget; this call has no budget and works to the end",
        ),
    ],
)
def test_a_second_call_names_the_budget_of_the_first(others, limited, words, monkeypatch):
    said: list[str] = []
    display = SimpleNamespace(say=said.append)
    say_other_calls(display, others, limited=limited)
    assert [line.strip() for line in said] == [f"another call works on this run, {words}"]
    say_other_calls(display, [], limited=limited)
    assert len(said) == 1


def test_nothing_is_said_before_a_worker_has_begun():
    assert budget_left([], []) is None


def test_the_time_has_a_date_on_another_day():
    assert len(clock(time.time())) == len("12:00:00")
    assert clock(time.time() - 3 * 86400).startswith("20")


@pytest.mark.parametrize(
    ("others", "deadline", "words"),
    [
        ([_worker(NOW + 60), _worker(NOW + 90)], NOW + 90, "this worker joins 2 until "),
        (
            [_worker(NOW + 60), _worker()],
            None,
            "no budget applies to this worker (not all workers that it joins have one)",
        ),
        ([], None, "no budget applies to this worker (no other worker runs)"),
    ],
)
def test_a_worker_started_by_hand_ends_with_those_that_it_joins(others, deadline, words, tmp_path, monkeypatch, capsys):
    assert joined_deadline(others) == deadline
    started: dict[str, object] = {}

    class Started:
        def __init__(self, run, **arguments) -> None:
            started.update(arguments)

        def work(self) -> None:
            """Nothing to do."""

    monkeypatch.setattr(worker_module, "Worker", Started)
    monkeypatch.setattr(worker_module, "read_workers", lambda run: others)
    run_worker(tmp_path, device="cpu", free_memory=1)
    assert (started["deadline"], started["num_workers"]) == (deadline, 1 + len(others))
    assert capsys.readouterr().out.startswith(words)
    run_worker(tmp_path, device="cpu", free_memory=1, parent=1)
    assert started["deadline"] is None, "a supervised worker has the budget of its call"
    assert capsys.readouterr().out == ""
