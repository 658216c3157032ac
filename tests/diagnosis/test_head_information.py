"""The head of an official DINO file: outputs and information against a plain forward pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from augscale.diagnosis.training_signs import head_information


def _official_head(batch_norm: bool) -> nn.Sequential:
    torch.manual_seed(0)
    norm = [nn.BatchNorm1d(12)] if batch_norm else []
    mlp = nn.Sequential(nn.Linear(8, 12), *norm, nn.GELU(), nn.Linear(12, 12), *norm, nn.GELU(), nn.Linear(12, 6))
    for module in mlp:
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return mlp.eval()


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("new_names", [False, True])
def test_information_equals_a_plain_forward_pass(batch_norm, new_names):
    mlp = _official_head(batch_norm)
    direction, gain = torch.randn(20, 6), torch.rand(20, 1) + 0.5
    names = (
        ("parametrizations.weight.original1", "parametrizations.weight.original0")
        if new_names
        else ("weight_v", "weight_g")
    )
    head = {f"head.mlp.{key}": value for key, value in mlp.state_dict().items()}
    head |= {f"head.last_layer.{names[0]}": direction, f"head.last_layer.{names[1]}": gain}
    # DINOv2's second head, of patch tokens, comes after the one of class tokens and is another network.
    head |= {key.replace("head.", "ibot_head."): torch.zeros_like(value) for key, value in head.items()}
    points, center = torch.randn(30, 8), torch.randn(1, 20)
    hidden = mlp(points)
    hidden = hidden / hidden.norm(dim=1, keepdim=True)
    logits = hidden @ (gain * direction / direction.norm(dim=1, keepdim=True)).T
    p = ((logits - center) / 0.07).softmax(dim=1).detach().double().numpy()
    mean = p.mean(axis=0)
    expected = -(mean * np.log(mean)).sum() + (p * np.log(p)).sum(axis=1).mean()
    found = head_information(head, points.numpy(), center, {"teacher_temp": 0.07})
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_head_with_equal_outputs_says_nothing():
    mlp = _official_head(False)
    head = {
        f"mlp.{key}": torch.zeros_like(value) if "weight" in key else value for key, value in mlp.state_dict().items()
    }
    head["last_layer.weight_v"] = torch.randn(20, 6)
    found = head_information(head, np.random.default_rng(0).standard_normal((9, 8)), None, {})
    assert found == pytest.approx(0.0, abs=1e-5)
    assert found < math.log(9)


@pytest.mark.parametrize("head", [{}, {"projector.weight": torch.ones(3, 3)}, {"mlp.0.weight": torch.ones(4, 99)}])
def test_other_heads_are_passed_over(head):
    assert head_information(head, np.ones((5, 8)), None, {}) is None
