"""Losses of contrastive methods as pure functions: every row of similarities has one positive and many negatives.

NT-Xent (SimCLR, Chen et al. 2020, Eq. 1) and the symmetric InfoNCE of MoCo v3 (Chen, Xie & He 2021, Algorithm 1).
Images of one patient are never negatives of each other. Both functions see the views of the whole batch; in several
processes, every process computes the whole loss from gathered projections.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from augscale.pretraining.pair_weights import PLAIN, PairWeighting, log_negatives, positive_weights

EXCLUDED = -1e9
"""Logit of a candidate that does not count: its exponential is 0 in float32, and its gradient is finite."""


def nt_xent(
    projections: Tensor, temp: float, patients: Tensor | None = None, weighting: PairWeighting = PLAIN
) -> tuple[Tensor, Tensor]:
    """Normalized temperature-scaled cross-entropy of two views of every image.

    Equals this loop, with the cosines s of all 2 B views and `other` the second view of the same image:

        for i in range(2 * B):
            negatives = [j for j in range(2 * B) if patient[j] != patient[i]]
            terms.append(-log(exp(s[i, other] / temp) / (exp(s[i, other] / temp) + sum(exp(s[i, negatives] / temp)))))
        loss = mean(terms)

    Args:
        projections: float32, shape (2, B, D), not normalized.
        temp: above 0.
        patients: int64, shape (B,); None: every image is its own patient.
        weighting: of negatives and positives.
    Returns:
        The loss, a scalar in nats, with gradient; and the information, a scalar without, see `information`.
    """
    batch_size = projections.shape[1]
    unit = F.normalize(projections, dim=-1).flatten(0, 1)
    logits = unit @ unit.T / temp
    views = torch.arange(len(unit), device=unit.device)
    positive = logits[views, (views + batch_size) % len(unit)]
    negative = _other_patients(patients, batch_size, unit.device).repeat(2, 2)
    return _loss_and_information(positive, logits, negative, temp, weighting)


def symmetric_info_nce(
    predictions: Tensor,
    keys: Tensor,
    temp: float,
    patients: Tensor | None = None,
    weighting: PairWeighting = PLAIN,
) -> tuple[Tensor, Tensor]:
    """MoCo v3's loss, ctr(q1, k2) + ctr(q2, k1), where ctr is 2 temp times the mean cross-entropy of the right key.

    Args:
        predictions: float32, shape (2, B, D), of the student, not normalized.
        keys: float32, shape (2, B, D), of the teacher, not normalized; no gradient flows into them.
        temp: above 0.
        patients: int64, shape (B,); None: every image is its own patient.
        weighting: of negatives and positives.
    Returns:
        The loss, a scalar, with gradient; and the information, a scalar without, see `information`.
    """
    queries, keys = F.normalize(predictions, dim=-1), F.normalize(keys, dim=-1).detach()
    logits = torch.einsum("vbd,vcd->vbc", queries, keys.flip(0)).flatten(0, 1) / temp
    batch_size = predictions.shape[1]
    images = torch.arange(len(logits), device=logits.device)
    negative = _other_patients(patients, batch_size, logits.device).repeat(2, 1)
    loss, told = _loss_and_information(logits[images, images % batch_size], logits, negative, temp, weighting)
    return 4 * temp * loss, told


def information(cross_entropy: Tensor, num_negatives: Tensor) -> Tensor:
    """What one view says about which image the other is of: ln(candidates) - cross-entropy, nats (van den Oord 2018).

    It is a lower bound of the mutual information of two views. Best value ln(candidates); 0 if all projections are
    alike; below 0 only if images are taken for others.

    Args:
        cross_entropy: float32, shape (N,), without weights.
        num_negatives: shape (N,).
    """
    return ((num_negatives + 1).log() - cross_entropy).mean()


def _other_patients(patients: Tensor | None, batch_size: int, device: torch.device) -> Tensor:
    """bool, shape (B, B): images of different patients."""
    if patients is None:
        patients = torch.arange(batch_size, device=device)
    return patients[:, None] != patients[None, :]


def _loss_and_information(
    positive: Tensor, logits: Tensor, negative: Tensor, temp: float, weighting: PairWeighting
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of the positive among positive and negatives, and the information.

    Args:
        positive: float32, shape (N,), logits of the positives.
        logits: float32, shape (N, M), of all candidates.
        negative: bool, shape (N, M): candidates that are negatives.
    """
    num_negatives = negative.sum(dim=1)
    plain = _cross_entropy(positive, logits.masked_fill(~negative, EXCLUDED).logsumexp(dim=1))
    told = information(plain.detach(), num_negatives)
    if weighting.is_plain:
        return plain.mean(), told
    weighted = _cross_entropy(positive, log_negatives(positive, logits, negative, temp, weighting))
    return (positive_weights(1 - temp * positive, weighting) * weighted).mean(), told


def _cross_entropy(positive: Tensor, log_negatives: Tensor) -> Tensor:
    return torch.logaddexp(positive, log_negatives) - positive
