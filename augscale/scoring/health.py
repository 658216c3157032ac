"""The health verdict on a run (healthy, suspicious or collapsed), with evidence and a constraint value for Optuna.

No single check is enough: in a pilot, a run whose loss stayed at ln(out_dim) had a normal effective rank, and only the
missing information in the teacher's outputs revealed it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from augscale.config import ProbeConfig

Verdict = Literal["healthy", "suspicious", "collapsed"]
WORST_FIRST: tuple[Verdict, ...] = ("collapsed", "suspicious", "healthy")

MIN_FEATURE_SD = 0.01
"""Limit of the feature spread, below which the mean cosine of two images is above 0.9999; evenly spread features: 1."""
NEAR_LIMIT = 2.0
"""An effective rank or information below this multiple of its limit is suspicious."""
SUSPICIOUS_FEATURE_SD = 0.05
"""A feature spread below this is suspicious: the mean cosine of two images is above 0.9975."""
STUCK_SHARE = 0.995
"""A loss of at least this share of the loss by chance counts as stuck: the outputs carry no information."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """A verdict with its evidence."""

    verdict: Verdict
    evidence: tuple[str, ...]
    """Sentences with value and limit: those of the checks that failed, or of all checks for a healthy run."""
    violation: float
    """Optuna's constraint value: the largest (limit - value) / limit over the hard checks. At most 0 for a
    feasible run, in (0, 1] for a collapsed one."""

    def to_dict(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "evidence": list(self.evidence), "violation": self.violation}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of a run."""

    sentence: str
    shortfall: float
    """(limit - value) / limit, at most 1; above 0 if the check fails."""
    hard: bool = True
    """True if failing the check means a collapse; otherwise it is only suspicious."""
    near: bool = False
    """True if the value is close to the limit."""

    @property
    def verdict(self) -> Verdict:
        if self.shortfall > 0:
            return "collapsed" if self.hard else "suspicious"
        return "suspicious" if self.near else "healthy"


def verdict(
    *,
    effective_rank: float,
    feature_sd: float,
    probe: ProbeConfig,
    finite: bool = True,
    information: float | None = None,
    loss: float | None = None,
    chance_loss: float | None = None,
    final: bool = False,
) -> Health:
    """Judges a run.

    Args:
        effective_rank: RankMe of the clean embeddings, at least 1.
        feature_sd: feature spread of the clean embeddings, in [0, 1].
        probe: `min_effective_rank` and `min_information`; a limit of 0 switches its check off.
        finite: True if all embeddings are finite.
        information: what outputs say about their image, nats, see `Method.information`; None without a head.
        loss: loss of the training, nats; checked against `chance_loss` if both are given.
        chance_loss: loss of outputs that say nothing (DINO: ln(out_dim)); None where the method has no such number.
        final: True at the end of training, when too little information is a collapse; earlier it is only suspicious,
            because every run begins without any.
    """
    checks = [] if finite else [Check(sentence="embeddings are not finite, expected finite numbers", shortfall=1.0)]
    checks += spread_checks(effective_rank, feature_sd, probe)
    checks += training_checks(probe, information=information, loss=loss, chance_loss=chance_loss, final=final)
    worst = min((check.verdict for check in checks), key=WORST_FIRST.index)
    reported = [check for check in checks if worst == "healthy" or check.verdict != "healthy"]
    return Health(
        verdict=worst,
        evidence=tuple(check.sentence for check in reported),
        violation=max(check.shortfall for check in checks if check.hard),
    )


def _shortfall(value: float, limit: float) -> float:
    # NaN fails every check.
    return 1.0 if math.isnan(value) else min(1.0, (limit - value) / limit)


def spread_checks(effective_rank: float, feature_sd: float, probe: ProbeConfig) -> list[Check]:
    """Checks of embeddings: effective rank and spread."""
    limit = probe.min_effective_rank
    return [
        Check(
            sentence=f"effective rank {effective_rank:.2f}, limit {limit:g} (RankMe of the clean images)",
            shortfall=_shortfall(effective_rank, limit),
            near=limit > 1 and effective_rank < NEAR_LIMIT * limit,
        ),
        Check(
            sentence=f"feature spread {feature_sd:.4f}, limit {MIN_FEATURE_SD:g} (1: evenly spread, 0: all alike)",
            shortfall=_shortfall(feature_sd, MIN_FEATURE_SD),
            near=feature_sd < SUSPICIOUS_FEATURE_SD,
        ),
    ]


def training_checks(
    probe: ProbeConfig, *, information: float | None, loss: float | None, chance_loss: float | None, final: bool
) -> list[Check]:
    """Checks of the head's outputs and of the loss, as far as they are known; see `verdict`."""
    checks = []
    if information is not None and probe.min_information > 0:
        checks.append(_information_check(information, probe.min_information, final))
    if loss is not None and chance_loss is not None:
        uninformative = information is None or information < probe.min_information
        checks.append(_loss_check(loss, chance_loss, hard=final and uninformative))
    return checks


def _information_check(information: float, limit: float, final: bool) -> Check:
    return Check(
        sentence=f"outputs carry {information:.3f} nats about the image, limit {limit:g}"
        + ("" if final else " at the end of training"),
        shortfall=_shortfall(information, limit),
        hard=final,
        near=final and information < NEAR_LIMIT * limit,
    )


def _loss_check(loss: float, chance: float, *, hard: bool) -> Check:
    # The shortfall grows from 0 at the limit to 1 at chance.
    limit = STUCK_SHARE * chance
    return Check(
        sentence=f"loss {loss:.3f}, stuck from {limit:.3f} up ({chance:.3f} by chance: outputs say nothing)",
        shortfall=1.0 if math.isnan(loss) else min(1.0, (loss - limit) / (chance - limit)),
        hard=hard,
    )
