"""DINO's loss and center as pure functions of tensors (Caron et al. 2021, `DINOLoss`).

Axes: V views, the two global ones first; B images; K prototypes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from augscale.system.compiling import compiled_version

NUM_GLOBAL = 2


def teacher_probabilities(logits: Tensor, center: Tensor, temp: float) -> Tensor:
    """The teacher's distribution over prototypes for each global view: softmax((logits - center) / temp).

    Args:
        logits: float32, shape (N, K).
        center: float32, shape (K,).
        temp: the teacher's temperature, above 0.
    Returns:
        float32, shape (N, K), rows sum to 1.
    """
    return torch.softmax((logits - center) / temp, dim=-1)


def updated_center(center: Tensor, mean_logits: Tensor, momentum: float) -> Tensor:
    """The next center: moving average of the batch means of the teacher's outputs.

    Args:
        center: float32, shape (K,).
        mean_logits: float32, shape (K,), mean of the teacher's outputs before centering.
        momentum: weight of the old center, in [0, 1].
    """
    return torch.lerp(mean_logits, center, momentum)


def dino_loss(student_logits: Tensor, teacher_probs: Tensor, student_temp: float, *, compiled: bool = False) -> Tensor:
    """Mean cross-entropy of every student view under every teacher view but itself.

    Equals this loop, which would make a tensor of crops x prototypes per term:

        terms = []
        for i in range(2):
            for v in range(num_views):
                if v != i:
                    log_p = log_softmax(student_logits[v] / student_temp, dim=-1)
                    terms.append((-teacher_probs[i] * log_p).sum(dim=-1).mean())
        loss = sum(terms) / len(terms)

    The teacher's rows sum to 1, so a term is logsumexp(z) - <q, z>, where z are the logits divided by the temperature,
    and all local views have the same target, the sum of both teacher rows.

    Args:
        student_logits: float32, shape (V * B, K), view-major, V at least 2.
        teacher_probs: float32, shape (2 * B, K), view-major; no gradient flows into it.
        student_temp: above 0.
        compiled: torch.compile fuses the operations, so that a GPU reads V x B x K numbers less often.
    Returns:
        float32 scalar, nats; ln K for a student with uniform output.
    """
    batch_size, out_dim = len(teacher_probs) // NUM_GLOBAL, teacher_probs.shape[-1]
    student = student_logits.view(-1, batch_size, out_dim)
    teacher = teacher_probs.view(NUM_GLOBAL, batch_size, out_dim)
    loss: Tensor = _CropCrossEntropy.apply(student, teacher, student_temp, compiled)
    return loss


def weighted_dino_loss(student_logits: Tensor, teacher_probs: Tensor, student_temp: float, strength: float) -> Tensor:
    """`dino_loss` in which the pairs of student and teacher views of an image that lie far apart count more.

    The distance of a pair is its cross-entropy. With the P pairs of different views of an image, pair p has the weight
    P exp(strength d_p) / sum(exp(strength d)), a constant without gradient, whose mean over the pairs is 1. So the loss
    of a student that says nothing is still ln K.

    Args:
        student_logits, teacher_probs, student_temp: as for `dino_loss`.
        strength: per nat, above 0.
    Returns:
        float32 scalar, nats.
    """
    batch_size, out_dim = len(teacher_probs) // NUM_GLOBAL, teacher_probs.shape[-1]
    student = student_logits.view(-1, batch_size, out_dim) / student_temp
    teacher = teacher_probs.view(NUM_GLOBAL, batch_size, out_dim)
    # i: teacher's view, v: student's view, b: image
    distances = student.logsumexp(dim=-1) - torch.einsum("ibk,vbk->ivb", teacher, student)
    different = ~torch.eye(NUM_GLOBAL, len(student), dtype=torch.bool, device=student.device)
    pairs = distances[different]
    weights = len(pairs) * torch.softmax(strength * pairs.detach(), dim=0)
    return (weights * pairs).mean()


class _CropCrossEntropy(torch.autograd.Function):
    """Its gradient, (weight * softmax(z) - target) / temp, is the only new tensor of shape (V, B, K)."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temp: float, compiled: bool) -> Tensor:
        forward = compiled_version(_cross_entropy) if compiled else _cross_entropy
        loss, normalizers = forward(student, teacher, temp)
        ctx.save_for_backward(student, teacher, normalizers)
        ctx.temp, ctx.compiled = temp, compiled
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, None, None, None]:
        student, teacher, normalizers = ctx.saved_tensors
        backward = compiled_version(_cross_entropy_gradient) if ctx.compiled else _cross_entropy_gradient
        return backward(student, teacher, normalizers, grad_loss, ctx.temp), None, None, None


def _cross_entropy(student: Tensor, teacher: Tensor, temp: float) -> tuple[Tensor, Tensor]:
    """The loss, and the log-normalizers of the student's softmax, shape (V, B, 1)."""
    normalizers = torch.stack([(view / temp).logsumexp(dim=-1, keepdim=True) for view in student])
    crossed, both = teacher.flip(0), teacher.sum(dim=0)
    agreement = (student[:NUM_GLOBAL] * crossed).sum() + (student[NUM_GLOBAL:].sum(dim=0) * both).sum()
    total = normalizers[:NUM_GLOBAL].sum() + NUM_GLOBAL * normalizers[NUM_GLOBAL:].sum() - agreement / temp
    return total * _term_weight(student), normalizers


def _cross_entropy_gradient(
    student: Tensor, teacher: Tensor, normalizers: Tensor, grad_loss: Tensor, temp: float
) -> Tensor:
    """Gradient of the loss with respect to the student's logits, shape (V, B, K)."""
    grad = (student / temp).sub_(normalizers).exp_()
    grad[:NUM_GLOBAL] -= teacher.flip(0)
    grad[NUM_GLOBAL:].mul_(NUM_GLOBAL).sub_(teacher.sum(dim=0))
    return grad.mul_(grad_loss * (_term_weight(student) / temp))


def _term_weight(student: Tensor) -> float:
    num_views, batch_size, _ = student.shape
    return 1 / (NUM_GLOBAL * (num_views - 1) * batch_size)


def information(probs: Tensor) -> Tensor:
    """Mutual information of image and teacher output: H(mean p) - mean H(p).

    Best value min(ln N, ln K). Worst value 0: every image gets the same output, uniform or one-hot, which are the two
    ways in which DINO collapses.

    Args:
        probs: float32, shape (N, K), rows sum to 1.
    Returns:
        float32 scalar, nats.
    """
    return information_of_shards(probs.mean(dim=0), mean_entropy(probs))


def mean_entropy(probs: Tensor) -> Tensor:
    """Mean H(p) of the rows, nats, a scalar; probs as in `information`."""
    return torch.special.entr(probs).sum(dim=-1).mean()


def information_of_shards(mean_probs: Tensor, entropy: Tensor) -> Tensor:
    """`information` of a batch that is spread over shards.

    Args:
        mean_probs: float32, shape (K,), mean over the whole batch.
        entropy: scalar, `mean_entropy` over the whole batch.
    """
    return torch.special.entr(mean_probs).sum() - entropy
