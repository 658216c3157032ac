"""The heading of a scale card claims no more than the outcome of its search."""

import tomllib

import pytest

from augscale.augmentation.scales import PRESETS
from augscale.config import load_study
from augscale.records.answer import AnswerRecord, ContenderRecord, UnfinishedRecord, UntrainedComparison
from augscale.searching.scale_card import NO_LOCAL_CROPS, scale_card


@pytest.mark.parametrize(
    ("beaten", "seeds", "left", "outcome"),
    [
        (True, 2, {}, "best found"),
        (True, 2, {"trials": 3}, "best found"),
        (True, 2, {"trials": 3, "confirmations": 1}, "not finished"),
        (True, 2, {"nulls": 1}, "not finished"),
        (True, 1, {}, "no verdict"),
        (False, 2, {}, "training taught nothing"),
    ],
)
def test_only_a_card_of_an_answer_is_called_the_best(beaten, seeds, left, outcome):
    """Trials that a budget has left do not change what the confirmation has found."""
    weak = ContenderRecord(
        name="weak",
        kind="control",
        number=1,
        scales=PRESETS["weak"].model_dump(),
        search_score=1.0,
        confirm_scores=(1.0,) * seeds,
    )
    before = UntrainedComparison(score=0.5, difference=0.5, beaten=beaten, seeds=seeds)
    unfinished = (
        UnfinishedRecord(**({"trials": 0, "wanted": 12, "confirmations": 0, "planned": 6, "nulls": 0} | left))
        if left
        else None
    )
    answer = AnswerRecord(best="weak", headline="Said.", contenders=(weak,), untrained=before, unfinished=unfinished)
    text = scale_card(load_study("smoke"), answer, weak, "abc")
    without = scale_card(load_study("smoke"), answer.model_copy(update={"local_crops": False}), weak, "abc")
    assert [line for line in without.splitlines() if line not in text.splitlines()] == [NO_LOCAL_CROPS]
    assert "local_crops_scale had no effect" in NO_LOCAL_CROPS
    assert tomllib.loads(without)["scales"] == tomllib.loads(text)["scales"], "the card stays a complete one"
    assert tomllib.loads(text)["card"]["outcome"] == outcome
    heading = text.splitlines()[0]
    assert heading.startswith("# Scale card: ")
    assert ("the best" in heading) == (outcome == "best found")
    assert ("does not show that they are good" in heading) == (outcome != "best found")
