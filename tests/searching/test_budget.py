"""The time budget: trials until searched scales are tried, then room for the confirmation; all is saved at its end."""

from __future__ import annotations

import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from tiny_runs import searched

from augscale.augmentation.scales import card_warning
from augscale.config import load_study
from augscale.errors import StudyError
from augscale.records.answer import AnswerRecord, UnfinishedRecord
from augscale.records.confirmation import PlanRecord
from augscale.records.trial import RungRecord, TrialRecord
from augscale.runs.files import read_json
from augscale.runs.folders import RunFolder
from augscale.searching import budget as budget_module
from augscale.searching.answer_words import unfinished_sentence
from augscale.searching.budget import RESERVE, Budget, full_run_seconds, unfinished_work
from augscale.searching.confirm import complete_seeds, open_confirmations, plan_confirmation
from augscale.searching.read_run import status
from augscale.searching.storage import sqlite_storage
from augscale.searching.study import claim_trial, enqueue_controls, open_study

SETTINGS = {"search.controls": ["weak", "strong"], "search.trials": 10, "search.null_trials": 1}
NOW = 1_000_000.0
RUN_SECONDS = 100.0


class Begun:
    """A search whose trials are told by hand; each takes `RUN_SECONDS`."""

    def __init__(self, path: Path, **settings) -> None:
        self.run, self.config = RunFolder(path), load_study("smoke", SETTINGS | settings)
        self.run.create()
        self.study = open_study(self.config, sqlite_storage(self.run.database), "test")
        enqueue_controls(self.study, self.run, self.config)

    def end_trials(self, number: int, state: TrialState = TrialState.COMPLETE) -> None:
        for _ in range(number):
            claim = claim_trial(self.study, self.run, self.config)
            self.record(self.run.trial_dir(claim.number), number=claim.number)
            self.study.tell(claim.trial, 1.0 if state == TrialState.COMPLETE else None, state=state)
            claim.lock.release()

    def record(self, folder: Path, *, number: int = 0, state: str = "COMPLETE") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        rungs = (RungRecord(step=self.config.pretrain.steps, score=1.0),)
        TrialRecord(number=number, scales={}, rungs=rungs, seconds=RUN_SECONDS, state=state).keep(folder)

    def allowed(self, seconds: float, workers: int = 1) -> bool:
        return Budget(deadline=NOW + seconds, workers=workers).allows_a_trial(self.run, self.config, self.study)


@pytest.fixture
def begun(tmp_path, monkeypatch):
    monkeypatch.setattr(budget_module.time, "time", lambda: NOW)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return lambda **settings: Begun(tmp_path / "run", **settings)


def test_until_searched_scales_are_tried_trials_begin_up_to_the_deadline(begun):
    """Time that is kept for the confirmation of controls alone would never give an answer."""
    search = begun()
    assert search.allowed(1.0), "nothing is known of the time of a run"
    search.end_trials(2)
    assert search.allowed(1.0)
    assert not search.allowed(0.0)
    assert Budget().allows_a_trial(search.run, search.config, search.study), "without a budget nothing is kept"


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED])
def test_then_a_trial_begins_only_if_null_and_confirmation_fit_behind_it(begun, state):
    search = begun()
    search.end_trials(2)
    search.end_trials(1, state)
    # Itself, one null run, and three contenders on two seeds.
    needed = RESERVE * (1 + 1 + 6) * RUN_SECONDS
    assert search.allowed(needed + 1.0)
    assert not search.allowed(needed - 1.0)
    two_workers = RESERVE * (1 + 4) * RUN_SECONDS
    assert search.allowed(two_workers + 1.0, workers=2)
    assert not search.allowed(two_workers - 1.0, workers=2)


def test_runs_that_have_ended_need_no_time(begun):
    search = begun()
    search.end_trials(3)
    search.record(search.run.null_dir / "0000")
    runs = plan_confirmation(search.run, search.config, search.study)
    search.record(runs[0].directory)
    assert open_confirmations(search.run, search.config, search.study) == (5, 6)
    needed = RESERVE * (1 + 5) * RUN_SECONDS
    assert search.allowed(needed + 1.0)
    assert not search.allowed(needed - 1.0)


