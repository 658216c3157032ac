"""The headline says no more than the comparisons."""

import pytest

from augscale.records.answer import ContenderRecord, UntrainedComparison, VersusRecord
from augscale.searching.answer_words import headline, sentences


def _contender(name, kind, difference=None, distinguishable=False):
    versus = None
    if difference is not None:
        versus = VersusRecord(difference=difference, interval=(-1.0, 1.0), distinguishable=distinguishable)
    return ContenderRecord(name=name, kind=kind, scales={}, versus_best=versus)


BEST = _contender("trial 7", "best")


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        ((-0.3, True, -0.2, True), "The scales of trial 7 keep pairs apart better than weak and strong."),
        (
            (-0.3, True, -0.2, False),
            "The scales of trial 7 keep pairs apart better than weak, and are not distinguishable from strong.",
        ),
        (
            (-0.3, False, -0.2, False),
            "The scales of trial 7 score highest, but are not distinguishable from weak and strong.",
        ),
        (
            (+0.3, True, -0.2, True),
            "The scales of trial 7 score highest of those that were confirmed in full, but weak did better on the "
            "fresh seeds that it has.",
        ),
        ((+0.3, False, -0.2, True), "better than strong, and are not distinguishable from weak."),
    ],
)
def test_the_headline_goes_by_sign_and_distinguishability(controls, expected):
    weak, strong = _contender("weak", "control", *controls[:2]), _contender("strong", "control", *controls[2:])
    assert headline(BEST, [BEST, weak, strong], None, (), "dprime").endswith(expected)


def test_without_confirmation_nothing_is_claimed():
    others = [_contender("weak", "control"), _contender("trial 3", "runner-up")]
    assert "nothing was confirmed" in headline(BEST, [BEST, *others], None, (), "dprime")


@pytest.mark.parametrize(
    ("pretrained", "distinguishable", "expected"),
    [
        (
            False,
            False,
            "No answer: even trial 7, the best, does not keep pairs apart better than the network before training; the "
            "scales are not distinguishable from each other either. A ranking of scales needs longer trials.",
        ),
        (
            True,
            True,
            "No answer: even trial 7, the best, does not keep pairs apart better than the pre-trained network that it "
            "began with; trial 7 is better than strong, but that may only mean that it harms the start less. A ranking "
            "of scales needs longer trials or a lower learning rate.",
        ),
    ],
)
def test_whether_scales_differ_is_said_apart_from_whether_training_helped(pretrained, distinguishable, expected):
    strong = _contender("strong", "control", -0.2, distinguishable)
    before = UntrainedComparison(score=1.0, difference=-0.1, beaten=False)
    assert headline(BEST, [BEST, strong], before, (), "dprime", pretrained=pretrained) == expected


def test_one_fresh_seed_is_said_and_nothing_is_compared():
    best = BEST.model_copy(update={"confirm_scores": (1.0,)})
    said = headline(best, [best, _contender("weak", "control")], None, (), "dprime")
    assert said == (
        "The scales of trial 7 score highest on one fresh seed, which allows no verdict: use confirm.seeds = 2 or more."
    )


def test_one_seed_below_the_network_before_training_is_no_answer_and_no_verdict():
    best = BEST.model_copy(update={"confirm_scores": (1.0,)})
    before = UntrainedComparison(score=1.0, difference=-0.1, beaten=False, seeds=1)
    said = headline(best, [best, _contender("weak", "control")], before, (), "dprime")
    assert said.startswith("No answer: on one seed even trial 7, the highest, does not show that training helps")
    assert "not compared with each other, because one seed allows no verdict" in said
    assert "confirm.seeds = 2 or more" in said
    (words,) = [line for line in sentences(best, [best], before, "dprime") if "network before" in line]
    assert words.endswith("-0.100 d' (one seed: no verdict).")
    with_bounds = before.model_copy(update={"interval": (-0.2, 0.1)})
    assert sentences(best, [best], with_bounds, "dprime")[1] == words, "an interval over images is no evidence"


def test_one_seed_above_the_network_before_training_is_called_highest_only():
    best = BEST.model_copy(update={"confirm_scores": (1.0,)})
    before = UntrainedComparison(score=0.5, difference=0.5, interval=(0.4, 0.6), beaten=True, seeds=1)
    said = headline(best, [best, _contender("weak", "control")], before, (), "dprime")
    assert said.startswith("The scales of trial 7 score highest on one fresh seed, which allows no verdict")
