"""Sinkhorn-Knopp, iBOT, KoLeo and block-wise masks against plain loops; what DINOv2 needs and refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from method_studies import method_study

from augscale.errors import ConfigError
from augscale.networks.backbones import build_backbone
from augscale.pretraining.block_masks import block_mask, block_masks
from augscale.pretraining.dinov2_losses import ibot_loss, koleo_loss, sinkhorn_probabilities
from augscale.pretraining.distributed import DistributedContext
from augscale.pretraining.student_teacher import build_networks

ALONE = DistributedContext()
N, K = 6, 9


def _random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _plain_sinkhorn(logits, temp, iterations):
    """Algorithm of SwAV's appendix, on Python lists of numbers."""
    q = [[math.exp(x / temp) for x in row] for row in logits.tolist()]
    total = sum(map(sum, q))
    q = [[x / total for x in row] for row in q]
    for _ in range(iterations):
        for k in range(len(q[0])):
            used = sum(row[k] for row in q)
            for row in q:
                row[k] /= used * len(q[0])
        for row in q:
            whole = sum(row)
            row[:] = [x / (whole * len(q)) for x in row]
    return torch.tensor([[x * len(q) for x in row] for row in q])


@pytest.mark.parametrize("iterations", [1, 3])
def test_sinkhorn_equals_the_plain_algorithm(iterations):
    logits = _random(0, N, K)
    found = sinkhorn_probabilities(logits.float(), 0.3, iterations, ALONE)
    torch.testing.assert_close(found.double(), _plain_sinkhorn(logits, 0.3, iterations).double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(N))


def test_sinkhorn_uses_all_prototypes_alike_and_survives_large_logits():
    found = sinkhorn_probabilities(_random(1, 40, 4).float(), 0.5, 20, ALONE)
    torch.testing.assert_close(found.mean(dim=0), torch.full((4,), 0.25), rtol=0.01, atol=0)
    # Samples whose largest exponentials differ by more than float32's range.
    rows = torch.tensor([[200.0, 0.0, 1.0], [0.0, 1.0, 2.0], [0.0, 90.0, -90.0]])
    torch.testing.assert_close(sinkhorn_probabilities(rows, 1.0, 3, ALONE).sum(dim=1), torch.ones(3))
    assert sinkhorn_probabilities(torch.zeros(0, 4), 0.5, 3, ALONE).shape == (0, 4)


def _compare(ours, plain, tensor):
    single, double = tensor.float().requires_grad_(), tensor.clone().requires_grad_()
    found, expected = ours(single), plain(double)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    (found_grad,), (expected_grad,) = torch.autograd.grad(found, single), torch.autograd.grad(expected, double)
    torch.testing.assert_close(found_grad.double(), expected_grad, rtol=1e-5, atol=1e-5)


def test_ibot_equals_the_loop_over_masked_patches():
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.bool)
    probs = torch.softmax(_random(1, 4, K), dim=1)
    weights = (1 / mask.sum(dim=1, keepdim=True).clamp(min=1)).expand_as(mask)[mask]

    def plain(student):
        total, row = 0.0, 0
        for view in mask:
            for _ in range(int(view.sum())):
                total = total - (probs[row] * torch.log_softmax(student[row] / 0.1, dim=0)).sum() / view.sum()
                row += 1
        return total / len(mask)

    _compare(lambda x: ibot_loss(x, probs.float(), weights, 0.1, num_views=3), plain, _random(0, 4, K))


@pytest.mark.parametrize("patients", [None, [0, 0, 1, 2, 3, 1]])
def test_koleo_equals_the_loop_over_nearest_neighbors_of_other_patients(patients):
    def plain(x):
        owner, total = patients or list(range(N)), 0.0
        unit = [row / row.norm() for row in x]
        for i in range(N):
            others = [j for j in range(N) if owner[j] != owner[i]]
            nearest = max(others, key=lambda j: float(unit[i].detach() @ unit[j].detach()))
            total = total - torch.log((unit[i] - unit[nearest]).norm())
        return total / N

    numbers = None if patients is None else torch.tensor(patients)
    _compare(lambda x: koleo_loss(x, numbers), plain, _random(0, N, 5))


