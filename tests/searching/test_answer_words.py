"""The headline says no more than the comparisons."""

import pytest

from augscale.records.answer import ContenderRecord, VersusRecord
from augscale.searching.answer_words import headline


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