def test_a_study_of_controls_alone_keeps_time_for_their_confirmation(begun):
    search = begun(**{"search.trials": 2, "search.null_trials": 0})
    search.end_trials(1)
    needed = RESERVE * (1 + 4) * RUN_SECONDS
    assert search.allowed(needed + 1.0)
    assert not search.allowed(needed - 1.0)


def test_the_time_of_a_run_is_known_from_its_first_rung_on(begun):
    search = begun()
    assert full_run_seconds(search.run, search.config) is None
    folder = search.run.trial_dir(0)
    folder.mkdir(parents=True)
    TrialRecord(number=0, scales={}, seconds=3.0).keep(folder)
    assert full_run_seconds(search.run, search.config) is None
    TrialRecord(number=0, scales={}, seconds=20.0, rungs=(RungRecord(step=2, score=1.0),)).keep(folder)
    assert full_run_seconds(search.run, search.config) == pytest.approx(20.0 * 8 / 2)


def test_seeds_count_if_every_contender_has_ended_on_them(begun):
    search = begun()
    search.end_trials(3)
    runs = plan_confirmation(search.run, search.config, search.study)
    assert complete_seeds(runs) == []
    for confirmation in runs[:4]:
        search.record(confirmation.directory, state="FAIL" if confirmation is runs[1] else "COMPLETE")
    assert complete_seeds(runs) == runs[:3], "a failed run is not run again"


def test_a_trial_that_the_budget_paused_changes_the_plan_when_it_has_ended(begun):
    search = begun()
    search.end_trials(3)
    claim = claim_trial(search.study, search.run, search.config)
    before = {run.name for run in plan_confirmation(search.run, search.config, search.study)}
    assert before == {"trial 2", "weak", "strong"}
    search.study.tell(claim.trial, 9.0)
    after = {run.name for run in plan_confirmation(search.run, search.config, search.study)}
    assert after == before | {"trial 3"}


def test_what_is_missing_is_counted_and_said_in_one_sentence(begun):
    search = begun(**{"search.trials": 4})
    search.end_trials(2)
    left = unfinished_work(search.run, search.config, search.study)
    assert (left.trials, left.wanted, left.searched, left.nulls) == (2, 4, False, 1)
    search.end_trials(2)
    left = unfinished_work(search.run, search.config, search.study)
    assert (left.trials, left.confirmations, left.planned, left.searched) == (0, 6, 6, True)
    assert unfinished_sentence(left) == (
        "The budget ended after 0 of 6 confirmation runs (only complete seeds are compared); the same command goes "
        "on where it stopped."
    )
    for confirmation in plan_confirmation(search.run, search.config, search.study):
        search.record(confirmation.directory)
    only_null = unfinished_work(search.run, search.config, search.study)
    assert "after all but the runs with learning rate 0;" in unfinished_sentence(only_null)
    search.record(search.run.null_dir / "0000")
    assert unfinished_work(search.run, search.config, search.study) is None
    both = UnfinishedRecord(trials=992, wanted=1000, confirmations=5, planned=9)
    assert unfinished_sentence(both).startswith("The budget ended after 8 of 1,000 trials and 4 of 9 confirmation runs")


def test_a_budget_that_the_images_used_up_starts_no_worker_and_asks_for_a_larger_one(tmp_path, monkeypatch):
    monkeypatch.setenv("AUGSCALE_CACHE", str(tmp_path / "cache"))
    done = searched(tmp_path / "run", "--budget", "0.001s")
    assert isinstance(done.exception, StudyError)
    assert str(done.exception) == (
        f"{tmp_path / 'run'}: No answer: the budget ended before any trial had; the same command with a larger "
        "--budget goes on"
    )
    assert not list((tmp_path / "run").glob("trials/*"))


ARGUMENTS = ("--trials", "5", "--set", "search.prune=false")


def _ended(out: Path, folder: str) -> int:
    return sum(read_json(file)["state"] == "COMPLETE" for file in out.glob(f"{folder}/*/trial.json"))


