"""Loss, center, clipping and updates against plain loops in float64."""

from __future__ import annotations

import math

import dino_oracle as official
import numpy as np
import pytest
import torch

from augscale.networks.head import DINOHead
from augscale.pretraining.dino import (
    dino_loss,
    information,
    teacher_probabilities,
    updated_center,
    weighted_dino_loss,
)
from augscale.pretraining.parameter_groups import parameter_groups
from augscale.pretraining.updates import cancel_gradients, clip_gradients, update_teacher

V, B, K = 5, 3, 17


def _outputs(seed=0, views=V, scale=1.0):
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(views, B, K)), scale * rng.normal(size=(2, B, K)), rng.normal(size=K) * 0.1


def _loss(student, teacher, center, student_temp=0.1, teacher_temp=0.04):
    probs = teacher_probabilities(teacher.flatten(0, 1), center, teacher_temp)
    return dino_loss(student.flatten(0, 1), probs, student_temp)


def _tensors(*arrays):
    return [torch.tensor(array, dtype=torch.float32) for array in arrays]


@pytest.mark.parametrize("views", [2, 3, 5])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_loss_equals_the_plain_loop_over_pairs_of_different_views(views, scale):
    arrays = _outputs(views=views, scale=scale)
    expected = official.loss(*arrays, 0.1, 0.07)
    assert float(_loss(*_tensors(*arrays), teacher_temp=0.07)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("views", [2, 5])
def test_gradient_of_the_loss_equals_that_of_the_plain_loop(views):
    student, teacher, center = _tensors(*_outputs(views=views))
    student.requires_grad_()
    q = teacher_probabilities(teacher.flatten(0, 1), center, 0.04).view(2, B, K)
    terms = [
        (-q[i] * torch.log_softmax(student[v] / 0.1, dim=-1)).sum(-1).mean()
        for i in range(2)
        for v in range(views)
        if i != v
    ]
    (expected,) = torch.autograd.grad(sum(terms) / len(terms), student)
    (found,) = torch.autograd.grad(3 * _loss(student, teacher, center), student)
    torch.testing.assert_close(found, 3 * expected, rtol=1e-5, atol=1e-6)


def test_loss_of_a_student_that_knows_nothing_is_ln_k():
    _, teacher, center = _tensors(*_outputs())
    assert float(_loss(torch.zeros(V, B, K), teacher, center)) == pytest.approx(math.log(K), rel=1e-6)


def test_center_is_the_moving_average_of_raw_teacher_outputs():
    center, expected = torch.zeros(K), np.zeros(K)
    for seed in range(8):
        outputs = _outputs(seed)[1].reshape(-1, K)
        center = updated_center(center, _tensors(outputs)[0].mean(dim=0), 0.9)
        expected = official.center(expected, outputs, 0.9)
    np.testing.assert_allclose(center.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_teacher_moves_by_one_minus_momentum_towards_the_student():
    teacher, student = torch.randn(3, 4), torch.randn(3, 4)
    expected = teacher.double() * 0.996 + student.double() * 0.004
    update_teacher([teacher], [student], 0.996)
    torch.testing.assert_close(teacher.double(), expected, rtol=1e-5, atol=1e-6)


def test_teacher_keeps_its_weights_at_momentum_one():
    teacher = torch.randn(5)
    before = teacher.clone()
    update_teacher([teacher], [torch.randn(5)], 1.0)
    assert torch.equal(teacher, before)


def _parameters(norms):
    rng = np.random.default_rng(1)
    parameters = []
    for norm in norms:
        parameter = torch.nn.Parameter(torch.zeros(4, 3))
        gradient = rng.normal(size=(4, 3))
        parameter.grad = torch.tensor(gradient / np.linalg.norm(gradient) * norm, dtype=torch.float32)
        parameters.append(parameter)
    return parameters


def test_gradients_are_clipped_per_tensor_as_the_official_formula_says():
    parameters = _parameters([0.5, 2.9999, 3.0, 3.1, 500.0])
    expected = official.clip([p.grad.double().numpy() for p in parameters], 3.0)
    clip_gradients([*parameters, torch.nn.Parameter(torch.zeros(2))], 3.0)
    for parameter, gradient in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(parameter.grad.numpy(), gradient, rtol=1e-5)


def test_a_clip_of_zero_leaves_gradients_alone():
    (parameter,) = _parameters([500.0])
    before = parameter.grad.clone()
    clip_gradients([parameter], 0.0)
    assert torch.equal(parameter.grad, before)


def test_cancelled_parameters_are_not_even_decayed():
    parameter = torch.nn.Parameter(torch.ones(3, 3))
    optimizer = torch.optim.AdamW([parameter], lr=0.1, weight_decay=0.5, fused=True)
    parameter.grad = torch.ones(3, 3)
    cancel_gradients([parameter])
    optimizer.step()
    assert torch.equal(parameter.detach(), torch.ones(3, 3))


def test_information_equals_the_plain_formula():
    probs = official.softmax(np.random.default_rng(0).normal(size=(9, K)) * 3)
    assert float(information(*_tensors(probs))) == pytest.approx(official.information(probs), abs=1e-5)


@pytest.mark.parametrize("row", [np.full(K, 1 / K), np.eye(K)[3]], ids=["uniform", "one-hot"])
def test_information_is_zero_where_all_images_get_the_same_output(row):
    assert float(information(*_tensors(np.tile(row, (6, 1))))) == pytest.approx(0, abs=1e-6)


def test_information_of_distinct_one_hot_outputs_is_ln_of_their_number():
    assert float(information(torch.eye(K)[:6])) == pytest.approx(math.log(6), abs=1e-6)


def test_biases_and_one_dimensional_tensors_do_not_decay():
    head = DINOHead(8, 10, hidden_dim=6, bottleneck_dim=4, batch_norm=True, norm_last_layer=False)
    decaying, fixed = parameter_groups(head)
    names = {id(parameter): name for name, parameter in head.named_parameters()}
    assert {names[id(p)] for p in fixed.parameters} == {
        *(f"mlp.{i}.{kind}" for i in (1, 4) for kind in ("weight", "bias")),
        *(f"mlp.{i}.bias" for i in (0, 3, 6)),
    }
    assert {names[id(p)] for p in decaying.parameters} == {
        *(f"mlp.{i}.weight" for i in (0, 3, 6)),
        "last_layer.direction",
        "last_layer.gain",
    }
    assert (decaying.decays, fixed.decays) == (True, False)
    assert fixed.for_optimizer()["weight_decay"] == 0


def test_a_frozen_gain_is_not_given_to_the_optimiser():
    head = DINOHead(8, 10, hidden_dim=6, bottleneck_dim=4, norm_last_layer=True)
    given = {id(p) for group in parameter_groups(head) for p in group.parameters}
    assert id(head.last_layer.gain) not in given
    assert id(head.last_layer.direction) in given


@pytest.mark.gpu
def test_loss_and_clipping_agree_between_cpu_and_gpu():
    student, teacher, center = _tensors(*_outputs())
    on_cpu = _loss(student, teacher, center)
    on_gpu = _loss(student.cuda(), teacher.cuda(), center.cuda())
    assert float(on_gpu) == pytest.approx(float(on_cpu), rel=1e-5)
    parameters = _parameters([0.5, 500.0])
    moved = [torch.nn.Parameter(p.detach().cuda()) for p in parameters]
    for parameter, copy in zip(parameters, moved, strict=True):
        copy.grad = parameter.grad.cuda()
    clip_gradients(parameters, 3.0)
    clip_gradients(moved, 3.0)
    for parameter, copy in zip(parameters, moved, strict=True):
        torch.testing.assert_close(copy.grad.cpu(), parameter.grad, rtol=1e-5, atol=1e-6)


def _weighted_loop(student, teacher, center, strength, student_temp=0.1, teacher_temp=0.07):
    """Every pair of views by itself; an image's weights are constants whose mean is 1."""
    total = 0.0
    for image in range(B):
        pairs = []
        for i in range(2):
            q = torch.softmax((teacher[i, image] - center) / teacher_temp, dim=0)
            for v in range(len(student)):
                if v != i:
                    pairs.append(-(q * torch.log_softmax(student[v, image] / student_temp, dim=0)).sum())
        weights = [math.exp(strength * pair.item()) for pair in pairs]
        total = total + sum(w * p for w, p in zip(weights, pairs, strict=True)) / sum(weights)
    return total / B


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_weighted_pairs_equal_the_loop_over_images_and_pairs(strength):
    student, teacher, center = (torch.tensor(array) for array in _outputs(scale=0.2))
    student.requires_grad_()
    expected = _weighted_loop(student, teacher, center, strength)
    single = student.detach().float().requires_grad_()
    probs = teacher_probabilities(teacher.float().flatten(0, 1), center.float(), 0.07)
    found = weighted_dino_loss(single.flatten(0, 1), probs, 0.1, strength)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    (found_grad,), (expected_grad,) = torch.autograd.grad(found, single), torch.autograd.grad(expected, student)
    torch.testing.assert_close(found_grad.double(), expected_grad, rtol=1e-5, atol=1e-5)


def test_weighted_pairs_of_a_student_that_knows_nothing_have_the_loss_of_chance():
    probs = teacher_probabilities(torch.randn(2 * B, K), torch.zeros(K), 0.04)
    assert float(weighted_dino_loss(torch.zeros(V * B, K), probs, 0.1, 1.0)) == pytest.approx(math.log(K), rel=1e-5)
