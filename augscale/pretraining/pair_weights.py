"""Weights of pairs in a loss: near negatives and far positives count more (`pretrain.pair_weighting = "hard"`).

Weights of a kind have mean 1, so outputs that say nothing get the loss of the plain method, and a strength of 0 is the
plain loss to the bit, because the plain formula is used then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from augscale.pretrain_config import PretrainConfig

_EXCLUDED = -1e9
"""Stands for the logarithm of 0: its exponential is 0 in float32, and its gradient is finite."""


@dataclass(frozen=True, kw_only=True)
class PairWeighting:
    """How pairs are weighted."""

    strength: float = 0.0
    """beta, at least 0; 0 weighs all pairs alike."""
    prior: float = 0.0
    """tau+, in [0, 1): probability that a negative is of the same class as the anchor."""

    @property
    def is_plain(self) -> bool:
        return self.strength == 0 and self.prior == 0

    @classmethod
    def of(cls, recipe: PretrainConfig) -> PairWeighting:
        """The weighting that the settings stand for."""
        if recipe.pair_weighting == "none":
            return PLAIN
        return cls(strength=recipe.pair_strength, prior=recipe.negative_prior)


PLAIN = PairWeighting()


def log_negatives(positive: Tensor, logits: Tensor, negative: Tensor, temp: float, weighting: PairWeighting) -> Tensor:
    """Logarithm of the weighted sum over negatives in the denominator of InfoNCE.

    Robinson et al. 2021 (Eq. 4) weigh negative j by exp(beta s_j) over its mean, where s_j = cosine / temp; as in their
    code, gradients flow through these weights. Chuang et al. 2020 (Eq. 7 and 8) subtract the expected share of false
    negatives. With N negatives:

        hard = sum(exp(beta s_j) exp(s_j)) / mean(exp(beta s_j))
        result = log(max((hard - tau N exp(s_positive)) / (1 - tau), N exp(-1 / temp)))

    Args:
        positive: float32, shape (R,), logits of the positives.
        logits: float32, shape (R, M).
        negative: bool, shape (R, M): which candidates are negatives.
        temp: of the logits, which is needed for the smallest possible value.
        weighting: strength and prior.
    Returns:
        float32, shape (R,); a row without negatives gets a value whose exponential is 0.
    """

    def log_sum(values: Tensor) -> Tensor:
        return values.masked_fill(~negative, _EXCLUDED).logsumexp(dim=1)

    number = negative.sum(dim=1)
    log_number = number.clamp(min=1).log()
    beta, prior = weighting.strength, weighting.prior
    found = log_number + log_sum((1 + beta) * logits) - log_sum(beta * logits)
    if prior:
        # In units of the largest term, so that no exponential overflows.
        unit = torch.maximum(found, log_number + positive).detach()
        rest = (found - unit).exp() - prior * (log_number + positive - unit).exp()
        least = (log_number - 1 / temp - unit).exp()
        found = torch.maximum(rest / (1 - prior), least).log() + unit
    return torch.where(number > 0, found, torch.full_like(found, _EXCLUDED))


def positive_weights(distances: Tensor, weighting: PairWeighting) -> Tensor:
    """Weights exp(beta d) over their mean: positive pairs that lie far apart count more.

    Args:
        distances: float32, shape (N,).
        weighting: of it, the strength.
    Returns:
        float32, shape (N,), mean 1, without gradient.
    """
    logits = weighting.strength * distances.detach()
    return (logits - logits.logsumexp(dim=0) + math.log(len(logits))).exp()
