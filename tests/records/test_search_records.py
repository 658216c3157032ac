"""Files of a search as records: the keys that are written, and files that earlier versions or crashes left."""

import json
import math

import pytest

from augscale.errors import DataError
from augscale.records.answer import AnswerRecord, NullRecord, UntrainedComparison
from augscale.records.manifest import ManifestRecord
from augscale.records.panel import PanelRecord, UntrainedRecord
from augscale.records.trial import RungRecord, TrialRecord
from augscale.records.worker import WorkerRecord

TRIAL_KEYS = [
    "number", "control", "params", "starts", "state", "scales", "seed", "threads", "rungs", "final", "health", "reason",
    "pruned_at", "seconds", "images_per_second", "seconds_by_part", "loss_history", "micro_batches", "started",
    "finished",
]  # fmt: skip


def test_a_trial_of_the_search_has_no_keys_of_repeats_and_a_repeat_has():
    trial = TrialRecord(number=3, scales={}, starts=1)
    assert list(trial.to_dict()) == TRIAL_KEYS
    assert trial.name == "trial 3"
    repeat = TrialRecord(number=3, scales={}, name="trial 3", kind="candidate", seed_index=1)
    assert set(repeat.to_dict()) == ({*TRIAL_KEYS} - {"starts"}) | {"name", "kind", "seed_index"}


def test_what_is_written_is_read_again(tmp_path):
    rungs = (RungRecord(step=4, score=0.1 + 0.2, levels={"strong": 1.0}, loss=5.0),)
    final = PanelRecord(score=1 / 3, interval=(0.1, 0.5), bootstrap_scores=(0.1, 0.2))
    written = TrialRecord(number=0, control="weak", scales={"hue": 0.1}, rungs=rungs, final=final).keep(tmp_path)
    assert TrialRecord.in_folder(tmp_path) == written


def test_fields_of_other_versions_are_ignored_and_numbers_that_are_not_finite_are_not_known(tmp_path):
    values = {"number": 1, "scales": {}, "attempts": 2, "seconds": math.nan, "loss_history": [[1, math.inf], [2, 3.0]]}
    (tmp_path / "trial.json").write_text(json.dumps(values), encoding="utf-8")
    trial = TrialRecord.in_folder(tmp_path)
    assert trial is not None
    assert (trial.seconds, trial.loss_history) == (None, ((2, 3.0),))


@pytest.mark.parametrize("content", ["", "[]", '{"state": "RUNNING"}', '{"number": 1, "scales": {}, "state": "DONE"}'])
def test_a_file_that_cannot_be_read_is_none_or_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "trial.json"
    path.write_text(content, encoding="utf-8")
    assert TrialRecord.in_folder(tmp_path) is None
    with pytest.raises(DataError, match=r"trial\.json: .*; expected what augscale search writes"):
        TrialRecord.read(path)


def test_the_first_network_before_training_is_written_beside_the_others(tmp_path):
    first = UntrainedRecord(score=1.0, confirm=(PanelRecord(score=2.0),))
    first.write(tmp_path / "untrained.json")
    values = json.loads((tmp_path / "untrained.json").read_text(encoding="utf-8"))
    assert (values["score"], values["confirm"][0]["score"]) == (1.0, 2.0)


LEFT = {"trials": 0, "wanted": 5, "confirmations": 1, "planned": 6}


@pytest.mark.parametrize(
    ("beaten", "seeds", "left", "outcome"),
    [
        (True, 2, None, "best found"),
        (True, 1, None, "no verdict"),
        (True, 0, None, "no verdict"),
        (False, 2, None, "training taught nothing"),
        (True, 1, LEFT, "not finished"),
        (True, 2, LEFT | {"trials": 3}, "not finished"),
        (False, 1, LEFT, "not finished"),
        (False, 0, LEFT | {"searched": False}, "no searched scales"),
    ],
)
def test_the_outcome_of_an_answer_is_told_by_its_fields(beaten, seeds, left, outcome):
    untrained = UntrainedComparison(score=0.0, difference=1.0, beaten=beaten)
    weak = {"name": "weak", "kind": "control", "scales": {}, "confirm_scores": [1.0] * seeds}
    values = {"best": "weak", "headline": "", "contenders": [weak], "unfinished": left}
    assert AnswerRecord.parse(values | {"untrained": untrained}, "answer.json").outcome == outcome
    assert AnswerRecord.parse(values | {"best": None}, "answer.json").outcome == "no usable trial"


def test_only_null_runs_that_moved_have_a_gain():
    assert NullRecord(shift=0.5, still=True).gain == 0
    assert NullRecord(shift=-0.5).gain == 0
    assert NullRecord(shift=0.5).gain == 0.5


def test_facts_of_the_images_that_the_record_does_not_name_are_kept_in_the_manifest(tmp_path):
    values = {"study_name": "a", "data": {"num_images": 3, "findings": [{"text": "dark", "kind": "dark"}], "new": 1}}
    manifest = ManifestRecord.parse(values, "manifest.json")
    manifest.write(tmp_path / "manifest.json")
    written = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert (written["data"]["new"], written["data"]["findings"][0]["kind"]) == (1, "dark")
    assert "kind" not in written


def test_a_worker_writes_the_fields_that_it_has_set():
    worker = WorkerRecord(host="a", pid=1, device="cpu").model_copy(update={"phase": "search", "score": None})
    assert worker.to_dict() == {"host": "a", "pid": 1, "device": "cpu", "phase": "search", "score": None}


def test_a_file_of_a_later_version_is_never_taken_for_a_missing_one(tmp_path):
    (tmp_path / "trial.json").write_text('{"schema": 99, "number": 1, "scales": {}}', encoding="utf-8")
    with pytest.raises(DataError, match=r"trial\.json: schema 99; this version of augscale reads up to"):
        TrialRecord.in_folder(tmp_path)
