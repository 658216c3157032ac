"""The verdict on a run and the constraint made of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from augscale.config import ProbeConfig
from augscale.scoring.health import Health, verdict

PROBE = ProbeConfig(min_effective_rank=2.0, min_information=0.1)
GOOD: dict[str, Any] = {
    "effective_rank": 30.0,
    "feature_sd": 0.6,
    "information": 1.2,
    "loss": 4.0,
    "chance_loss": math.log(1024),
    "final": True,
}


def judge(**changes: Any) -> Health:
    return verdict(probe=PROBE, **(GOOD | changes))


def test_a_run_that_learned_is_healthy_and_says_what_was_checked() -> None:
    health = judge()
    assert health.verdict == "healthy"
    assert health.violation < 0
    assert len(health.evidence) == 4
    assert "effective rank 30.00, limit 2" in health.evidence[0]


@pytest.mark.parametrize(
    ("changes", "number", "limit"),
    [
        ({"effective_rank": 1.3}, "1.30", "limit 2"),
        ({"feature_sd": 0.004}, "0.0040", "limit 0.01"),
        ({"information": 0.03}, "0.030", "limit 0.1"),
        ({"loss": 6.93, "information": None}, "6.930", "6.931 by chance"),
        ({"finite": False}, "not finite", "expected finite"),
    ],
    ids=["rank", "feature SD", "information", "loss", "not finite"],
)
def test_each_sign_of_collapse_alone_is_enough(changes: dict[str, Any], number: str, limit: str) -> None:
    health = judge(**changes)
    assert health.verdict == "collapsed"
    assert 0 < health.violation <= 1
    assert len(health.evidence) == 1
    assert number in health.evidence[0]
    assert limit in health.evidence[0]


@pytest.mark.parametrize(
    "changes",
    [{"effective_rank": 3.0}, {"feature_sd": 0.03}, {"information": 0.15}, {"loss": 6.93}],
    ids=["rank", "feature SD", "information", "loss although outputs carry information"],
)
def test_a_value_near_its_limit_is_suspicious_but_feasible(changes: dict[str, Any]) -> None:
    health = judge(**changes)
    assert health.verdict == "suspicious"
    assert health.violation <= 0
    assert len(health.evidence) == 1


def test_the_silent_pilot_run_is_caught_by_its_information() -> None:
    # Settings "vstrong" of the pilot: RankMe 49, loss ln 1024, 0.03 nats.
    health = judge(effective_rank=49.0, loss=6.93, information=0.03)
    assert health.verdict == "collapsed"
    assert len(health.evidence) == 2


def test_before_the_end_a_run_without_information_is_only_suspicious() -> None:
    health = judge(information=0.0, loss=math.log(1024), final=False)
    assert health.verdict == "suspicious"
    assert health.violation <= 0


def test_an_early_collapse_of_the_features_is_a_collapse() -> None:
    assert judge(effective_rank=1.0, final=False).verdict == "collapsed"


def test_a_loss_above_that_of_silence_is_stuck_too() -> None:
    assert judge(loss=8.0, information=0.0).verdict == "collapsed"


def test_nan_never_passes() -> None:
    for name in ("effective_rank", "feature_sd", "information"):
        assert judge(**{name: math.nan}).verdict == "collapsed", name


def test_a_limit_of_zero_switches_the_information_check_off() -> None:
    probe = ProbeConfig(min_information=0.0, min_effective_rank=1.0)
    health = verdict(
        probe=probe, effective_rank=1.0, feature_sd=0.5, information=0.0, loss=7.0, chance_loss=math.log(64), final=True
    )
    assert health.verdict == "suspicious"
    assert health.violation <= 0


def test_without_a_head_only_the_features_are_judged() -> None:
    health = verdict(probe=PROBE, effective_rank=30.0, feature_sd=0.6)
    assert health.verdict == "healthy"
    assert len(health.evidence) == 2


@given(
    rank=st.floats(1, 100),
    sd=st.floats(0, 1),
    information=st.none() | st.floats(0, 5),
    loss=st.none() | st.floats(0, 20),
    final=st.booleans(),
)
def test_the_constraint_is_violated_exactly_when_the_verdict_is_collapsed(
    rank: float, sd: float, information: float | None, loss: float | None, final: bool
) -> None:
    health = judge(effective_rank=rank, feature_sd=sd, information=information, loss=loss, final=final)
    assert (health.violation > 0) == (health.verdict == "collapsed")
    assert health.to_dict()["violation"] == health.violation <= 1
    assert health.evidence


@given(rank=st.floats(1, 1.9))
def test_a_worse_collapse_violates_more(rank: float) -> None:
    assert judge(effective_rank=rank).violation > judge(effective_rank=rank + 0.05).violation
