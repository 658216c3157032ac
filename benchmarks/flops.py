"""Arithmetic of a DINO step, counted, and what a device does in bare matrix products, measured."""

from __future__ import annotations

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from augscale.config import StudyConfig
from augscale.networks.head import DINOHead
from benchmarks.official_recipe import build_timm


def step_flops(config: StudyConfig) -> float:
    """Floating-point operations per source image of a plain DINO step: teacher forward, student forward and backward.

    Counted by torch's FlopCounterMode on timm's own forward pass, every product of every token, a multiplication and
    an addition each; the backward pass is taken as twice the forward. What a loop leaves out because nothing depends
    on it (ours: most of a ViT's last block, blocks dropped by stochastic depth) counts as done.
    """
    crops, recipe = config.crops, config.pretrain
    backbone = build_timm(config).eval()
    for module in backbone.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # the counter does not know the fused kernel of CPUs
    dims = {"hidden_dim": recipe.head_hidden_dim, "bottleneck_dim": recipe.head_bottleneck_dim}
    head = DINOHead(backbone.num_features, recipe.out_dim, batch_norm=recipe.head_batch_norm, **dims).eval()

    def forward(size: int) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            head(backbone(torch.zeros(1, 3, size, size)))
        return counter.get_total_flops()

    global_, local = forward(crops.global_size), forward(crops.local_size) if crops.n_local else 0
    return float(2 * global_ + 3 * (2 * global_ + crops.n_local * local))


def matrix_product_rate(device: str, precision: str, seconds: float = 1.0) -> float:
    """Median floating-point operations per second of square matrix products with this process's threads."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = 8192 if device.startswith("cuda") else 2048
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while len(rates) < 4 or time.perf_counter() < end:
        start = time.perf_counter()
        left @ right
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        rates.append(2 * size**3 / (time.perf_counter() - start))
    return sorted(rates[1:])[len(rates[1:]) // 2]
