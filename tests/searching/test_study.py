import json
import multiprocessing
import sqlite3
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from augscale.config import load_study
from augscale.errors import StudyError
from augscale.runs.folders import RunFolder
from augscale.searching.storage import Connection, merge_write_ahead_log, sqlite_storage
from augscale.searching.study import (
    STALE_SECONDS,
    any_running,
    begin_study,
    claim_trial,
    enqueue_controls,
    is_feasible,
    open_study,
    ranked,
    stopped_file,
)

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


def _open(run: RunFolder, trials: int = 6, **search):
    config = load_study("smoke", {"search.trials": trials} | {f"search.{key}": value for key, value in search.items()})
    study = open_study(config, sqlite_storage(run.database), "test")
    enqueue_controls(study, run, config)
    return config, study


def test_controls_come_first_and_the_total_is_exact(run):
    config, study = _open(run)
    names = []
    while claim := claim_trial(study, run, config):
        names.append(claim.control)
        study.tell(claim.trial, 1.0)
        claim.lock.release()
    assert names == ["none", "weak", "strong", "weak+med", None, None]
    assert claim_trial(study, run, config) is None


def test_controls_are_queued_once_however_often_the_search_is_resumed(run):
    config, study = _open(run)
    enqueue_controls(study, run, config)
    assert len(study.get_trials(states=(TrialState.WAITING,))) == 4


def test_a_control_outside_the_space_has_no_parameters_and_does_not_hide_the_others_from_the_sampler(run):
    config, study = _open(run, trials=30, startup_trials=3)
    for index in range(14):
        claim = claim_trial(study, run, config)
        study.tell(claim.trial, float(index))
        claim.lock.release()
    assert study.trials[0].params == {}
    assert set(study.trials[2].params) == {"global_crop_low", "local_crop_low", "local_crop_width", "jitter"}
    assert study.trials[2].params["jitter"] == pytest.approx(0.4)
    claim = claim_trial(study, run, config)
    assert set(claim.trial.relative_params) == set(study.trials[2].params), "the joint model must see all parameters"


def test_what_controls_outside_the_space_score_does_not_steer_the_sampler_and_they_may_win(tmp_path):
    """Optuna would count them among the best trials, whose parameters it learns from, and they have none."""
    proposals = []
    for score in (-9.0, 9.0):
        run = RunFolder(tmp_path / str(score))
        run.create()
        config, study = _open(run, trials=30, startup_trials=3)
        for _ in range(20):
            claim = claim_trial(study, run, config)
            study.tell(claim.trial, -claim.trial.params["jitter"] if claim.trial.params else score)
            claim.lock.release()
        proposals.append([trial.params for trial in study.trials])
    assert proposals[0] == proposals[1]
    late = [params["jitter"] for params in proposals[0][10:]]
    assert np.mean(late) < 0.15, "after some random trials it follows the score"
    assert [trial.user_attrs.get("control") for trial in ranked(study)[:3]] == ["none", "weak", "weak+med"]


def test_startup_trials_are_random_trials_and_controls_do_not_count(run):
    config, study = _open(run, trials=30, startup_trials=3)
    modelled = []
    for _ in range(9):
        claim = claim_trial(study, run, config)
        modelled.append(bool(claim.trial.relative_params))
        study.tell(claim.trial, 1.0)
        claim.lock.release()
    assert modelled == [False] * 7 + [True] * 2


def test_the_same_trial_number_gets_the_same_random_start_whoever_asks(tmp_path):
    drawn = []
    for name in ("a", "b"):
        run = RunFolder(tmp_path / name)
        run.create()
        config, study = _open(run)
        for _ in range(5):
            claim = claim_trial(study, run, config)
            study.tell(claim.trial, 1.0)
            claim.lock.release()
            study = open_study(config, sqlite_storage(run.database), "test")
        drawn.append(study.trials[4].params)
    assert drawn[0] == drawn[1]


def test_a_trial_whose_worker_holds_its_lock_is_left_alone(run):
    config, study = _open(run)
    first = claim_trial(study, run, config)
    second = claim_trial(study, run, config)
    assert (first.number, second.number) == (0, 1)
    assert any_running(study)


def _claim_and_die(path: str) -> None:
    run = RunFolder(path)
    config, study = _open(run)
    claim = claim_trial(study, run, config)
    claim.trial.report(1.0, 1)
    import os

    os._exit(9)  # as kill -9: nothing is released or told by this process


