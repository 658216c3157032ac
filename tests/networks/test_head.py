"""The projection head against torch's own weight norm and hand-written layers."""

from __future__ import annotations

import torch
from torch import nn

from augscale.networks.head import DINOHead


def _head(**settings):
    return DINOHead(12, 20, **{"hidden_dim": 16, "bottleneck_dim": 6} | settings)


def test_head_equals_mlp_then_l2_then_weight_norm_by_torch():
    head = _head(norm_last_layer=False)
    with torch.no_grad():
        head.last_layer.gain.uniform_(0.5, 2.0)
    reference = nn.utils.parametrizations.weight_norm(nn.Linear(6, 20, bias=False))
    reference.parametrizations.weight.original0.data.copy_(head.last_layer.gain)
    reference.parametrizations.weight.original1.data.copy_(head.last_layer.direction)
    x = torch.randn(5, 12)
    hidden = x
    for index in (0, 2):
        hidden = nn.functional.gelu(hidden @ head.mlp[index].weight.T + head.mlp[index].bias)
    bottleneck = hidden @ head.mlp[4].weight.T + head.mlp[4].bias
    expected = reference(bottleneck / bottleneck.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(head(x), expected, rtol=1e-5, atol=1e-6)


def test_scores_are_cosines_while_gains_are_one():
    scores = _head()(torch.randn(50, 12) * 100)
    assert scores.abs().max() <= 1 + 1e-6


def test_initial_weights_are_as_in_the_official_head():
    head = DINOHead(256, 500, hidden_dim=512, bottleneck_dim=128)
    for index in (0, 2, 4):
        assert abs(head.mlp[index].weight.std().item() - 0.02) < 1e-3
        assert not head.mlp[index].bias.any()
    assert torch.equal(head.last_layer.gain, torch.ones(500, 1))
    assert not head.last_layer.gain.requires_grad
    assert head.last_layer.direction.abs().max() <= 128**-0.5


def test_initial_weights_are_a_function_of_the_seed_alone():
    torch.manual_seed(1)
    first = _head(seed=5).state_dict()
    after = torch.rand(1)
    torch.manual_seed(2)
    second = _head(seed=5).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["mlp.0.weight"], _head(seed=6).state_dict()["mlp.0.weight"])
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))


def test_batch_norm_follows_both_hidden_layers():
    kinds = [type(module).__name__ for module in _head(batch_norm=True).mlp]
    assert kinds == ["Linear", "BatchNorm1d", "GELU", "Linear", "BatchNorm1d", "GELU", "Linear"]


def test_last_layer_runs_in_fp32_under_autocast():
    head = _head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = head(torch.randn(5, 12))
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())
