"""Losses against lightly's modules, which are written independently of this package."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("lightly", reason="lightly is an optional dependency of the tests (extra `test`)")
from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss, NTXentLoss

from augscale.pretraining.contrastive import nt_xent
from augscale.pretraining.dino import dino_loss, teacher_probabilities
from augscale.pretraining.dinov2_losses import ibot_loss, koleo_loss

B, D, K = 6, 10, 12


def _random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _compare(ours, theirs, tensor):
    found_input, expected_input = tensor.clone().requires_grad_(), tensor.clone().requires_grad_()
    found, expected = ours(found_input), theirs(expected_input)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (found_grad,) = torch.autograd.grad(found, found_input)
    (expected_grad,) = torch.autograd.grad(expected, expected_input)
    torch.testing.assert_close(found_grad, expected_grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temp", [0.1, 0.5])
def test_nt_xent(temp):
    theirs = NTXentLoss(temperature=temp)
    _compare(lambda x: nt_xent(x, temp)[0], lambda x: theirs(x[0], x[1]), _random(0, 2, B, D))


def test_dino():
    teacher = _random(1, 2, B, K)
    theirs = DINOLoss(output_dim=K, warmup_teacher_temp=0.07, teacher_temp=0.07, warmup_teacher_temp_epochs=1)
    probs = teacher_probabilities(teacher.flatten(0, 1), torch.zeros(K), 0.07)
    _compare(
        lambda x: dino_loss(x.flatten(0, 1), probs, 0.1),
        lambda x: theirs(list(teacher), list(x), epoch=0),
        _random(0, 5, B, K),
    )


def test_ibot():
    mask = torch.rand(B, 4, 4, generator=torch.Generator().manual_seed(3)) < 0.4
    number = int(mask.sum())
    teacher = _random(1, number, K)
    weights = (1 / mask.flatten(1).sum(dim=1, keepdim=True).clamp(min=1)).expand(B, 16)[mask.flatten(1)]
    theirs = IBOTPatchLoss(output_dim=K, teacher_temp=0.07, student_temp=0.1)
    probs = teacher_probabilities(teacher, torch.zeros(K), 0.07)
    _compare(
        lambda x: ibot_loss(x, probs, weights, 0.1, num_views=B),
        lambda x: theirs(teacher, x, mask),
        _random(0, number, K),
    )


def test_koleo():
    theirs = KoLeoLoss()
    _compare(koleo_loss, theirs, _random(0, B, D))
