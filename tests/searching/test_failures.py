"""Reasons of failed trials, grouped, and when they stop a search."""

from datetime import datetime, timedelta

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from augscale.searching.failures import advice_for, all_failed, failure_groups, failure_sentence, reason_to_stop

START = datetime(2026, 1, 1, 12)


def _trials(*reasons: str | None, error: str = "AugscaleError") -> list[FrozenTrial]:
    """One a minute; None: complete."""
    trials = []
    for number, reason in enumerate(reasons):
        if reason is None:
            trial = create_trial(value=1.0)
        else:
            trial = create_trial(state=TrialState.FAIL, user_attrs={"reason": reason, "error": error})
        trial.number = number
        trial.datetime_complete = START + timedelta(minutes=number)
        trials.append(trial)
    return trials


def _minute(number: float) -> float:
    return (START + timedelta(minutes=number)).timestamp()


def test_reasons_that_differ_in_numbers_alone_are_one_and_the_most_frequent_comes_first():
    trials = _trials("out of memory", "loss is nan at step 3 (lr 1.0e+30)", None, "loss is nan at step 12 (lr 5.0e-01)")
    groups = failure_groups(trials)
    assert [(group.reason, group.trials) for group in groups] == [
        ("loss is nan at step 3 (lr 1.0e+30)", (1, 3)),
        ("out of memory", (0,)),
    ]
    said = failure_sentence(trials)
    assert said.startswith("3 of 4 trials failed: 2 x loss is nan at step 3 (lr 1.0e+30) - lower pretrain.lr")
    assert "1 x out of memory - fewer --workers" in said
    assert "\n" not in said
    assert failure_sentence(_trials(None)) == ""
    assert [all_failed(some) for some in (trials, trials[:2], [])] == [False, True, False]


@pytest.mark.parametrize(("reason", "change"), [
    ("loss is nan at step 12 of trial 3", "pretrain.lr"),
    ("a weight of the teacher is not finite at step 2 (lr 1.0e+30, teacher_temp 0.04); no checkpoint", "pretrain.lr"),
    ("score is inf at step 4", "pretrain.lr"),
    ("out of memory at step 1 with micro-batches of 1 image; expected a smaller ...", "pretrain.batch_size"),
    ("MemoryError: Unable to allocate 3 GiB", "--max-memory"),
    ("pretrain.max_memory = 1MB: the smallest micro-batches are estimated to need 12 MB", "a higher --max-memory"),
    ("its worker died 2 times", "main memory"),
    ("RuntimeError: CUDA error: device-side assert triggered", "another --device"),
    ("/data/eye/0012.jpg: truncated", "--exclude"),
    ("ZeroDivisionError: division by zero", "traceback.txt"),
])  # fmt: skip
def test_advice_follows_the_reason(reason, change):
    assert change in advice_for(reason)


def test_a_row_of_failures_stops_with_every_reason():
    trials = _trials(None, "loss is nan", "out of memory", "loss is nan")
    assert reason_to_stop(trials, 4, since=0.0) is None
    said = reason_to_stop(trials, 3, since=0.0)
    assert said.startswith("the last 3 trials failed; the newest, trial 3: loss is nan; in all 2 x loss is nan")
    assert "1 x out of memory" in said
    assert "search.max_failures" in said


def test_an_error_of_the_settings_stops_at_the_first_trial_of_a_session():
    trials = _trials("pretrain.max_memory = 1MB: too little", error="ConfigError")
    assert "trial 0 failed, and every other trial would" in reason_to_stop(trials, 5, since=0.0)
    assert reason_to_stop(trials, 5, since=_minute(1)) is None, "the setting may have been changed since"


def test_failures_of_an_earlier_session_are_tried_again_once():
    trials = _trials("disk quota", "disk quota", "disk quota")
    assert reason_to_stop(trials[:2], 2, since=_minute(1.5)) is None
    assert "the last 2 trials failed" in reason_to_stop(trials, 2, since=_minute(1.5))
    mended = _trials("disk quota", "disk quota", "another reason")
    assert reason_to_stop(mended, 2, since=_minute(1.5)) is None


def test_a_study_in_which_everything_diverged_is_not_trained_again():
    """Nothing that decides about it can be changed in a run folder."""
    trials = _trials("loss is nan", "loss is nan", error="DivergedError")
    assert "lower pretrain.lr" in reason_to_stop(trials, 2, since=_minute(5))
    assert reason_to_stop(trials, 3, since=_minute(5)) is None, "a higher search.max_failures goes on"
    assert reason_to_stop([*_trials(None), *trials], 2, since=_minute(5)) is None
