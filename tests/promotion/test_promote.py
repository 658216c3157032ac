"""Promotion: confirmation, full pre-training of best and controls, evaluation, one report; and going on."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tiny_runs import worker_in_this_process

import augscale
from augscale.errors import ConfigError, DataError
from augscale.evaluation import evaluate as api
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.evaluation.which_checkpoints import newest_promotion
from augscale.pretrain_config import method_overrides
from augscale.promotion import promote
from augscale.reporting.evaluation.promotion_terminal import promotion_screen
from augscale.reporting.shared.screen import plain_screen
from augscale.runs.files import read_json

SEARCH = {
    "search.controls": ["weak", "strong"],
    "confirm.seeds": 2,
    "search.null_trials": 0,
    "search.prune": False,
}
"""Without pruning, which rounding decides at such scores, there is a candidate to promote on every machine."""
CONFIG = ProtocolConfig.model_validate({"seeds": 2, "released": {"epochs": 2, "draws": 1}})


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUGSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(api, "open_dataset", partial(api.open_dataset, synthetic_patients=40))
        with worker_in_this_process():
            yield


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "smoke"
    augscale.search("smoke", trials=3, workers=1, out=out, overrides=SEARCH, quiet=True)
    return out


@pytest.fixture(scope="module")
def promoted(run_dir, tmp_path_factory):
    return augscale.promote(
        run_dir, steps=6, confirm_seeds=3, workers=1, evaluations=2, datasets=["synthetic"], protocols=["knn"],
        config=CONFIG,
    )  # fmt: skip


def test_best_and_controls_are_trained_alike(promoted, run_dir):
    names = [c.name for c in promoted.contenders]
    assert names[1:] == ["strong", "weak"]
    assert names[0].startswith("trial ")
    sidecars = [read_json(c.weights.with_suffix(".json")) for c in promoted.contenders]
    assert len({s["seed"] for s in sidecars}) == 1
    assert [s["scales"]["brightness"] for s in sidecars[1:]] == [0.4, 0.2]
    assert {c.summary["steps"] for c in promoted.contenders} == {6}


def test_missing_confirmation_runs_were_made_and_no_trial_again(promoted, run_dir):
    runs = [read_json(path) for path in (run_dir / "confirm").glob("*/trial.json")]
    assert {run["seed_index"] for run in runs} == {0, 1, 2}
    assert len(list((run_dir / "trials").iterdir())) == 3
    assert promoted.confirmation == read_json(run_dir / "answer.json")["headline"]


def test_the_report_and_the_evaluation_are_of_these_checkpoints(promoted, run_dir):
    assert {c.checkpoint for c in promoted.evaluation.summary.cells} == {
        *(c.name for c in promoted.contenders),
        "untrained vit_tiny_patch16_224",
    }
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert 'id="evaluation"' in page
    assert 'href="#internal"' in page


def test_the_screen_says_first_what_labels_say_then_the_full_runs(promoted, run_dir):
    text = plain_screen(promotion_screen(promoted))
    places = [text.index(words) for words in ("AUROC", "tested on", "Full pre-training", "- On fresh seeds", "Report")]
    assert places == sorted(places)
    for contender in promoted.contenders:
        assert f"{contender.name} " in text
    assert f"{run_dir}/report.html" in text
    alone = promotion_screen(replace(promoted, evaluation=None))
    assert alone.headline.startswith("On fresh seeds at trial length: ")
    assert [table.title for table in alone.tables] == ["Full pre-training"]


def test_the_newest_promotion_is_what_an_evaluation_without_checkpoints_takes(promoted, run_dir):
    assert newest_promotion(run_dir.parent) == run_dir / "promote" / "promotion.json"
    content = json.loads((run_dir / "promote" / "promotion.json").read_text())
    for contender in content["contenders"]:
        assert (run_dir / "promote" / contender["weights"]).is_file()


def test_the_same_call_trains_nothing_again(promoted, run_dir):
    before = {c.weights: c.weights.stat().st_mtime_ns for c in promoted.contenders}
    again = augscale.promote(
        run_dir, steps=6, confirm_seeds=3, workers=1, evaluations=2, datasets=None, protocols=["knn"]
    )
    assert {c.weights: c.weights.stat().st_mtime_ns for c in again.contenders} == before


def test_what_is_no_finished_search_is_refused(tmp_path, run_dir):
    with pytest.raises(ConfigError, match="not a run folder"):
        augscale.promote(tmp_path)
    with pytest.raises(ConfigError, match="--controls wek"):
        augscale.promote(run_dir, controls=["wek"], steps=6, workers=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"datasets": ["./typo"]}, "typo"),
        ({"datasets": ["synthetic"], "protocols": ["lineer"]}, "lineer"),
        ({"datasets": ["synthetic"], "patient_pattern": "P["}, "'P\\[' is not a regular expression"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused_before_days_of_training(run_dir, monkeypatch, arguments, message):
    monkeypatch.setattr(promote, "pretrain_full", lambda *a, **k: pytest.fail("trained"))
    monkeypatch.setattr(promote, "search", lambda *a, **k: pytest.fail("confirmed"))
    with pytest.raises((ConfigError, DataError), match=message):
        augscale.promote(run_dir, steps=6, confirm_seeds=4, **arguments)


def test_a_plain_search_afterwards_keeps_what_was_confirmed(promoted, run_dir):
    before = read_json(run_dir / "answer.json")
    augscale.search("smoke", trials=3, workers=1, out=run_dir, overrides=SEARCH, quiet=True)
    after = read_json(run_dir / "answer.json")
    assert [c["confirm_scores"] for c in after["contenders"]] == [c["confirm_scores"] for c in before["contenders"]]
    assert {len(c["confirm_scores"]) for c in after["contenders"]} == {3}


def test_full_runs_by_another_method_lie_beside_those_of_the_search(promoted, run_dir):
    other = augscale.promote(
        run_dir, controls=["weak"], steps=3, confirm_seeds=3, workers=1, evaluations=1, datasets=None,
        overrides=method_overrides("simclr"),
    )  # fmt: skip
    assert other.contenders[-1].weights.parent == run_dir / "promote" / "weak-simclr"
    assert read_json(other.contenders[-1].weights.with_suffix(".json"))["method"] == "simclr"
    assert read_json(promoted.contenders[-1].weights.with_suffix(".json"))["method"] == "dino"