def test_koleo_of_a_single_patient_is_zero():
    embeddings = _random(0, N, 5).float().requires_grad_()
    loss = koleo_loss(embeddings, torch.zeros(N, dtype=torch.int64))
    assert loss.item() == 0
    assert torch.autograd.grad(loss, embeddings)[0].isfinite().all()


def _official_rule(generator, grid, wanted):
    """BEiT's generator of a block-wise mask as its authors describe it, cell by cell."""
    height, width = grid
    masked = set()
    while len(masked) < wanted:
        most, added = min(wanted - len(masked), height * width // 2), 0
        for _ in range(10):
            area = 4 + (most - 4) * generator.random()
            aspect = math.exp(generator.uniform(math.log(0.3), math.log(1 / 0.3)))
            tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if wide < width and tall < height:
                top, left = generator.integers(0, height - tall + 1), generator.integers(0, width - wide + 1)
                cells = {(y, x) for y in range(top, top + tall) for x in range(left, left + wide)} - masked
                if 0 < len(cells) <= most:
                    masked |= cells
                    added = len(cells)
                    break
        if not added:
            break
    return masked


def test_block_masks_follow_the_official_rule_in_distribution():
    grid, wanted, number = (6, 8), 20, 600
    ours, theirs = np.random.default_rng(0), np.random.default_rng(1)
    found = np.stack([block_mask(grid, wanted, ours) for _ in range(number)])
    expected = np.zeros_like(found)
    for row in expected:
        for cell in _official_rule(theirs, grid, wanted):
            row[cell] = True
    # Four standard errors of 600 masks, and of their numbers of patches and of neighbors masked alike.
    np.testing.assert_allclose(found.mean(axis=0), expected.mean(axis=0), atol=0.12)
    for measure in (lambda m: m.sum(axis=(1, 2)), lambda m: (m[:, 1:] & m[:, :-1]).sum(axis=(1, 2))):
        first, second = measure(found), measure(expected)
        error = math.sqrt((first.var() + second.var()) / number)
        assert abs(first.mean() - second.mean()) < 4 * max(error, 1e-9)


def test_masks_cover_the_share_of_views_and_stay_within_the_range_of_ratios():
    masks = block_masks(20, (8, 8), (0.1, 0.5), 0.5, np.random.default_rng(0))
    shares = masks.mean(axis=(1, 2))
    assert (shares > 0).sum() == 10
    assert shares.max() <= 0.5
    assert 0.2 < shares[shares > 0].mean() < 0.35
    assert not block_masks(4, (4, 4), (0.1, 0.5), 0.0, np.random.default_rng(0)).any()


def test_patch_tokens_come_with_the_class_token_of_the_plain_forward_pass():
    study = method_study("dinov2")
    backbone = build_backbone(study.backbone, 32).train()
    views = _random(0, 2, 3, 32, 32).float()
    embedding, patches = backbone.tokens(views)
    torch.testing.assert_close(embedding, backbone(views))
    torch.testing.assert_close(patches, backbone.model.forward_features(views)[:, 1:])
    mask = torch.zeros(2, 16, dtype=torch.bool)
    torch.testing.assert_close(backbone.tokens(views, mask, torch.ones(1, 16))[0], embedding)
    mask[1, 3] = True
    changed = backbone.tokens(views, mask, torch.ones(1, 16))[0]
    torch.testing.assert_close(changed[0], embedding[0])
    assert not torch.allclose(changed[1], embedding[1])


def test_ibot_with_a_resnet_is_refused_in_one_line_and_without_ibot_it_is_not():
    resnet = {"name": "resnet10t", "overrides": {}}
    with pytest.raises(ConfigError, match=r"ibot_weight = 1 with backbone.name = 'resnet10t': .* expected") as caught:
        build_networks(method_study("dinov2", backbone=resnet), 0, torch.device("cpu"))
    assert "\n" not in str(caught.value)
    student = build_networks(method_study("dinov2", backbone=resnet, ibot_weight=0.0), 0, torch.device("cpu"))[0]
    assert student.ibot_head is None


def test_the_heads_of_class_and_patch_tokens_are_untied():
    student, teacher = build_networks(method_study("dinov2"), 0, torch.device("cpu"))
    first, second = student.head.last_layer.direction, student.ibot_head.last_layer.direction
    assert not torch.equal(first, second)
    assert torch.equal(second, teacher.ibot_head.last_layer.direction)
