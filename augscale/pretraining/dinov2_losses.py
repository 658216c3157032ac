"""Losses and targets of DINOv2 as pure functions (Oquab et al. 2024): Sinkhorn-Knopp, iBOT on patches, KoLeo."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from augscale.pretraining.distributed import DistributedContext

KOLEO_EPS = 1e-8


def sinkhorn_probabilities(logits: Tensor, temp: float, iterations: int, context: DistributedContext) -> Tensor:
    """Teacher distributions under which all prototypes are used alike (Caron et al. 2020; DINOv2).

    exp(logits / temp) is normalized in turn over the samples of every prototype and over the prototypes of every
    sample. Sums over samples are those of all processes. All is computed in logarithms: with trained gains of the last
    layer, samples may differ by more than float32's range.

    Args:
        logits: float32, shape (N, K), of the class tokens or the masked patches of this process.
        temp: the teacher's temperature, above 0.
        iterations: at least 1.
        context: the processes.
    Returns:
        float32, shape (N, K), rows sum to 1.
    """
    log_weights = logits / temp
    # A process may hold no masked patch.
    nothing = log_weights.new_full((1, log_weights.shape[1]), -torch.inf)
    for _ in range(iterations):
        largest = context.all_reduce_largest(torch.cat([log_weights, nothing]).amax(dim=0))
        total = context.all_reduce_sum((log_weights - largest).exp().sum(dim=0))
        log_weights = torch.log_softmax(log_weights - largest - total.log(), dim=1)
    return log_weights.exp()


def ibot_loss(
    student_logits: Tensor, teacher_probs: Tensor, weights: Tensor, student_temp: float, num_views: int
) -> Tensor:
    """Cross-entropy of the student's masked patches under the teacher's patches at the same places (Zhou et al. 2022).

    Args:
        student_logits: float32, shape (M, K), of all masked patches.
        teacher_probs: float32, shape (M, K), rows sum to 1; no gradient flows into it.
        weights: float32, shape (M,), 1 / (masked patches of the view), so that every masked view counts 1.
        student_temp: above 0.
        num_views: by which the sum is divided; views without a mask count, too, as in DINOv2.
    Returns:
        A scalar, nats.
    """
    scaled = student_logits / student_temp
    cross_entropy = scaled.logsumexp(dim=1) - (teacher_probs * scaled).sum(dim=1)
    return (weights * cross_entropy).sum() / num_views


def koleo_loss(embeddings: Tensor, patients: Tensor | None = None) -> Tensor:
    """Kozachenko-Leonenko regularizer: minus the mean log-distance to the nearest neighbor (Sablayrolles et al. 2019).

    Args:
        embeddings: float32, shape (N, D), of different images, not normalized.
        patients: int64, shape (N,): neighbors are images of other patients; None: all other images.
    Returns:
        A scalar; low if embeddings are spread evenly over the sphere, large if some are alike. 0 if no image has a
        neighbor.
    """
    unit = F.normalize(embeddings, dim=-1, eps=KOLEO_EPS)
    if patients is None:
        patients = torch.arange(len(unit), device=unit.device)
    apart = patients[:, None] != patients[None, :]
    with torch.no_grad():
        nearest = (unit @ unit.T).masked_fill(~apart, -2.0).argmax(dim=1)
    distances = F.pairwise_distance(unit, unit[nearest], eps=KOLEO_EPS)
    has_neighbor = apart.any(dim=1)
    logs = torch.where(has_neighbor, (distances + KOLEO_EPS).log(), torch.zeros_like(distances))
    return -logs.sum() / has_neighbor.sum().clamp(min=1)