def _answer(out: Path) -> AnswerRecord:
    return AnswerRecord.read(out / "answer.json")


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """One search in three calls: the budget ends in the third control, in the confirmation, and not at all."""
    out = tmp_path_factory.mktemp("budget") / "run"
    found, begin = {}, time.monotonic()

    def call(name: str, ends) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AUGSCALE_CACHE", str(out.parent / "cache"))
            patch.setattr(Budget, "has_ended", property(lambda budget: ends()))
            done = searched(out, *ARGUMENTS, "--budget", "1h")
        assert done.exit_code == 0, done.exception
        found[name] = {
            "said": " ".join(done.output.split()),
            "answer": _answer(out),
            "states": [line.state for line in status(out).trials],
            "confirmed": _ended(out, "confirm"),
            "nulls": _ended(out, "null"),
            "plan": PlanRecord.read_if_there(out / "confirm" / "plan.json"),
            "untrained": (out / "untrained.json").exists(),
            "warning": card_warning(out / "best.toml"),
            "card": (out / "best.toml").read_text(encoding="utf-8"),
        }

    call("controls", lambda: bool((read_json(out / "trials" / "0002" / "trial.json") or {}).get("rungs")))
    call("confirmation", lambda: _ended(out, "confirm") >= 4)
    found["finished before"] = {n: read_json(out / "trials" / f"{n:04d}" / "trial.json")["finished"] for n in range(5)}
    call("end", lambda: False)
    found["finished after"] = {n: read_json(out / "trials" / f"{n:04d}" / "trial.json")["finished"] for n in range(5)}
    found["starts"] = read_json(out / "trials" / "0002" / "trial.json")["starts"]
    found["seconds"] = time.monotonic() - begin
    return found


def test_controls_alone_are_no_answer_and_are_not_confirmed(calls):
    one = calls["controls"]
    assert one["answer"].headline == (
        "No answer: the budget ended before any searched scales were tried; 2 controls ran (none and weak), and the "
        "same command goes on where it stopped."
    )
    assert one["answer"].outcome == "no searched scales"
    assert one["states"] == ["COMPLETE", "COMPLETE", "PAUSED"]
    assert (one["confirmed"], one["nulls"], one["plan"], one["untrained"]) == (0, 0, None, False)
    assert "budget 1:00:00, until" in one["said"]
    assert "the start of the program and the report come on top" in one["said"]
    assert one["answer"].headline in one["said"]
    assert "augscale search --study" in " ".join(one["said"].replace("\\", " ").split()), "the next command goes on"
    assert "strong 40-100 5-40 0.4 - not ended" in one["said"]
    assert "its search has no answer" in one["warning"]


def test_the_next_call_goes_on_and_compares_on_the_seeds_that_are_complete(calls):
    two = calls["confirmation"]
    assert calls["starts"] == 1, "a trial that the budget paused has not died"
    assert two["states"] == ["COMPLETE"] * 5
    left = two["answer"].unfinished
    assert (left.trials, left.confirmations, left.planned, left.nulls) == (0, 2, 6, 0)
    assert {len(c.confirm_scores) for c in two["answer"].contenders if c.confirm_scores} == {1}
    assert not any(contender.confirm_missing for contender in two["answer"].contenders)
    assert two["answer"].untrained is not None, "scored before the confirmation"
    assert two["answer"].caveats[0].startswith("The budget ended after 4 of 6 confirmation runs")
    assert "The budget ended after 4 of 6 confirmation runs" in two["said"]
    assert "the same command goes on where it stopped" in two["answer"].headline
    assert "confirm.seeds = 2" not in two["said"], "the seeds are planned and have not run"
    assert two["answer"].outcome == "not finished"
    assert 'outcome = "not finished"' in two["card"]
    assert (
        "Next: 2 confirmation runs left; the same budget again; without --budget the search runs to its end"
        in two["said"]
    )
    assert "--budget 1h" in two["said"].split("Next:")[1]
    assert "its search has " in two["warning"]


def test_the_last_call_finishes_the_search(calls):
    last = calls["end"]
    assert last["answer"].unfinished is None
    assert last["confirmed"] == 6
    assert {len(c.confirm_scores) for c in last["answer"].contenders if c.confirm_scores} == {2}
    assert "budget ended" not in " ".join([last["answer"].headline, *last["answer"].caveats])
    assert calls["finished before"] == calls["finished after"], "no trial is run twice"
