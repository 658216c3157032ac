"""Predictions on disk: whole or absent, exact, and readable by a person."""

import csv
import json

import numpy as np
import pytest
from made_predictions import GRADES, made_run

from augscale.errors import DataError
from augscale.evaluation.predictions import (
    Predictions,
    prediction_name,
    read_predictions,
    write_predictions,
)
from augscale.records.evaluation import PredictionFile

NASTY = ("normal, none", 'says "no"', "grün\nnew line", "label", "patient")


def equal(a, b):
    fields = ("protocol", "checkpoint", "trained_on", "tested_on", "seed", "classes", "image_ids", "seconds")
    arrays = [(a.labels, b.labels), (a.scores, b.scores)] + ([] if a.groups is None else [(a.groups, b.groups)])
    return (
        all(getattr(a, f) == getattr(b, f) for f in fields)
        and a.selection == b.selection
        and a.fingerprint == b.fingerprint
        and (a.groups is None) == (b.groups is None)
        and all(np.array_equal(x, y) for x, y in arrays)
    )


@pytest.mark.parametrize("patients", [False, True])
@pytest.mark.parametrize("classes", [GRADES, NASTY])
def test_what_is_written_comes_back_to_the_last_bit(tmp_path, patients, classes):
    run = made_run(classes=classes, patients=patients)
    path = write_predictions(tmp_path / "new" / "folder", run)
    back, note = read_predictions(path)
    assert note == ""
    assert equal(run, back)


def test_an_empty_test_set_comes_back(tmp_path):
    run = made_run(labels=[])
    assert equal(run, read_predictions(write_predictions(tmp_path, run))[0])


def test_a_person_can_read_the_csv(tmp_path):
    run = made_run(images=6, patients=True)
    with open(write_predictions(tmp_path, run), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image_id", "label", "patient", *GRADES]
    assert [row["label"] for row in rows[:5]] == list(GRADES)
    assert rows[3]["image_id"] == "aptos2019/0003.png"
    assert float(rows[2]["mild"]) == run.scores[2, 1]


def test_names_differ_where_runs_differ():
    runs = [("linear", "a/b", "x", "x", 0), ("linear", "a b", "x", "x", 0), ("linear", "a-b", "x", "y", 0)]
    runs += [("linear", "a-b", "x", "x", 1), ("knn", "a-b", "x", "x", 1), ("linear", "../..", "x", "x", 0)]
    names = [prediction_name(*run) for run in runs]
    assert len(set(names)) == len(runs)
    assert not any("/" in name or name.startswith(".") for name in names)


def test_nothing_there_is_no_trouble(tmp_path):
    assert read_predictions(tmp_path / "none.csv") == (None, "")


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def change_a_digit(path):
    path.write_text(path.read_text().replace("0.1", "0.2", 1))


@pytest.mark.parametrize(
    ("damage", "suffix", "words"),
    [
        (cut, ".csv", "differs from the checksum"),
        (change_a_digit, ".csv", "differs from the checksum"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), ".csv", "cannot be read"),
        (lambda path: path.unlink(), ".csv", "missing"),
        (cut, ".json", "cannot be read"),
        (lambda path: path.write_text("[]"), ".json", "cannot be read"),
        (lambda path: path.unlink(), ".json", "missing"),
    ],
)
def test_a_damaged_run_counts_as_absent_with_a_note(tmp_path, damage, suffix, words):
    path = write_predictions(tmp_path, made_run())
    damage(path.with_suffix(suffix))
    found, note = read_predictions(path)
    assert found is None
    assert words in note
    assert "made again" in note
    assert str(path.stem) in note


def test_a_crash_while_writing_leaves_no_half_run(tmp_path, monkeypatch):
    write_predictions(tmp_path, made_run(skill=0.5))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(PredictionFile, "write", killed)
    changed = made_run(skill=2.0)
    with pytest.raises(KeyboardInterrupt):
        write_predictions(tmp_path, changed)
    path = next(tmp_path.glob("*.csv"))
    assert read_predictions(path)[0] is None
    monkeypatch.undo()
    assert equal(read_predictions(write_predictions(tmp_path, changed))[0], changed)


def test_another_fingerprint_makes_a_run_outdated(tmp_path):
    run = made_run()
    path = write_predictions(tmp_path, Predictions(**{**vars(run), "fingerprint": "abc"}))
    assert read_predictions(path, fingerprint="abc")[0] is not None
    found, note = read_predictions(path, fingerprint="abd")
    assert found is None
    assert "made from other weights, data or settings" in note


def test_another_format_is_made_again(tmp_path):
    path = write_predictions(tmp_path, made_run())
    details = path.with_suffix(".json")
    details.write_text(json.dumps(json.loads(details.read_text()) | {"format": 99}))
    found, note = read_predictions(path)
    assert found is None
    assert "format 99 is not 1" in note


def test_what_does_not_fit_is_refused_by_name():
    run = vars(made_run(images=10))
    with pytest.raises(DataError, match="weak, linear, aptos2019, seed 0: scores of 1 of 10 images are not finite"):
        Predictions(**{**run, "scores": np.where(np.arange(10)[:, None] == 4, np.nan, run["scores"])})
    with pytest.raises(DataError, match="image ids"):
        Predictions(**{**run, "image_ids": run["image_ids"][:-1]})
    with pytest.raises(DataError, match="patients"):
        Predictions(**{**run, "groups": np.zeros(3, dtype=np.int64)})
