"""The ViT of GPUs: on a CPU, where it is right too, against timm's forward pass and against the CPU's own ViT."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from augscale.config import BackboneConfig
from augscale.networks import vit_on_gpu
from augscale.networks.backbones import Backbone, build_backbone
from augscale.networks.plain_vit import class_token
from augscale.networks.stochastic_depth import DepthDraws
from augscale.networks.vit_on_gpu import class_token_by_factors

SMALL = {"depth": 3, "embed_dim": 48, "num_heads": 3}


def network(drop_path: float = 0.0, seed: int = 1, name: str = "vit_tiny_patch16_224", **overrides: Any) -> Backbone:
    config = BackboneConfig(name=name, overrides=SMALL | overrides)
    return build_backbone(config, 32, drop_path=drop_path, seed=seed).train()


def images(size: int, count: int = 6) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(size))


def with_gradients(backbone: Backbone, embeddings: Tensor) -> tuple[Tensor, list[Tensor]]:
    backbone.zero_grad()
    embeddings.square().sum().backward()
    return embeddings.detach(), [parameter.grad.clone() for parameter in backbone.parameters()]


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("vit_tiny_patch16_224", {}),
        ("vit_tiny_patch16_224", {"init_values": 0.1, "qk_norm": True, "reg_tokens": 2, "pre_norm": True}),
        ("vit_tiny_r_s16_p8_224", {}),
    ],
    ids=["plain", "with scales, norms and registers", "with a convolutional stem"],
)
@pytest.mark.parametrize("size", [32, 64])
def test_without_stochastic_depth_it_is_timms_forward_pass(name: str, overrides: dict[str, Any], size: int):
    backbone = network(name=name, **overrides)
    found = with_gradients(backbone, class_token_by_factors(backbone.model, images(size), None, compiled=False))
    expected = with_gradients(backbone, backbone.model(images(size)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_it_drops_what_the_cpu_drops():
    backbone = network(drop_path=0.5)
    draws = [DepthDraws(7, 1, 2, 3) for _ in range(2)]
    found = with_gradients(backbone, class_token_by_factors(backbone.model, images(32), draws[0], compiled=False))
    expected = with_gradients(backbone, class_token(backbone.model, images(32), draws[1]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    all_kept = class_token_by_factors(backbone.model, images(32), None, compiled=False)
    assert not torch.allclose(found[0], all_kept, atol=1e-2), "nothing was dropped"


def test_unscaled_stochastic_depth_is_not_scaled():
    backbone = network(drop_path=0.5)
    for module in backbone.model.modules():
        if hasattr(module, "scale_by_keep"):
            module.scale_by_keep = False
    found = class_token_by_factors(backbone.model, images(32), DepthDraws(7, 0, 1, 3), compiled=False)
    torch.testing.assert_close(found, class_token(backbone.model, images(32), DepthDraws(7, 0, 1, 3)))


def test_other_networks_and_other_blocks_compile_nothing_anew(monkeypatch: pytest.MonkeyPatch):
    """Embedding, first, other and last block at two crop sizes: eight graphs, however many networks a search trains."""
    counter = CompileCounterWithBackend("aot_eager")
    compiled = {}

    def version(function):
        return compiled.setdefault(function, torch.compile(function, dynamic=False, backend=counter))

    monkeypatch.setattr(vit_on_gpu, "compiled_version", version)
    for seed in range(3):
        backbone = network(drop_path=0.1 * (1 + seed), seed=seed)
        for size in (32, 16):
            draws = [DepthDraws(seed, 0, 1, 3) for _ in range(2)]
            found = class_token_by_factors(backbone.model, images(size), draws[0], compiled=True)
            found.sum().backward()
            torch.testing.assert_close(found, class_token(backbone.model, images(size), draws[1]))
        assert counter.frame_count == 8
