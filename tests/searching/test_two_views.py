"""A search without local crops: their scales are neither sampled nor shown, and runs of earlier versions continue."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import optuna
import pytest
from tiny_runs import searched

from augscale.augmentation.scales import PRESETS, load_scales
from augscale.config import StudyConfig, load_study
from augscale.reporting.search.results import read_run as read_results
from augscale.runs.folders import RunFolder
from augscale.searching import study as study_module
from augscale.searching.space import distributions, params_from_scales
from augscale.searching.storage import sqlite_storage
from augscale.searching.study import claim_trial, enqueue_controls, open_study, trial_scales

optuna.logging.set_verbosity(optuna.logging.ERROR)

TWO_VIEWS = {"pretrain.method": "simclr", "crops.n_local": 0}
FLAGS = [part for name, value in TWO_VIEWS.items() for part in ("--set", f"{name}={value}")]
QUICK = ["--set", "search.prune=false", "--set", "confirm.seeds=0", "--set", "search.null_trials=0"]
OTHERS = {"global_crop_low", "jitter"}
ALL = {"global_crop_low", "local_crop_low", "local_crop_width", "jitter"}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


def _as_before(patch: pytest.MonkeyPatch) -> None:
    """Earlier versions sampled the whole space, and gave controls all parameters."""
    patch.setattr(study_module, "searched", lambda config: distributions(config.space))
    patch.setattr(
        study_module, "_control_params", lambda config, name: params_from_scales(config.space, load_scales(name))
    )


def _open(run: RunFolder, **search: object) -> tuple[StudyConfig, optuna.Study]:
    config = load_study("smoke", TWO_VIEWS | {f"search.{key}": value for key, value in search.items()})
    study = open_study(config, sqlite_storage(run.database), "test")
    enqueue_controls(study, run, config)
    return config, study


def _claim_and_tell(run: RunFolder, config: StudyConfig, study: optuna.Study, count: int, sign: float = -1.0) -> None:
    for _ in range(count):
        claim = claim_trial(study, run, config)
        assert claim is not None
        study.tell(claim.trial, sign * claim.trial.params.get("jitter", 0.4))
        claim.lock.release()


def test_trials_sample_the_other_parameters_and_train_with_the_local_crops_of_the_base(run):
    config, study = _open(run, trials=12, startup_trials=2)
    _claim_and_tell(run, config, study, 10)
    searched_trials = study.trials[4:]
    assert {frozenset(trial.params) for trial in searched_trials} == {frozenset(OTHERS)}
    assert {trial_scales(config, trial).local_crops_scale for trial in searched_trials} == {
        PRESETS["strong"].local_crops_scale
    }
    assert len({trial_scales(config, trial).global_crops_scale for trial in searched_trials}) == 6
    claim = claim_trial(study, run, config)
    assert set(claim.trial.relative_params) == OTHERS, "the sampler models nothing without effect"
    assert set(study.trials[2].params) == OTHERS, "strong lies in the space and teaches the sampler"


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_a_study_of_an_earlier_version_continues_without_the_parameters_that_have_no_effect(run, monkeypatch, sampler):
    with monkeypatch.context() as patch:
        _as_before(patch)
        config, study = _open(run, trials=30, startup_trials=2, sampler=sampler)
        _claim_and_tell(run, config, study, 12)
        claim = claim_trial(study, run, config)  # its worker is told to stop
        claim.trial.set_user_attr("paused", True)
        claim.lock.release()
    before = [dict(trial.params) for trial in study.trials]
    assert {frozenset(params) for params in before[4:]} == {frozenset(ALL)}

    config, study = _open(run, trials=30, startup_trials=2, sampler=sampler)
    claim = claim_trial(study, run, config)
    assert (claim.number, claim.trial.params) == (12, before[12]), "the interrupted trial goes on as it began"
    low, width = before[12]["local_crop_low"], before[12]["local_crop_width"]
    assert claim.scales.local_crops_scale == (low, min(1.0, low + width))
    study.tell(claim.trial, -claim.trial.params["jitter"])
    claim.lock.release()
    _claim_and_tell(run, config, study, 8)
    assert [trial.params for trial in study.trials[:13]] == before
    later = study.trials[13:]
    assert {frozenset(trial.params) for trial in later} == {frozenset(OTHERS)}
    assert {trial_scales(config, trial).local_crops_scale for trial in later} == {PRESETS["strong"].local_crops_scale}


def test_the_sampler_learns_from_the_trials_of_the_earlier_version(run, monkeypatch):
    """What it proposes depends on their scores, which differ by sign here."""
    proposed = {}
    for sign in (1.0, -1.0):
        folder = RunFolder(run.path / str(sign))
        folder.create()
        with monkeypatch.context() as patch:
            _as_before(patch)
            config, study = _open(folder, trials=40, startup_trials=2)
            _claim_and_tell(folder, config, study, 16, sign)
        config, study = _open(folder, trials=40, startup_trials=2)
        _claim_and_tell(folder, config, study, 6, sign)
        proposed[sign] = np.mean([trial.params["jitter"] for trial in study.trials[16:]])
    assert proposed[1.0] > 0.4 > proposed[-1.0]


def _no_local_crops_in(out: Path) -> None:
    """Answer, card, page and terminal of a run leave out what only local crops depend on."""
    answer = json.loads((out / "answer.json").read_text())
    assert not answer["local_crops"]
    assert set(answer["importance"]) == OTHERS
    described = [contender["description"] for contender in answer["contenders"]]
    for text in (*answer["sentences"], *described):
        assert "local" not in text
    assert any("global crops 40 to 100 % of the image; aspect ratio" in text for text in described)
    card = (out / "best.toml").read_text()
    assert "# The search drew no local crops: local_crops_scale had no effect, and nothing is known of it." in card
    assert load_scales(out / "best.toml").model_dump(mode="json") == answer["contenders"][0]["scales"]
    page = (out / "report.html").read_text()
    assert "Smallest global crop" in page
    assert "Smallest local crop" not in page
    assert "Local crops: largest" not in page
    assert "local %" not in page
    assert "Local crops" not in page
    assert {name for trial in read_results(out).trials for name in trial.params} == OTHERS


def test_nothing_that_people_read_names_the_scales_of_local_crops(tmp_path):
    result = searched(tmp_path / "run", *FLAGS, *QUICK, "--trials", "13")
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if "local" in line]
    said = " ".join(" ".join(lines).split())
    assert said.startswith("no local crops are drawn (crops.n_local = 0), so local_crop_low")
    assert said.count("local crops") == 2, lines  # and the legend of the table: none were drawn
    assert "global 40-100 %, jitter 0.40" in result.output
    _no_local_crops_in(tmp_path / "run")


def test_a_run_of_an_earlier_version_is_resumed_to_such_an_answer(tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        _as_before(patch)
        assert searched(out, *FLAGS, *QUICK, "--trials", "9").exit_code == 0
    record = json.loads((out / "trials" / "0008" / "trial.json").read_text())
    assert set(record["params"]) == ALL
    result = searched(out, *FLAGS, *QUICK, "--trials", "13")
    assert result.exit_code == 0, result.output
    assert json.loads((out / "trials" / "0008" / "trial.json").read_text()) == record
    assert set(json.loads((out / "trials" / "0012" / "trial.json").read_text())["params"]) == OTHERS
    assert tomllib.loads((out / "study.toml").read_text())["search"]["trials"] == 13
    _no_local_crops_in(out)
