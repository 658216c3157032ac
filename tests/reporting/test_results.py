import json
import math

import pytest
from run_folder import UNTRAINED_SCORE, put, write_run

from augscale.records.answer import AnswerRecord
from augscale.records.trial import COLLAPSED
from augscale.reporting.search.results import read_run


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_trial_and_every_confirmation_run_is_read(finished_folder, finished):
    files = sorted((finished_folder / "trials").glob("*/trial.json"))
    assert [t.number for t in finished.trials] == [read(f)["number"] for f in files]
    assert [t.score for t in finished.trials] == [(read(f)["final"] or {}).get("score") for f in files]
    assert len(finished.confirmations) == 4 * 3
    assert finished.notes == ()


def test_the_untrained_network_is_read_with_the_answers_verdict_on_it(finished):
    assert finished.untrained.score == UNTRAINED_SCORE
    assert finished.answer.untrained.beaten
    assert finished.answer.untrained.difference == finished.best.confirm_mean - UNTRAINED_SCORE


def test_states_are_counted_and_a_collapsed_trial_is_not_a_complete_one(finished):
    counts = {state: finished.count(state) for state in ("COMPLETE", COLLAPSED, "PRUNED", "FAIL", "RUNNING")}
    assert sum(counts.values()) == 40
    assert counts[COLLAPSED] == 1
    assert counts["FAIL"] == 2
    assert counts["PRUNED"] > 0
    assert not next(t for t in finished.trials if t.number == 17).is_usable


def test_the_best_is_the_one_of_the_answer_even_where_another_scored_higher_in_the_search(finished_folder, finished):
    named = read(finished_folder / "answer.json")["best"]
    assert finished.best_trial.name == named
    highest = max((t for t in finished.trials if t.is_usable), key=lambda t: t.score)
    assert highest.name != named, "the built run is meant to tell these apart"


def test_a_running_search_has_no_answer_and_the_best_so_far_did_not_collapse(tmp_path):
    folder = write_run(tmp_path / "run", trials=20, answer=False)
    path = folder / "trials" / "0017" / "trial.json"
    record = read(path)
    record["final"]["score"] = 99.0
    put(path, record)
    run = read_run(folder)
    assert run.answer is None
    scores = [t.score for t in run.trials if t.state == "COMPLETE" and t.number != 17]
    assert run.best_trial.score == max(scores)


@pytest.mark.parametrize(
    "content",
    ["", '{"number": 5, "state": "COMP', "[]", "{}", '{"number": 5, "state": "DONE", "scales": {}}', "null"],
)
def test_a_broken_record_is_left_out_with_a_note_and_the_others_stay(tmp_path, content):
    folder = write_run(tmp_path / "run", trials=8)
    (folder / "trials" / "0005" / "trial.json").write_text(content, encoding="utf-8")
    run = read_run(folder)
    assert [t.number for t in run.trials] == [0, 1, 2, 3, 4, 6, 7]
    (note,) = run.notes
    assert note.startswith("trials/0005/trial.json")


def test_numbers_that_are_not_finite_are_missing_numbers(tmp_path):
    folder = write_run(tmp_path / "run", trials=8)
    path = folder / "trials" / "0004" / "trial.json"
    record = read(path)
    record["rungs"][-1]["score"] = math.nan
    record["loss_history"][0][1] = math.inf
    record["final"] = None
    path.write_text(json.dumps(record), encoding="utf-8")
    trial = read_run(folder).trials[4]
    assert trial.rungs[-1].score is None
    assert trial.last_score == trial.rungs[-2].score
    assert len(trial.loss_history) == len(record["loss_history"]) - 1


def test_a_broken_answer_counts_as_none_and_is_noted(tmp_path):
    folder = write_run(tmp_path / "run", trials=8)
    (folder / "answer.json").write_text('{"headline": "half', encoding="utf-8")
    run = read_run(folder)
    assert run.answer is None
    assert any(note.startswith("answer.json") for note in run.notes)


def test_an_empty_folder_is_an_empty_run(tmp_path):
    run = read_run(tmp_path)
    assert (run.answer, run.trials, run.confirmations, run.best_trial, run.notes) == (None, (), (), None, ())
    assert run.score_name == "dprime"


def test_an_answer_without_a_best_has_none(finished_folder):
    answer = read(finished_folder / "answer.json") | {"best": None}
    assert AnswerRecord.parse(answer, "answer.json").best_contender is None


def test_what_an_earlier_version_recorded_of_local_crops_that_were_not_drawn_is_left_out(tmp_path):
    folder = write_run(tmp_path / "run", trials=12)
    local = {"local_crop_low", "local_crop_width"}
    drawn = read_run(folder)
    assert drawn.local_crops
    assert local <= set(drawn.answer.importance) & {name for t in drawn.trials for name in t.params}
    study = folder / "study.toml"
    study.write_text(study.read_text(encoding="utf-8") + "\n[crops]\nn_local = 0\n", encoding="utf-8")
    run = read_run(folder)
    assert not run.local_crops
    assert not run.answer.local_crops
    assert not local & (set(run.answer.importance) | {name for t in run.trials for name in t.params})
    assert not any("local_crops_scale" in t.scales for t in (*run.trials, *run.confirmations))
    assert run.trials[4].scales == {n: v for n, v in drawn.trials[4].scales.items() if n != "local_crops_scale"}
    (folder / "answer.json").unlink()
    assert not read_run(folder).local_crops, "a running search, too"
