"""The heading of a scale card claims no more than the outcome of its search."""

import tomllib

import pytest

from augscale.augmentation.scales import PRESETS
from augscale.config import load_study
from augscale.records.answer import AnswerRecord, ContenderRecord, UntrainedComparison
from augscale.searching.scale_card import scale_card


@pytest.mark.parametrize(
    ("beaten", "seeds", "outcome"),
    [(True, 2, "best found"), (True, 1, "no verdict"), (False, 2, "training taught nothing")],
)
def test_only_a_card_of_an_answer_is_called_the_best(beaten, seeds, outcome):
    weak = ContenderRecord(
        name="weak",
        kind="control",
        number=1,
        scales=PRESETS["weak"].model_dump(),
        search_score=1.0,
        confirm_scores=(1.0,) * seeds,
    )
    before = UntrainedComparison(score=0.5, difference=0.5, beaten=beaten, seeds=seeds)
    answer = AnswerRecord(best="weak", headline="Said.", contenders=(weak,), untrained=before)
    text = scale_card(load_study("smoke"), answer, weak, "abc")
    assert tomllib.loads(text)["card"]["outcome"] == outcome
    heading = text.splitlines()[0]
    assert heading.startswith("# Scale card: ")
    assert ("the best" in heading) == (outcome == "best found")
    assert ("does not show that they are good" in heading) == (outcome != "best found")
