"""Words that follow the numbers: no claim where the interval or the permutation test makes none."""

import pytest

from augscale.records.validation import CorrelationCell, OutcomeColumn
from augscale.statistics.regret import regret
from augscale.validation.verdict import headline, regret_sentence, reliability_sentence, selection_note

OUTCOME = OutcomeColumn(
    key="mean/linear/auroc",
    dataset="mean",
    protocol="linear",
    metric="auroc",
    label="AUROC linear, mean over datasets",
    test_images=100,
    reliability=0.3,
    above={"untrained": 3},
)
CELL = CorrelationCell(
    score="study/score",
    outcome=OUTCOME.key,
    n=14,
    spearman=0.41,
    spearman_interval=(-0.1, 0.7),
    kendall=0.3,
    kendall_interval=(-0.1, 0.5),
    p_value=0.14,
    regret=0.01,
    note="",
)


@pytest.mark.parametrize(
    ("rho", "interval", "p", "words"),
    [
        (
            0.41,
            (-0.1, 0.7),
            0.14,
            "is not shown to agree with AUROC linear, mean over datasets better than chance does",
        ),
        (0.8, (0.4, 0.9), 0.001, "the score's rank agrees with AUROC"),
        (0.5, (0.05, 0.8), 0.08, "is not shown to agree"),
        (-0.8, (-0.9, -0.4), 0.001, "the score ranks trials against AUROC"),
    ],
)
def test_the_headline_claims_only_what_interval_and_permutations_both_show(rho, interval, p, words):
    text = headline(CELL.model_copy(update={"spearman": rho, "spearman_interval": interval, "p_value": p}), OUTCOME)
    assert words in text
    assert f"Spearman {rho:+.2f} [{interval[0]:+.2f}, {interval[1]:+.2f}], 14 trials" in text


def test_of_trials_that_were_chosen_by_earlier_scores_nothing_is_said_about_chance():
    for rho, interval in ((0.8, (0.4, 0.9)), (-0.8, (-0.9, -0.4))):
        cell = CELL.model_copy(update={"spearman": rho, "spearman_interval": interval, "p_value": 0.001})
        assert "chance" in headline(cell, OUTCOME)
        said = headline(cell, OUTCOME, adaptive=True)
        assert "than chance" not in said
        assert said.endswith("whether by chance cannot be told, see the notes.")


def test_without_a_correlation_the_headline_says_why():
    changes = {"spearman": None, "spearman_interval": None, "note": "the score is the same in all rows"}
    text = headline(CELL.model_copy(update=changes), OUTCOME)
    assert text.endswith("cannot be told: the score is the same in all rows.")


def test_regret_in_words():
    found = regret([3, 1, 2], [0.70, 0.80, 0.75], names=["weak", "a", "strong"], bootstrap=0)
    text = regret_sentence(found, OUTCOME)
    assert "the score picks weak (0.700), labels would pick a (0.800): regret 0.100" in text
    assert "-0.050 over strong, +0.000 over weak, -0.050 over a trial at random" in text


def test_a_noisy_outcome_is_said_to_limit_any_score():
    assert "about 0.55 only" in reliability_sentence(OUTCOME)
    assert reliability_sentence(OUTCOME.model_copy(update={"reliability": 0.8})) == ""
    assert reliability_sentence(OUTCOME.model_copy(update={"reliability": None})) == ""


def test_a_selection_by_the_score_is_said():
    assert "selection" in selection_note(7, 30, "best")
    assert selection_note(30, 30, "best") == ""
    assert selection_note(20, 30, "rungs") == ""
