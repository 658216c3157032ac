"""Embedding: order, mode, types, failures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from augscale.errors import DivergedError, Paused
from augscale.scoring.embeddings import embed


class TinyBackbone(nn.Module):
    """Batch norm and dropout make the mode visible in the output."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen_norm = nn.BatchNorm2d(3).eval()
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.linear = nn.Linear(48, 5)
        self.seen: list[tuple[torch.dtype, bool]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append((x.dtype, torch.is_inference_mode_enabled()))
        return self.linear(self.drop(self.norm(self.frozen_norm(x))).flatten(1))


@pytest.fixture
def backbone() -> TinyBackbone:
    torch.manual_seed(0)
    return TinyBackbone()


VIEWS = torch.randn(11, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def test_rows_are_in_the_order_of_the_views_whatever_the_batch_size(backbone: TinyBackbone) -> None:
    whole = embed(backbone, VIEWS)
    assert whole.dtype == np.float32
    assert whole.shape == (11, 5)
    np.testing.assert_allclose(embed(backbone, VIEWS, batch_size=4), whole, atol=1e-6)
    one = np.concatenate([embed(backbone, view[None]) for view in VIEWS])
    np.testing.assert_allclose(one, whole, atol=1e-6)


def test_the_backbone_is_evaluated_and_then_left_as_it_was(backbone: TinyBackbone) -> None:
    backbone.train()
    backbone.frozen_norm.eval()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    first = embed(backbone, VIEWS)
    assert np.array_equal(first, embed(backbone, VIEWS)), "dropout was on"
    assert backbone.training
    assert backbone.norm.training
    assert backbone.drop.training
    assert not backbone.frozen_norm.training
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} changed"
    assert all(inference for _, inference in backbone.seen)


def test_the_mode_is_put_back_after_a_failure(backbone: TinyBackbone) -> None:
    backbone.train()
    with pytest.raises(RuntimeError):
        embed(backbone, torch.zeros(2, 3, 5, 5))
    assert backbone.norm.training


def test_half_precision_views_reach_the_backbone_in_float32(backbone: TinyBackbone) -> None:
    found = embed(backbone, VIEWS.half())
    assert backbone.seen[-1][0] == torch.float32
    np.testing.assert_allclose(found, embed(backbone, VIEWS.half().float()), atol=1e-7)


def test_autocast_still_returns_float32(backbone: TinyBackbone) -> None:
    found = embed(backbone, VIEWS, autocast=True)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, embed(backbone, VIEWS), atol=0.05)
    assert not np.array_equal(found, embed(backbone, VIEWS))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_embeddings_that_are_not_finite_mean_divergence(backbone: TinyBackbone, bad: float) -> None:
    views = VIEWS.clone()
    views[3, 0, 0, 0] = bad
    with pytest.raises(DivergedError, match="1 of 11 embeddings"):
        embed(backbone, views)


def test_a_request_to_stop_pauses_between_batches(backbone: TinyBackbone) -> None:
    answers = iter([False, True])
    with pytest.raises(Paused):
        embed(backbone, VIEWS, batch_size=4, should_stop=lambda: next(answers))
    assert len(backbone.seen) == 1


@pytest.mark.gpu
def test_a_gpu_gives_the_same_embeddings(backbone: TinyBackbone) -> None:
    on_cpu = embed(backbone, VIEWS, device="cpu")
    np.testing.assert_allclose(embed(backbone, VIEWS, device="cuda"), on_cpu, atol=1e-5)
