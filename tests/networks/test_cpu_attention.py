"""Attention on a CPU against timm's own, in bf16 and to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers import LayerNorm
from timm.models.vision_transformer import Attention
from torch import Tensor

from augscale.networks import plain_vit
from augscale.networks.plain_vit import attend


def attention(*, fused: bool = False, **options: Any) -> Attention:
    torch.manual_seed(0)
    module = Attention(48, num_heads=3, qkv_bias=True, **options)
    module.fused_attn = fused
    return module.train()


def both(module: Attention, *, autocast: bool = True) -> list[tuple[Tensor, Tensor, list[Tensor]]]:
    """Output, gradient of the tokens, and gradients of the weights, of `attend` and of the module itself."""
    results = []
    for function in (lambda tokens: attend(module, tokens), module):
        tokens = torch.randn(5, 17, 48, generator=torch.Generator().manual_seed(1)).requires_grad_()
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            mixed = function(tokens)
        mixed.float().square().sum().backward()
        results.append((mixed.detach(), tokens.grad, [parameter.grad.clone() for parameter in module.parameters()]))
    return results


@pytest.mark.parametrize("autocast", [True, False])
def test_it_is_timms_to_the_bit(autocast: bool):
    ours, timms = both(attention(), autocast=autocast)
    assert torch.equal(ours[0], timms[0])
    assert torch.equal(ours[1], timms[1])
    assert all(torch.equal(a, b) for a, b in zip(ours[2], timms[2], strict=True))


@pytest.mark.parametrize(
    "options", [{"fused": True}, {"qk_norm": True, "norm_layer": LayerNorm}, {"attn_drop": 0.5}, {"proj_drop": 0.5}]
)
def test_what_it_does_not_know_is_left_to_timm(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plain_vit, "_Attention", None)
    module = attention(**options)
    torch.manual_seed(2)
    found = attend(module, torch.ones(2, 3, 48))
    torch.manual_seed(2)
    assert torch.equal(found, module(torch.ones(2, 3, 48)))
