"""Contrastive losses and their gradients against plain loops over pairs in float64."""

from __future__ import annotations

import math

import contrastive_oracle as oracle
import pytest
import torch

from augscale.pretraining.contrastive import nt_xent, symmetric_info_nce
from augscale.pretraining.pair_weights import PLAIN, PairWeighting, positive_weights

B, D, TEMP = 5, 7, 0.3
SHARED = [4, 1, 4, 2, 1]
"""Numbers of patients of whom two have two images."""
CASES = [
    pytest.param(None, 0.0, 0.0, id="plain"),
    pytest.param(SHARED, 0.0, 0.0, id="patients"),
    pytest.param(None, 1.5, 0.0, id="hard"),
    pytest.param(None, 0.0, 0.1, id="debiased"),
    pytest.param(SHARED, 0.7, 0.05, id="all"),
]


def _random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _compare(ours, plain, tensor):
    """Value and gradient of a float32 loss and of the oracle's float64 one, with respect to the same tensor."""
    single, double = tensor.float().requires_grad_(), tensor.clone().requires_grad_()
    found, expected = ours(single), plain(double)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    (found_grad,), (expected_grad,) = torch.autograd.grad(found, single), torch.autograd.grad(expected, double)
    torch.testing.assert_close(found_grad.double(), expected_grad, rtol=1e-5, atol=1e-5)


def _numbers(patients):
    return None if patients is None else torch.tensor(patients)


@pytest.mark.parametrize(("patients", "beta", "prior"), CASES)
def test_nt_xent_equals_the_loop_over_all_pairs(patients, beta, prior):
    weighting = PairWeighting(strength=beta, prior=prior)
    _compare(
        lambda x: nt_xent(x, TEMP, _numbers(patients), weighting)[0],
        lambda x: oracle.nt_xent(x[0], x[1], TEMP, patients, beta, prior),
        _random(0, 2, B, D),
    )


@pytest.mark.parametrize(("patients", "beta", "prior"), CASES)
def test_symmetric_info_nce_equals_the_papers_pseudo_code(patients, beta, prior):
    weighting, keys = PairWeighting(strength=beta, prior=prior), _random(1, 2, B, D)
    _compare(
        lambda x: symmetric_info_nce(x, keys.float(), TEMP, _numbers(patients), weighting)[0],
        lambda x: oracle.mocov3(x, keys, TEMP, patients, beta, prior),
        _random(0, 2, B, D),
    )


def test_a_strength_of_zero_is_the_plain_loss_to_the_bit():
    views = _random(0, 2, B, D).float()
    zero = PairWeighting(strength=0.0)
    assert torch.equal(nt_xent(views, TEMP, None, zero)[0], nt_xent(views, TEMP)[0])
    assert torch.equal(symmetric_info_nce(views, views, TEMP, None, zero)[0], symmetric_info_nce(views, views, TEMP)[0])


def test_a_batch_of_one_patient_has_no_negatives_and_no_loss():
    views = _random(0, 2, B, D).float().requires_grad_()
    loss = nt_xent(views, TEMP, torch.zeros(B, dtype=torch.int64), PairWeighting(strength=1.0))[0]
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, views)[0].any()


@pytest.mark.parametrize("weighting", [PLAIN, PairWeighting(strength=2.0), PairWeighting(strength=1.0, prior=0.1)])
def test_outputs_that_are_all_alike_give_the_loss_of_chance_and_no_information(weighting):
    alike = torch.ones(2, B, D)
    loss, told = nt_xent(alike, TEMP, None, weighting)
    assert float(loss) == pytest.approx(math.log(2 * B - 1), rel=1e-5)
    assert float(told) == pytest.approx(0, abs=1e-5)
    loss, told = symmetric_info_nce(alike, alike, TEMP, None, weighting)
    assert float(loss) == pytest.approx(4 * TEMP * math.log(B), rel=1e-5)
    assert float(told) == pytest.approx(0, abs=1e-5)


def test_outputs_that_tell_every_image_apart_give_all_information():
    apart = torch.eye(B).repeat(2, 1, 1)
    assert float(nt_xent(apart, 0.01)[1]) == pytest.approx(math.log(2 * B - 1), rel=1e-4)


def test_large_logits_neither_overflow_nor_lose_the_gradient():
    views = _random(3, 2, B, D).float().requires_grad_()
    loss = nt_xent(views, 0.005, None, PairWeighting(strength=5.0, prior=0.2))[0]
    assert loss.isfinite()
    assert torch.autograd.grad(loss, views)[0].isfinite().all()


def test_weights_of_positives_have_mean_one_and_rise_with_distance():
    weights = positive_weights(torch.tensor([0.1, 0.5, 1.9]), PairWeighting(strength=2.0))
    assert float(weights.mean()) == pytest.approx(1, rel=1e-6)
    assert weights[0] < weights[1] < weights[2]
