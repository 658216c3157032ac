"""What `augscale status` says of trials that nobody works on."""

import io
import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from augscale.config import load_study
from augscale.records.trial import RungRecord, TrialRecord
from augscale.runs.files import read_json, write_json
from augscale.runs.folders import RunFolder, this_host
from augscale.searching import display as display_module
from augscale.searching.display import SearchDisplay, render
from augscale.searching.progress import read_progress
from augscale.searching.storage import sqlite_storage
from augscale.searching.study import claim_trial, enqueue_controls, open_study, stopped_file

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def begun(tmp_path: Path):
    """A run with one claimed trial, its record at step 8 and its worker alive."""
    run = RunFolder(tmp_path / "run")
    run.create()
    config = load_study("smoke")
    study = open_study(config, sqlite_storage(run.database), "test")
    enqueue_controls(study, run, config)
    claim = claim_trial(study, run, config)
    rungs = (RungRecord(step=4, score=0.5),)
    TrialRecord(number=0, scales={}, rungs=rungs, loss_history=((8, 4.1),), seconds=3.0).keep(run.trial_dir(0))
    worker = {"host": this_host(), "pid": os.getpid(), "phase": "search", "number": 0, "time": time.time()}
    write_json(run.workers_dir / "worker.json", worker | {"device": "cpu", "name": "none"})
    return run, config, study, claim


def _shown(progress) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(progress, None, all_trials=True))
    return console.export_text()


def _collapsed(progress) -> str:
    return "\n".join(line.rstrip() for line in _shown(progress).splitlines()) + "\n"


def test_a_paused_trial_is_paused_at_its_step_and_has_not_ended(begun):
    run, config, study, claim = begun
    assert read_progress(run, config, study).trials[0].state == "RUNNING"
    claim.trial.set_user_attr("paused", True)
    claim.trial.set_user_attr("paused_step", 11)
    progress = read_progress(run, config, study)
    assert (progress.trials[0].state, progress.counts, progress.finished) == ("PAUSED", {"PAUSED": 1}, 0)
    shown = _shown(progress)
    assert "trials 0/6 (1 paused)" in shown
    assert "paused at step 11" in shown
    assert json.loads(json.dumps(progress.to_dict()))["trials"][0]["state"] == "PAUSED"
    console = Console(width=200, record=True, file=io.StringIO())
    SearchDisplay(console).update(progress)
    assert console.export_text() == "", "it is not told as one that ended"


def test_a_trial_whose_worker_is_gone_is_not_running(begun):
    run, config, study, _ = begun
    stopped_file(run, 0).touch()
    assert read_progress(run, config, study).trials[0].state == "RUNNING", "its worker is still saving"
    (run.workers_dir / "worker.json").unlink()
    line = read_progress(run, config, study).trials[0]
    assert (line.state, line.note) == ("PAUSED", "paused at step 8 or before")
    stopped_file(run, 0).unlink()
    assert read_progress(run, config, study).trials[0].state == "PAUSED"


def test_a_trial_that_goes_on_is_running_again(begun):
    run, config, study, claim = begun
    claim.trial.set_user_attr("paused", True)
    claim.trial.set_user_attr("paused_step", 11)
    claim.lock.release()
    again = claim_trial(study, run, config)
    assert (again.number, again.starts) == (0, 1)
    assert read_progress(run, config, study).trials[0].state == "RUNNING"


def test_failed_trials_are_grouped_with_what_to_change(begun):
    run, config, study, claim = begun
    claim.trial.set_user_attr("reason", "loss is nan at step 3")
    study.tell(claim.trial, state=TrialState.FAIL)
    progress = read_progress(run, config, study)
    shown = " ".join(_shown(progress).split())
    assert "failed, 1 x loss is nan at step 3 (trial 0) what to change: lower pretrain.lr" in shown
    assert progress.to_dict()["failures"][0]["trials"] == [0]


def test_a_confirmation_run_that_was_stopped_is_counted_as_paused(begun):
    run, config, study, _ = begun
    folder = run.confirm_dir / "trial-0000-seed0"
    folder.mkdir()
    (folder / "state.pt").touch()
    TrialRecord(number=0, kind="control", scales={}).keep(folder)
    assert read_progress(run, config, study).paused_confirmations == 0
    (run.workers_dir / "worker.json").unlink()
    progress = read_progress(run, config, study)
    assert "confirmation on fresh seeds: 0/" in _shown(progress)
    assert ", 1 paused" in _shown(progress)


def test_the_end_of_the_budget_stands_beside_the_forecast(begun, monkeypatch):
    run, config, study, _ = begun
    progress = replace(read_progress(run, config, study), seconds_left=2400.0)
    monkeypatch.setattr(display_module.time, "time", lambda: 1000.0)
    for deadline, words in ((1330.0, "about 40:00 left, budget ends in 5:30"), (999.0, "left, budget ended")):
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(render(progress, None, deadline=deadline))
        assert words in console.export_text()
    assert "about 40:00 left, no budget" in _shown(progress)


