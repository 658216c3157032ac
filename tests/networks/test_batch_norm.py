"""Common batch norm statistics: exact, independent of order, and gone afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from augscale.config import BackboneConfig
from augscale.errors import DivergedError
from augscale.networks import batch_norm
from augscale.networks.backbones import build_backbone
from augscale.networks.batch_norm import Statistics, gather, has_batch_norm, limited, use, uses_batch_statistics
from augscale.pretraining.student_teacher import build_networks

RESNET = BackboneConfig(name="resnet10t", overrides={"channels": [8, 8, 16, 16], "stem_width": 8})
VIT = BackboneConfig(
    name="vit_tiny_patch16_224", overrides={"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
)


@pytest.fixture
def views() -> torch.Tensor:
    return torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(0)) + 0.5


def _embed(network: nn.Module, views: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network.eval()(views).clone()


def _changed_statistics(network: nn.Module) -> nn.Module:
    """The same weights after a training with learning rate 0 on other views."""
    network = copy.deepcopy(network).train()
    with torch.no_grad():
        for _ in range(3):
            network(3 * torch.randn(8, 3, 32, 32) - 1)
    return network.eval()


def test_they_are_those_of_torch_for_one_batch(views):
    network = build_backbone(RESNET, 32)
    found = gather(network, views)
    oracle = copy.deepcopy(network)
    update_bn([views], oracle)
    buffers = dict(oracle.named_buffers())
    assert found.means
    for name, mean in found.means.items():
        torch.testing.assert_close(mean, buffers[f"{name}.running_mean"], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.variances[name], buffers[f"{name}.running_var"], atol=1e-5, rtol=1e-4)


def test_batches_are_pooled_exactly_and_in_any_order(views, monkeypatch):
    """The first layer sees the views alone, so its statistics are those of all pixels at once."""
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    monkeypatch.setattr(batch_norm, "BATCH_PIXELS", 6 * 32 * 32)
    found, turned = gather(network, views), gather(network, views.flip(0))
    pixels = views.double().movedim(1, -1).flatten(0, -2)
    torch.testing.assert_close(found.means["0"], pixels.mean(dim=0).float(), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.variances["0"], pixels.var(dim=0).float(), atol=1e-6, rtol=1e-6)
    for name in found.means:
        torch.testing.assert_close(found.means[name], turned.means[name], atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(found.variances[name], turned.variances[name], atol=1e-6, rtol=1e-6)


def test_moments_are_exact_whatever_part_of_the_images_is_taken_at_a_time(monkeypatch):
    values = 1000 + torch.randn(7, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    rows = values.double().movedim(1, -1).flatten(0, -2)
    for size in (1, 2 * 3 * 5 * 4, 2**21):
        monkeypatch.setattr(batch_norm, "_CHUNK_VALUES", size)
        count, mean, variance = batch_norm._moments(values)
        assert count == len(rows)
        torch.testing.assert_close(mean, rows.mean(dim=0), atol=0, rtol=1e-7)
        torch.testing.assert_close(variance, rows.var(dim=0, correction=0), atol=0, rtol=1e-5)


def test_equal_weights_embed_alike_whatever_statistics_they_carry(views):
    network = build_backbone(RESNET, 32)
    other = _changed_statistics(network)
    assert not torch.allclose(_embed(network, views), _embed(other, views))
    embedded = []
    for one in (network, other):
        with use(one, gather(one, views)):
            embedded.append(_embed(one, views))
    assert torch.equal(*embedded)


def test_the_network_is_left_as_it_was(views):
    network = build_backbone(RESNET, 32, drop_path=0.5).train()
    before, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    with use(network, gather(network, views)):
        pass
    assert modes == [module.training for module in network.modules()]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(ZeroDivisionError), use(network, gather(network, views)):
        raise ZeroDivisionError
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("backbone", [VIT, nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Flatten())])
def test_a_network_without_batch_norm_is_not_run(views, backbone, monkeypatch):
    network = build_backbone(backbone, 32) if isinstance(backbone, BackboneConfig) else backbone
    expected = _embed(network, views)
    assert not has_batch_norm(network)
    monkeypatch.setattr(network, "forward", lambda _: pytest.fail("was run"))
    found = gather(network, views)
    monkeypatch.undo()
    with use(network, found):
        assert torch.equal(_embed(network, views), expected)


def test_a_layer_without_running_statistics_is_left_alone(views):
    network = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten())
    assert gather(network, views).means == Statistics.none().means


def test_values_that_are_not_finite_are_a_divergence(views):
    views[0, 0, 0, 0] = torch.inf
    with pytest.raises(DivergedError, match=r"batch norm layer .* not finite"):
        gather(build_backbone(RESNET, 32), views)


def test_the_same_images_are_taken_of_many():
    rows = torch.arange(1000).numpy()
    assert len(limited(rows)) == batch_norm.NUM_IMAGES
    assert (limited(rows) == limited(rows[::-1])).all()
    assert (limited(rows[:5]) == rows[:5]).all()


def test_frozen_statistics_stay_while_the_weights_learn():
    from tiny_runs import tiny_study

    study = tiny_study(backbone=RESNET.model_dump(), batch_norm="train")
    frozen = study.model_copy(update={"pretrain": study.pretrain.model_copy(update={"batch_norm": "frozen"})})
    views = torch.randn(4, 3, 32, 32)
    for config, moves in ((study, True), (frozen, False)):
        student = build_networks(config, 0, torch.device("cpu"))[0]
        assert student.training
        assert uses_batch_statistics(student.backbone) == moves
        before = {name: value.clone() for name, value in student.backbone.named_buffers()}
        student(views).sum().backward()
        changed = any(not torch.equal(value, before[name]) for name, value in student.backbone.named_buffers())
        assert changed == moves
        assert all(p.grad is not None for p in student.backbone.parameters() if p.requires_grad)