def _die_in_another_process(run: RunFolder) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_claim_and_die, args=(str(run.path),))
    process.start()
    process.join()
    assert process.exitcode == 9


def test_the_trial_of_a_dead_worker_is_continued_once_then_fails(run):
    _die_in_another_process(run)
    config, study = _open(run)
    claim = claim_trial(study, run, config)
    assert (claim.number, claim.starts, claim.control) == (0, 2, "none")
    assert study.trials[0].intermediate_values == {1: 1.0}
    claim.lock.release()  # and this one dies, too

    assert claim_trial(study, run, config).number == 1
    assert study.trials[0].state == TrialState.FAIL
    assert study.trials[0].user_attrs["reason"] == "its worker died 2 times"


def test_a_paused_trial_may_be_continued_any_number_of_times(run):
    config, study = _open(run)
    for _ in range(4):
        claim = claim_trial(study, run, config)
        assert (claim.number, claim.starts) == (0, 1)
        claim.trial.set_user_attr("paused", True)
        claim.lock.release()


def test_a_trial_of_another_host_is_taken_over_only_when_its_heartbeat_is_old(run):
    config, study = _open(run)
    claim = claim_trial(study, run, config)
    claim.lock.release()  # another host's lock is not seen here
    claim.trial.set_user_attr("host", "elsewhere")
    assert claim_trial(study, run, config).number == 1
    claim.trial.set_user_attr("heartbeat", time.time() - STALE_SECONDS - 1)
    assert claim_trial(study, run, config).number == 0


def test_two_run_folders_on_one_storage_do_not_take_each_others_trials(run, tmp_path):
    config, study = _open(run)
    other = RunFolder(tmp_path / "other")
    other.create()
    claim, first, second = (claim_trial(study, folder, config) for folder in (run, other, other))
    assert [claim.number, first.number, second.number] == [0, 1, 2]
    claim.trial.set_user_attr("heartbeat", time.time() - STALE_SECONDS - 1)
    assert claim_trial(study, other, config).number == 0


def test_a_trial_without_an_owner_is_taken_over_soon(run, monkeypatch):
    config, study = _open(run)
    study.ask()  # its worker died before it could say whose the trial is
    assert claim_trial(study, run, config).number == 1
    monkeypatch.setattr("augscale.searching.study.OWNERLESS_SECONDS", 0.0)
    assert claim_trial(study, run, config).number == 0


def test_failing_trials_stop_the_search_with_the_reason(run):
    config, study = _open(run, max_failures=3)
    for _ in range(3):
        claim = claim_trial(study, run, config)
        claim.trial.set_user_attr("reason", "no memory left")
        study.tell(claim.trial, state=TrialState.FAIL)
        claim.lock.release()
    with pytest.raises(StudyError, match="the last 3 trials failed; the newest, trial 2: no memory left"):
        claim_trial(study, run, config)


def test_a_collapsed_trial_is_never_ranked(run):
    config, study = _open(run)
    for score, violation in ((9.0, 1.0), (2.0, 0.0), (3.0, -1.0)):
        claim = claim_trial(study, run, config)
        claim.trial.set_constraint("collapse", violation)
        study.tell(claim.trial, score)
        claim.lock.release()
    assert [trial.value for trial in ranked(study)] == [3.0, 2.0]
    assert not is_feasible(study.trials[0])


def test_a_storage_that_cannot_be_opened_is_named_without_its_password(run):
    config = load_study("smoke")
    with pytest.raises(StudyError) as error:
        open_study(config, "sqlite:////no/such/folder/study.db", "test")
    assert "--storage sqlite:////no/such/folder/study.db: cannot be opened" in str(error.value)


def _claim_all(path: str, index: int) -> None:
    run = RunFolder(path)
    config, study = _open(run, trials=30)
    done = []
    while claim := claim_trial(study, run, config):
        done.append(claim.number)
        time.sleep(0.01)
        study.tell(claim.trial, float(claim.number))
        claim.lock.release()
    (Path(path) / f"claimed-{index}.json").write_text(json.dumps(done))


def test_several_processes_on_one_study_run_every_trial_exactly_once(run):
    _, study = _open(run, trials=30)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_claim_all, args=(str(run.path), index)) for index in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    claimed = sorted(n for path in run.path.glob("claimed-*.json") for n in json.loads(path.read_text()))
    assert claimed == list(range(30))
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)


def test_commits_do_not_wait_for_the_disk(run):
    _, study = _open(run)
    with study._storage._backend.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1, "NORMAL: only the log's checkpoints do"