def test_status_says_what_is_left_of_the_budget_and_that_none_runs(begun):
    run, config, study, _ = begun
    file = run.workers_dir / "worker.json"
    worker = read_json(file)
    write_json(file, worker | {"deadline": time.time() + 90.5})
    progress = read_progress(run, config, study)
    assert re.search(r"budget ends in 1:(30|29|28), at \d\d:\d\d:\d\d\n", _collapsed(progress))
    assert 85 < progress.to_dict()["budget"]["seconds_left"] <= 90.5
    write_json(file, worker | {"deadline": time.time() - 5, "phase": "done"})
    shown = _collapsed(read_progress(run, config, study))
    assert "no worker runs: the budget of the last call ended at " in shown
    assert "the same command goes on, with a budget of its own" in shown
    file.unlink()
    assert "no worker runs" not in _shown(read_progress(run, config, study)), "nothing is known of a budget"


def test_the_forecast_counts_the_runs_with_learning_rate_0(begun):
    run, config, study, claim = begun
    TrialRecord(number=0, scales={}, rungs=(RungRecord(step=8, score=0.5),), seconds=10.0).keep(run.trial_dir(0))
    study.tell(claim.trial, 0.5)
    studies = [
        config.model_copy(update={"search": config.search.model_copy(update={"null_trials": n})}) for n in (1, 0)
    ]
    with_null, without = (read_progress(run, study_config, study).seconds_left for study_config in studies)
    assert with_null - without == pytest.approx(10.0)


def test_a_line_of_an_ended_trial_names_crops_and_jitter_with_their_units(begun):
    run, config, study, claim = begun
    study.tell(claim.trial, 0.5)
    console = Console(width=200, record=True, file=io.StringIO())
    SearchDisplay(console).update(read_progress(run, config, study))
    assert "none: COMPLETE score 0.500; global 100-100 %, local 100-100 %, jitter 0.00;" in console.export_text()
    words = read_progress(run, config, study).to_dict()["trials"][0]["crops_and_jitter"]
    assert words == "global 100-100 %, local 100-100 %, jitter 0.00"


@pytest.mark.parametrize("columns", [80, 120])
def test_on_80_columns_names_scales_and_scores_are_whole_and_only_notes_are_cut(begun, columns):
    run, config, study, _ = begun
    progress = read_progress(run, config, study)
    control, scales = progress.trials[0], ("40-100", "5-40", "0.40")
    lines = [
        replace(control, name="weak+med", state="COMPLETE", score=1.186, seconds=3000.0, short_scales=scales),
        replace(
            control, number=16, name="trial 16", state="PRUNED", note="pruned at step 60, " * 9, short_scales=scales
        ),
    ]
    console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    console.print(render(replace(progress, trials=lines), None, all_trials=True))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= columns
    rows = [line.split() for line in text.splitlines()]
    assert ["weak+med", "complete", "1.186", "1", "50:00", *scales] in [row[:8] for row in rows]
    cut = next(row for row in rows if row[:2] == ["trial", "16"])
    assert cut[6:9] == list(scales)
    assert "…" in cut[-1]


def test_without_local_crops_neither_lines_nor_table_have_them(begun):
    run, config, study, _ = begun
    assert "local %" in _shown(read_progress(run, config, study))
    crops = config.crops.model_copy(update={"n_local": 0})
    progress = read_progress(run, config.model_copy(update={"crops": crops}), study)
    (line,) = progress.trials
    assert line.short_scales == ("100-100", None, "0.00")
    assert line.crops_and_jitter == "global 100-100 %, jitter 0.00"
    assert json.loads(json.dumps(progress.to_dict()))["trials"][0]["short_scales"] == ["100-100", None, "0.00"]
    heads, row = (line.split() for line in _shown(progress).splitlines()[-2:])
    assert heads == ["trial", "state", "score", "rungs", "time", "global", "%", "jitter"]
    assert row[-2:] == ["100-100", "0.00"]


def test_a_terminal_is_drawn_once_a_second_and_ends_with_the_newest_state(begun):
    run, config, study, _ = begun
    progress = read_progress(run, config, study)
    console = Console(file=io.StringIO(), width=100, height=40, force_terminal=True, color_system=None)
    display, start = SearchDisplay(console), time.monotonic()
    with display.running():
        for wanted in range(100, 113):
            display.update(replace(progress, wanted=wanted))
            time.sleep(0.1)
    elapsed, text = time.monotonic() - start, console.file.getvalue()
    drawn = [int(number) for number in re.findall(r"trials 0/(\d+)", text)]
    assert drawn == sorted(drawn)
    assert drawn[-1] == 112, "the state of the last update is what remains"
    assert len(drawn) <= elapsed + 2, "a worker uses the core that drawing takes"
    alone = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    alone.print(render(replace(progress, wanted=112), None))
    remains = text[text.rindex("trials 0/112") :].splitlines()
    assert [line.rstrip() for line in remains[1:] if "\x1b" not in line] == [
        line.rstrip() for line in alone.file.getvalue().splitlines()[1:]
    ]
