"""A search whose memory runs out: what its trials, tables and answer say, and what later trials make of it."""

from __future__ import annotations

import json

import pytest

from augscale.config import load_study
from augscale.pretraining import dino_method
from augscale.pretraining.dino import dino_loss
from augscale.runs.files import read_json
from augscale.runs.folders import RunFolder
from augscale.searching import supervisor
from augscale.searching.answer import write_answer
from augscale.searching.prepare import prepare_run
from augscale.searching.progress import read_progress
from augscale.searching.storage import sqlite_storage
from augscale.searching.study import enqueue_controls, open_study
from augscale.searching.worker import Worker
from augscale.system.devices import WorkerPlan

SETTINGS = {
    "search.trials": 2,
    "search.controls": ["weak", "strong"],
    "confirm.seeds": 0,
    "confirm.top_k": 0,
    "confirm.controls": [],
}
NUM_VIEWS = 4


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """Two trials by a worker in this process; from its third loss on, more than 4 of 8 images are too many."""
    calls = []

    def loss(student_logits, teacher_probs, temp, **options):
        calls.append(len(student_logits) // NUM_VIEWS)
        if len(calls) > 3 and calls[-1] > 4:
            raise MemoryError
        return dino_loss(student_logits, teacher_probs, temp, **options)

    monkeypatch.setattr(dino_method, "dino_loss", loss)
    run, config = RunFolder(tmp_path / "run"), load_study("smoke", SETTINGS)
    manifest = prepare_run(run, config, storage=None, parameters=1, device_label="cpu")
    study = open_study(config, sqlite_storage(run.database), manifest.study_name)
    enqueue_controls(study, run, config)
    Worker(run, device="cpu", free_memory=10**12).work()
    return run, config, study


def test_trials_record_it_later_ones_follow_and_the_answer_says_so(searched):
    run, config, study = searched
    first, second = (read_json(run.trial_dir(number) / "trial.json") for number in (0, 1))
    assert [record["state"] for record in (first, second)] == ["COMPLETE", "COMPLETE"]
    (change,) = first["micro_batches"]["changes"]
    assert (change["before"], change["after"], change["cause"]) == (1, 2, "out of memory")
    assert change["step"] > 1
    assert change["message"] == "MemoryError"
    (followed,) = second["micro_batches"]["changes"]
    assert (followed["step"], followed["after"], followed["cause"]) == (1, 2, "earlier run")
    assert "batch norm saw micro-batches of 4 images" in first["micro_batches"]["note"]

    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    logged = [line for line in lines if line["event"] == "micro-batches"]
    facts = [(line.get("trial"), line["number"], line["size"]) for line in logged]
    assert facts == [(0, 2, 4), (1, 2, 4), (None, 2, 4)], "the last is the null run"
    assert [line.note for line in read_progress(run, config, study).trials] == ["micro-batches 2 x 4"] * 2
    caveats = write_answer(run, config, study, {"total": 1.0}).caveats
    assert sum("not strictly comparable" in caveat for caveat in caveats) == 1


def test_workers_on_a_cpu_share_what_was_free_before_them(monkeypatch):
    monkeypatch.setattr(supervisor, "available_memory", lambda: 10**10)
    shared = supervisor._free_memory(WorkerPlan(devices=("cpu", "cpu", "cpu"), threads=1))
    assert shared == pytest.approx(0.9 * 10**10 / 3, abs=1)
    assert supervisor._free_memory(WorkerPlan(devices=("cuda:0",), threads=1)) is None
