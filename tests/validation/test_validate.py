"""`augscale validate` on a small finished study: from weights to page; what is missing is said, remade, or refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import augscale
from augscale.cli.app import app
from augscale.errors import ConfigError, DataError, StudyError
from augscale.evaluation.predictions import read_predictions
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.runs.files import read_json, write_json

QUICK = ProtocolConfig.model_validate({"linear": {"inverse_penalties": (0.01, 1.0)}})
REFERENCES = ["untrained", "raw pixels 16x16", "colour statistics"]


def validated(run, datasets, **options):
    return augscale.validate(run, datasets=datasets, **({"config": QUICK, "bootstrap": 200, "resamples": 50} | options))


@pytest.fixture
def study(finished_study, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(finished_study, tmp_path / "run")


@pytest.fixture(scope="module")
def kept(finished_study, here, tmp_path_factory):
    """A copy with kept results of all networks at step 2, so that a test computes only what it has changed."""
    run = shutil.copytree(finished_study, tmp_path_factory.mktemp("kept") / "run")
    validated(run, here, rung=2, protocols=["knn"])
    return run


@pytest.fixture
def measured(kept, tmp_path):
    """A copy of `kept` that a test may change."""
    return shutil.copytree(kept, tmp_path / "run")


@pytest.fixture(scope="module")
def found(finished_study, here, there, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "validation"
    return validated(finished_study, [here, there], rung=2, out=out)


def test_all_trials_are_compared_at_one_rung_beside_the_references(found):
    trials = [row for row in found.rows if row.kind == "trial"]
    assert len(trials) == 8
    assert all(row.used for row in trials)
    assert [row.name for row in found.rows if row.kind == "reference"] == REFERENCES
    assert found.step == 2
    for row in found.rows:
        assert set(row.outcomes) == {outcome.key for outcome in found.outcomes}
        assert row.scores["ladder/dprime"] is not None


def test_the_outcomes_are_those_of_the_predictions(found):
    files = list((found.out / "step-000002" / "predictions").glob("*.csv"))
    assert len(files) == 8 * 2 * 2
    for p in (read_predictions(path)[0] for path in files):
        row = next(row for row in found.rows if row.name == p.checkpoint)
        expected = roc_auc_score(p.labels, p.scores, multi_class="ovr", average="macro")
        assert row.outcomes[f"{p.tested_on}/{p.protocol}/auroc"] == pytest.approx(expected)


def test_outcomes_are_those_of_evaluate(found, finished_study, here, tmp_path):
    weights = finished_study / "trials" / "0002" / "rung-000002.safetensors"
    evaluation = augscale.evaluate(
        [weights], datasets=[here], protocols=["linear", "knn"], config=QUICK, untrained=False, out=tmp_path / "out"
    )
    row = next(row for row in found.rows if row.number == 2)
    for cell in evaluation.summary.cells:
        assert row.outcomes[f"here/{cell.protocol}/auroc"] == pytest.approx(cell.metrics["auroc"].mean)


def test_the_score_is_the_recorded_one_and_correlations_are_scipys(found, finished_study):
    trials = [row for row in found.rows if row.used]
    for row in trials:
        record = read_json(finished_study / "trials" / f"{row.number:04d}" / "trial.json")
        assert row.scores["study/score"] == record["rungs"][0]["score"]
        # The study's score is d' over the ladder, which validation measured anew from the weights.
        assert row.scores["ladder/dprime"] == pytest.approx(record["rungs"][0]["score"], rel=1e-5)
    for cell in found.correlations[::7]:
        x = [row.scores[cell.score] for row in trials]
        y = [row.outcomes[cell.outcome] for row in trials]
        if np.ptp(x) and np.ptp(y):
            assert cell.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
            assert cell.kendall == pytest.approx(stats.kendalltau(x, y).statistic)


def test_the_headline_is_about_the_mean_auroc_of_the_first_protocol(found):
    assert found.primary == "mean/linear/auroc"
    assert "AUROC linear, mean over datasets" in found.headline
    cell = found.correlation("study/score", found.primary)
    assert f"{cell.spearman:+.2f}"[:4] in found.headline
    assert "8 trials" in found.headline
    text = " ".join(found.sentences)
    for words in ("over strong", "over weak", "over a trial at random", "of 8 trials are above untrained", "chance"):
        assert words in text


def test_regrets_are_differences_of_the_table(found):
    trials = [row for row in found.rows if row.used]
    for row in found.regrets:
        values = row.values
        best = max(trial.outcomes[row.outcome] for trial in trials)
        pick = max(trials, key=lambda trial: trial.scores["study/score"])
        assert values.pick == pick.name
        assert values.regret == pytest.approx(best - pick.outcomes[row.outcome])
        assert [other.name for other in values.alternatives] == ["strong", "weak", "random"]


def test_files_hold_what_the_object_holds(found):
    values = json.loads(found.json.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert values["headline"] == found.headline
    assert len(values["correlations"]) == len(found.metrics) * len(found.outcomes)
    assert "<html" in found.page.read_text()[:100]
    with open(found.out / "correlations.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cell = found.correlation("ladder/pair_auroc", "here/knn/auroc")
    row = next(r for r in rows if (r["score"], r["outcome"]) == (cell.score, cell.outcome))
    assert row["spearman"] == ("" if cell.spearman is None else repr(cell.spearman))
    with open(found.out / "networks.csv", encoding="utf-8") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    assert names[-3:] == REFERENCES
    assert (found.out / "regrets.csv").is_file()


def test_the_same_call_computes_nothing_again_and_gives_the_same(measured, here):
    first = validated(measured, here, rung=2, protocols=["knn"])
    files = [
        path for path in (measured / "validation").rglob("*") if path.is_file() and path.parent.name != "validation"
    ]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert {path.parent.name for path in files} >= {"predictions", "scores"}
    again = validated(measured, here, rung=2, protocols=["knn"])
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert again.to_dict() | {"finished": ""} == first.to_dict() | {"finished": ""}


def test_the_default_rung_is_the_last_that_most_trials_reached(finished_study, here, tmp_path):
    found = validated(finished_study, here, out=tmp_path / "out", protocols=["knn"])
    records = [read_json(path) for path in sorted(finished_study.glob("trials/*/trial.json"))]
    reached = {step: sum(any(r["step"] == step for r in rec["rungs"]) for rec in records) for step in (2, 4, 8)}
    assert found.step == max(step for step, count in reached.items() if 2 * count > 8)
    assert found.primary == "here/knn/auroc"
    shorter = 8 - reached[found.step]
    assert sum(row.reason == "pruned before" for row in found.rows) == shorter


def test_weights_that_are_missing_are_named_with_the_way_out(measured, here):
    for number in (4, 5):
        (measured / "trials" / f"{number:04d}" / "rung-000002.safetensors").unlink()
    found = validated(measured, here, rung=2, protocols=["knn"])
    assert [row.number for row in found.rows if row.reason == "no weights"] == [4, 5]
    note = next(note for note in found.notes if note.startswith("no weights"))
    assert "trial 4, trial 5" in note
    assert "search.keep_weights=rungs" in note
    assert "--remake" in note
    assert found.correlation("study/score", found.primary).n == 6


def test_too_few_weights_are_refused_before_anything_is_computed(study, here):
    for path in study.glob("trials/000[0-5]/*.safetensors"):
        path.unlink()
    with pytest.raises(
        ConfigError, match=r"2 of 8 finished trials can be used at step 2; expected at least 4"
    ) as error:
        validated(study, here, rung=2)
    assert "step 2: 8 trials, 2 with weights" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (study / "validation").exists()


def test_a_trial_that_is_made_again_has_the_same_weights(measured, here):
    path = measured / "trials" / "0006" / "rung-000002.safetensors"
    before = safetensors.torch.load_file(path)
    for weights in measured.glob("trials/000[67]/rung-*.safetensors"):
        weights.unlink()
    validated(measured, here, rung=2, remake=True, protocols=["knn"])
    after = safetensors.torch.load_file(path)
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)
    assert read_json(path.with_suffix(".json"))["trained_steps"] == 2
    assert not list((measured / "validation").rglob("*.pt")), "the resumable state is not needed any more"


def test_a_trial_that_is_made_again_and_scores_otherwise_is_refused(measured, here):
    directory = measured / "trials" / "0006"
    (directory / "rung-000002.safetensors").unlink()
    record = read_json(directory / "trial.json")
    record["rungs"][0]["score"] += 0.01
    write_json(directory / "trial.json", record)
    with pytest.raises(StudyError, match=r"trial 6, step 2: made again it scores .* expected the same trial"):
        validated(measured, here, rung=2, remake=True, protocols=["knn"])
    assert not (directory / "rung-000002.safetensors").exists()


def test_a_collapsed_trial_is_shown_and_not_counted(measured, here):
    record_file = measured / "trials" / "0005" / "trial.json"
    record = read_json(record_file)
    record["health"]["verdict"] = "collapsed"
    write_json(record_file, record)
    found = validated(measured, here, rung=2, protocols=["knn"])
    row = next(row for row in found.rows if row.number == 5)
    assert (row.used, row.reason) == (False, "collapsed")
    assert row.outcomes
    assert found.correlation("study/score", found.primary).n == 7


def test_the_report_of_the_run_shows_the_validation(measured, here):
    from augscale.searching.search import rewrite_report

    validated(measured, here, rung=2, protocols=["knn"])
    page = rewrite_report(measured).read_text(encoding="utf-8")
    assert 'id="validation-correlations"' in page
    assert 'href="#validation"' in page


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["RUN", "--rung", "3"], 2, "--rung 3: expected a rung of the study, 2, 4, 8 (steps)"),
        (["RUN", "--protocol", "finetune"], 2, "--protocol finetune: validate takes frozen protocols"),
        (["RUN", "--datasets", "/no/such"], 3, "/no/such does not exist"),
        (["/no/such/run"], 2, "not a run folder"),
        (["RUN", "--patients-from", ""], 2, "patient_pattern: '' has no group in parentheses"),
        (["RUN", "--set", "knn.temperatur=1"], 2, "did you mean knn.temperature"),
        (["RUN", "--out", "/proc/nowhere"], 2, "cannot be written"),
    ],
)
def test_wrong_input_is_one_line_and_an_exit_code(finished_study, here, tmp_path, arguments, code, message):
    from augscale.errors import AugscaleError

    arguments = [str(finished_study) if a == "RUN" else a for a in arguments]
    if "--datasets" not in arguments:
        arguments += ["--datasets", str(here)]
    if "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["validate", *arguments])
    assert isinstance(done.exception, AugscaleError), done.exception
    assert done.exception.exit_code == code
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)


def test_unlabelled_data_are_refused(finished_study, here, tmp_path):
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    shutil.copy(here / "00.png", folder)
    with pytest.raises(DataError, match="none of its 1 images has a label"):
        validated(finished_study, folder, rung=2, out=tmp_path / "out")


def test_the_command_line_prints_the_result_as_json_or_in_words(finished_study, here, tmp_path):
    command = ["validate", str(finished_study), "--datasets", str(here), "--protocol", "knn", "--rung", "2"]
    command += ["--out", str(tmp_path / "out"), "--bootstrap", "100"]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.exception
    values = json.loads(done.stdout)
    assert values["step"] == 2
    plain = CliRunner().invoke(app, command)
    assert " ".join(plain.stdout.split()).count(values["headline"]) == 1
    assert "\nraw pixels 16x16 " in plain.stdout
    assert plain.stdout.isascii()


def test_a_stopped_validation_keeps_what_is_finished_and_goes_on(study, here, tmp_path):
    command = [sys.executable, "-m", "augscale", "validate", str(study), "--datasets", str(here), "--rung", "2"]
    command += ["--bootstrap", "100"]
    # A cache of its own: features that are known already would leave it too little to do to be caught.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "AUGSCALE_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    end = time.monotonic() + 120
    predictions = study / "validation" / "step-000002" / "predictions"
    while not list(predictions.glob("*.json")) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 143, errors
    assert "stopped by SIGTERM; finished parts are kept" in errors
    kept = {path: path.stat().st_mtime_ns for path in predictions.glob("*.json")}
    assert 0 < len(kept) < 16
    again = CliRunner().invoke(app, command[3:])
    assert again.exit_code == 0, again.exception
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(predictions.glob("*.json"))) == 16
