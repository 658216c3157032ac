"""The screen at the end of a promotion; `tests/promotion` shows it for a real one."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_predictions import made_evaluation

from augscale.evaluation.summary import summarize
from augscale.promotion.promote import Promotion
from augscale.reporting.evaluation.promotion_terminal import promotion_screen
from augscale.reporting.shared.screen import plain_screen


def contender(name, score):
    last = SimpleNamespace(score=score, score_name="dprime")
    result = SimpleNamespace(steps=12_000, epochs=100.0, loss=3.25, seconds=7260.0, last=last)
    return SimpleNamespace(name=name, result=result)


@pytest.fixture
def promotion():
    summary = summarize(made_evaluation(), resamples=20, ordered={"aptos2019"})
    return Promotion(
        run_dir=Path("runs/default"),
        contenders=(contender("trial 7", 1.5), contender("weak", 1.25)),
        confirmation="The scales of trial 7 score highest, but are not distinguishable from weak.",
        evaluation=SimpleNamespace(summary=summary, out=Path("runs/default/evaluation")),
    )


def test_labels_come_first_then_the_full_runs_notes_and_files(promotion):
    text = plain_screen(promotion_screen(promotion))
    order = ("Better by AUROC", "tested on", "Full pre-training", "- On fresh seeds at trial length: The", "Report")
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert "trial 7  12,000  100     3.250  1.500  2 h 01 min" in text
    assert text.endswith("Results: runs/default/evaluation/evaluation.html")


def test_without_an_evaluation_the_confirmation_is_the_answer(promotion):
    screen = promotion_screen(replace(promotion, evaluation=None))
    assert screen.headline.startswith("On fresh seeds at trial length: The scales of trial 7")
    assert [table.title for table in screen.tables] == ["Full pre-training"]
    assert screen.files == (("Report", Path("runs/default/report.html")),)
