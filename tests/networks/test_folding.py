"""Batch norm folded into convolutions: equal outputs, and a network that is as before afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from augscale.config import BackboneConfig
from augscale.networks.backbones import build_backbone
from augscale.networks.folding import folded, folded_on_cpu


def _backbone(name: str, **overrides: Any) -> nn.Module:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name=name, overrides=overrides), 32).eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return backbone


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("resnet10t", {"channels": [8, 8, 16, 16], "stem_width": 8}),
        ("tf_efficientnet_lite0", {}),
        ("regnetx_002", {}),
    ],
)
def test_outputs_are_equal_and_the_network_is_as_before(name: str, overrides: dict[str, Any]) -> None:
    backbone = _backbone(name, **overrides)
    views = torch.randn(5, 3, 32, 32)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with torch.inference_mode():
        expected = backbone(views)

    with folded(backbone, views[:1]) as done, torch.inference_mode():
        assert done
        assert set(backbone.state_dict()) != set(before), "convolutions have a bias meanwhile"
        torch.testing.assert_close(backbone(views), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))

    after = backbone.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    with torch.inference_mode():
        assert torch.equal(backbone(views), expected)


class _UsesTheConvolutionTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.norm.running_mean += 1.0

    def forward(self, x: Tensor) -> Tensor:
        found = self.convolution(x)
        return (self.norm(found) + found).mean(dim=(2, 3))


def test_a_convolution_whose_output_is_used_elsewhere_stays_as_it_is() -> None:
    network, views = _UsesTheConvolutionTwice().eval(), torch.randn(2, 3, 8, 8)
    with folded(network, views) as done, torch.inference_mode():
        assert not done
        assert set(network.state_dict()) == set(_UsesTheConvolutionTwice().state_dict())


def test_networks_without_batch_norm_and_in_training_mode_are_left_alone() -> None:
    views = torch.randn(2, 3, 32, 32)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    training = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    for network in (plain, training):
        with folded(network, views) as done:
            assert not done


def test_an_error_meanwhile_restores_the_network() -> None:
    backbone = _backbone("resnet10t", channels=[8, 8, 16, 16], stem_width=8)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(RuntimeError, match="stopped"), folded(backbone, torch.randn(1, 3, 32, 32)):
        raise RuntimeError("stopped")
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_on_a_cpu_batch_norm_is_folded_and_elsewhere_the_network_is_left_alone() -> None:
    backbone = _backbone("resnet10t", channels=[8, 8, 16, 16], stem_width=8)
    before, views = set(backbone.state_dict()), torch.randn(1, 3, 32, 32)
    with folded_on_cpu(backbone, "cpu", views):
        assert set(backbone.state_dict()) != before
    with folded_on_cpu(backbone, torch.device("cuda"), views):
        assert set(backbone.state_dict()) == before