def test_a_file_without_a_log_that_another_connection_writes_to_is_used_as_it_is(tmp_path):
    path = tmp_path / "study.db"
    older = sqlite3.connect(path)
    older.execute("CREATE TABLE kept (value)")
    older.execute("BEGIN IMMEDIATE")
    connect = {"timeout": 10, "factory": Connection}
    during = sqlite3.connect(path, **connect)
    assert during.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert during.execute("PRAGMA synchronous").fetchone() == (2,), "FULL: without a log it keeps the file whole"
    older.rollback()
    older.close()
    during.close()
    after = sqlite3.connect(path, **connect)
    assert after.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    after.close()


def _begin(path: str, url: str) -> None:
    run = RunFolder(path)
    run.create()
    begin_study(run, load_study("smoke"), url, "shared")


def test_hosts_that_begin_one_study_at_once_queue_each_control_once(tmp_path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    spawn = multiprocessing.get_context("spawn")
    hosts = [spawn.Process(target=_begin, args=(str(tmp_path / str(i)), url)) for i in range(3)]
    for host in hosts:
        host.start()
    for host in hosts:
        host.join()
        assert host.exitcode == 0
    study = optuna.load_study(study_name="shared", storage=url)
    controls = [trial.user_attrs["control"] for trial in study.trials]
    assert sorted(controls) == sorted(load_study("smoke").search.controls)


def test_a_trial_that_another_host_is_about_to_start_is_left_alone(run):
    """Between naming its owner and its first sign of life, which it once gave last."""
    config, study = _open(run)
    trial = study.ask()
    trial.set_user_attr("host", "another")
    trial.set_user_attr("run", "/there")
    assert claim_trial(study, run, config).number == 1


def test_a_paused_trial_goes_on_at_once_where_its_state_lies_though_host_and_folder_are_called_otherwise(run):
    config, study = _open(run)
    claim = claim_trial(study, run, config)
    claim.trial.set_user_attr("host", "a node that is gone")
    claim.trial.set_user_attr("run", "/before/it/was/moved")
    claim.lock.release()
    study.trials[0].user_attrs["heartbeat"] = time.time()
    assert claim_trial(study, run, config).number == 1
    claim.trial.set_user_attr("paused", True)
    (run.trial_dir(0) / "state.pt").touch()
    again = claim_trial(study, run, config)
    assert (again.number, again.starts) == (0, 1)


def test_a_worker_that_was_killed_because_it_took_too_long_to_stop_is_no_fault_of_the_trial(run):
    config, study = _open(run)
    for _ in range(4):
        claim = claim_trial(study, run, config)
        assert (claim.number, claim.starts) == (0, 1)
        stopped_file(run, 0).touch()
        claim.lock.release()
    claim = claim_trial(study, run, config)
    claim.lock.release()
    assert claim_trial(study, run, config).starts == 2


def test_failures_of_an_earlier_session_do_not_stop_the_next(run):
    config, study = _open(run, trials=9, max_failures=2)
    for _ in range(2):
        claim = claim_trial(study, run, config)
        study.tell(claim.trial, state=TrialState.FAIL)
        claim.lock.release()
    with pytest.raises(StudyError, match="the last 2 trials failed"):
        claim_trial(study, run, config)
    assert claim_trial(study, run, config, since=time.time()).number == 2


def test_after_a_search_the_database_is_whole_in_its_own_file(run, tmp_path):
    config, study = _open(run)
    claim = claim_trial(study, run, config)
    study.tell(claim.trial, 0.5)
    merge_write_ahead_log(run)
    copy = tmp_path / "copy.db"
    copy.write_bytes(run.database.read_bytes())
    assert optuna.load_study(study_name="test", storage=f"sqlite:///{copy}").trials[0].value == 0.5


def test_a_control_that_failed_is_queued_once_more_and_not_for_ever(run):
    config, study = _open(run, trials=20, max_failures=20)
    for _ in range(2):
        claim = claim_trial(study, run, config)
        while claim.control != "none":
            study.tell(claim.trial, 1.0)
            claim.lock.release()
            claim = claim_trial(study, run, config)
        study.tell(claim.trial, state=TrialState.FAIL)
        claim.lock.release()
        enqueue_controls(study, run, config)
    controls = [t.user_attrs.get("control") for t in study.trials]
    assert controls.count("none") == 2
    assert controls.count("weak") == 1
