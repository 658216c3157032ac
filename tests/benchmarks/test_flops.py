"""Arithmetic of a step, against the count by hand."""

from __future__ import annotations

import pytest

from augscale.config import load_study
from benchmarks.flops import step_flops

TINY = {
    "backbone.name": "vit_tiny_patch16_224",
    "backbone.init": "none",
    "backbone.overrides": {"depth": 2},
    "crops.global_size": 64,
    "crops.local_size": 32,
    "crops.n_local": 3,
    "pretrain.out_dim": 512,
}


def test_flops_of_a_small_vit_are_those_of_its_products():
    config = load_study("fundus-vits16", TINY)
    dim, hidden, bottleneck, out_dim = 192, 2048, 256, 512

    def forward(size: int) -> float:
        patches = (size // 16) ** 2
        tokens = patches + 1
        block = tokens * (3 + 1 + 4 + 4) * dim * dim + 2 * tokens * tokens * dim
        head = dim * hidden + hidden * hidden + hidden * bottleneck + bottleneck * out_dim
        return 2.0 * (patches * 3 * 16 * 16 * dim + 2 * block + head)

    expected = 2 * forward(64) + 3 * (2 * forward(64) + 3 * forward(32))
    assert step_flops(config) == pytest.approx(expected, rel=1e-6)
