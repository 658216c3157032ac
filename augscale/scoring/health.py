"""The verdict on a run: whether it has learned anything, with evidence, and a number that Optuna can constrain.

No single sign is enough: in a pilot, a run whose loss stayed at ln(out_dim) had a normal effective rank, and only the
missing information in the teacher's outputs revealed it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from augscale.config import ProbeConfig

Verdict = Literal["healthy", "suspicious", "collapsed"]

MIN_FEATURE_SD = 0.01
"""Feature spreads below mean a mean cosine of two images above 0.9999. An even spread has 1."""
NEAR_LIMIT = 2.0
"""An effective rank or an information below this multiple of its limit is suspicious."""
SUSPICIOUS_FEATURE_SD = 0.05
"""Feature spreads below mean a mean cosine of two images above 0.9975."""
STUCK_SHARE = 0.995
"""A loss of at least this share of ln(out_dim) is that of outputs without information."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """A verdict with its evidence."""

    verdict: Verdict
    evidence: tuple[str, ...]
    """Sentences with the number and the limit: the checks that failed, or all checks of a healthy run."""
    shortfall: float
    """Largest (limit - value) / limit over the hard checks; above 0 exactly for a collapsed run."""

    def to_dict(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "evidence": list(self.evidence), "violation": violation(self)}


def violation(health: Health) -> float:
    """Optuna's constraint: at most 0 for a feasible run, in (0, 1] for a collapsed one, larger the worse."""
    return health.shortfall


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of a run."""

    sentence: str
    shortfall: float
    """Relative to the limit, at most 1; above 0 for what falls short."""
    hard: bool = True
    """Falling short is a collapse; otherwise it is only suspicious."""
    near: bool = False
    """Not short, but close to the limit."""

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
    out_dim: int | None = None,
    final: bool = False,
) -> Health:
    """Judges a run.

    Args:
        effective_rank: RankMe of the clean embeddings, at least 1.
        feature_sd: of the clean embeddings, in [0, 1].
        probe: `min_effective_rank` and `min_information`; a limit of 0 switches its check off.
        finite: whether all embeddings are.
        information: nats that the teacher's outputs carry about the image; None where there is no head.
        loss: DINO's, nats; checked against ln(out_dim) if both are given.
        out_dim: outputs of the projection head.
        final: at the end of training, too little information is a collapse; earlier it is only suspicious, because
            every run begins without any.
    """
    checks = [] if finite else [Check(sentence="embeddings are not finite, expected finite numbers", shortfall=1.0)]
    checks += spread_checks(effective_rank, feature_sd, probe)
    checks += training_checks(probe, information=information, loss=loss, out_dim=out_dim, final=final)
    order: tuple[Verdict, ...] = ("collapsed", "suspicious", "healthy")
    worst = min((check.verdict for check in checks), key=order.index)
    speaking = [check for check in checks if worst == "healthy" or check.verdict != "healthy"]
    return Health(
        verdict=worst,
        evidence=tuple(check.sentence for check in speaking),
        shortfall=max(check.shortfall for check in checks if check.hard),
    )


def _shortfall(value: float, limit: float) -> float:
    # NaN reaches no limit.
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
    probe: ProbeConfig, *, information: float | None, loss: float | None, out_dim: int | None, final: bool
) -> list[Check]:
    """Checks of the head's outputs and of the loss, as far as they are known; see `verdict`."""
    checks = []
    if information is not None and probe.min_information > 0:
        checks.append(_information_check(information, probe.min_information, final))
    if loss is not None and out_dim is not None:
        silent = information is None or information < probe.min_information
        checks.append(_loss_check(loss, math.log(out_dim), hard=final and silent))
    return checks


def _information_check(information: float, limit: float, final: bool) -> Check:
    return Check(
        sentence=f"teacher outputs carry {information:.3f} nats about the image, limit {limit:g}"
        + ("" if final else " at the end of training"),
        shortfall=_shortfall(information, limit),
        hard=final,
        near=final and information < NEAR_LIMIT * limit,
    )


def _loss_check(loss: float, silent_loss: float, *, hard: bool) -> Check:
    # The shortfall grows from 0 at the limit to 1 at ln(out_dim).
    limit = STUCK_SHARE * silent_loss
    return Check(
        sentence=f"loss {loss:.3f}, stuck from {limit:.3f} up (ln(out_dim) = {silent_loss:.3f}: outputs say nothing)",
        shortfall=1.0 if math.isnan(loss) else min(1.0, (loss - limit) / (silent_loss - limit)),
        hard=hard,
    )
