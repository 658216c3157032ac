"""A search whose score is the spectrum's slope, from trials to the report."""

from __future__ import annotations

import json
import tomllib
from html import unescape
from pathlib import Path

import pytest
from tiny_runs import searched

from augscale.config import load_study
from augscale.runs.files import read_json
from augscale.searching.trust import trust_statement


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("slope") / "run"
    settings = ("probe.score=alpha_req", "confirm.seeds=1", "search.null_trials=0")
    done = searched(out, "--trials", "5", *(word for setting in settings for word in ("--set", setting)))
    assert done.exit_code == 0, done.exception
    return out, done.stdout


def test_every_score_is_minus_a_distance_and_the_best_is_nearest_to_one(finished: tuple[Path, str]) -> None:
    out, _ = finished
    finals = [read_json(path)["final"] for path in out.glob("trials/*/trial.json")]
    scores = [final["score"] for final in finals if final]
    assert len(scores) >= 3
    assert all(-10 <= score < 0 for score in scores)
    assert {final["score_name"] for final in finals if final} == {"alpha_req"}
    assert read_json(out / "untrained.json")["score_name"] == "alpha_req"
    answer = json.loads((out / "answer.json").read_text(encoding="utf-8"))
    assert answer["score_name"] == "alpha_req"
    best = next(c for c in answer["contenders"] if c["name"] == answer["best"])
    assert best["search_score"] <= 0


def test_the_card_the_report_and_the_terminal_name_it_and_say_how_far_it_goes(finished: tuple[Path, str]) -> None:
    out, said = finished
    assert tomllib.loads((out / "best.toml").read_text(encoding="utf-8"))["card"]["score_name"] == "alpha_req"
    report = unescape((out / "report.html").read_text(encoding="utf-8"))
    assert "spectrum slope" in report.lower()
    assert "how evenly the embeddings of a fixed panel use their directions" in report
    assert trust_statement(load_study(out / "study.toml")) in report
    assert "Score: spectrum slope, 0 is best" in " ".join(said.split())
    assert "pairs apart" not in said
