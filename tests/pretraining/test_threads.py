"""Data-parallel threads: the result is that of one thread, repeatable, and errors pass through."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from tiny_runs import TINY_RESNET, TINY_VIT, tiny_study

from augscale.augmentation.scales import PRESETS
from augscale.networks.stochastic_depth import DepthDraws
from augscale.pretraining import dino_method, step
from augscale.pretraining.loop import pretrain
from augscale.pretraining.threads import DataParallelThreads

DROPPING = {"drop_path": 0.5}


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def run(images, indices):
    def start(study, **arguments):
        return pretrain(images, indices, PRESETS["strong"], study=study, seed=3, device="cpu", log_every=1, **arguments)

    return start


@pytest.fixture
def threads_of_losses(monkeypatch):
    """Names of the threads that have computed losses."""
    names: set[str] = set()
    loss = dino_method.dino_loss

    def watched(*arguments, **options):
        names.add(threading.current_thread().name)
        return loss(*arguments, **options)

    monkeypatch.setattr(dino_method, "dino_loss", watched)
    return names


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_threads_train_what_one_trains(run, threads_of_losses, accumulate, precision):
    study = tiny_study(backbone=DROPPING, precision=precision)
    alone = run(study)
    assert threads_of_losses == {"MainThread"}
    threads_of_losses.clear()
    torch.set_num_threads(2)
    try:
        together = run(study, accumulate=accumulate)
        assert torch.get_num_threads() == 2
        again = run(study, accumulate=accumulate)
    finally:
        torch.set_num_threads(1)
    assert len(threads_of_losses - {"MainThread"}) >= 2
    tolerance = 2e-5 if precision == "fp32" else 2e-2
    for found, wanted in ((together, alone), (again, alone)):
        losses = [[loss for _, loss in result.loss_history] for result in (found, wanted)]
        np.testing.assert_allclose(losses[0], losses[1], rtol=tolerance)
        assert found.information == pytest.approx(wanted.information, abs=tolerance)
    weights = [result.backbone.state_dict() for result in (together, again)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert together.loss_history == again.loss_history
    assert set(together.seconds_by_part) == set(alone.seconds_by_part)


@pytest.mark.parametrize(
    "fields",
    [
        {"backbone": TINY_RESNET},
        {"head_batch_norm": True},
        {"backbone": {"overrides": TINY_VIT | {"proj_drop_rate": 0.1}}},
        {"batch_size": 5},
    ],
    ids=["batch norm", "batch norm in the head", "dropout", "odd batch"],
)
def test_what_cannot_be_divided_stays_in_one_thread(run, threads_of_losses, two_threads, fields):
    run(tiny_study(**{"steps": 1} | fields))
    assert threads_of_losses == {"MainThread"}


def test_memory_that_runs_out_in_one_thread_is_survived(run, two_threads, monkeypatch):
    wanted = run(tiny_study(), accumulate=2)
    loss, calls = dino_method.dino_loss, []

    def scarce(student_logits, *arguments, **options):
        calls.append(len(student_logits))
        if len(calls) == 1:
            raise MemoryError
        return loss(student_logits, *arguments, **options)

    monkeypatch.setattr(dino_method, "dino_loss", scarce)
    result = run(tiny_study())
    assert result.loss_history == wanted.loss_history
    assert [(change.step, change.after) for change in result.micro_batches.changes] == [(1, 2)]


@pytest.mark.parametrize(
    ("num_threads", "images", "shards"), [(2, 16, 2), (6, 16, 2), (12, 64, 4), (16, 64, 16), (4, 7, 1)]
)
def test_shards_are_equal_and_so_are_their_threads(num_threads, images, shards):
    torch.set_num_threads(num_threads)
    try:
        threads = DataParallelThreads(enabled=True)
        assert threads.num_shards(images) == shards
        assert threads.map(lambda _: torch.get_num_threads(), shards) == [num_threads // shards] * shards
        assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(1)


def test_an_error_is_raised_after_all_threads_have_ended(two_threads):
    threads, ended = DataParallelThreads(enabled=True), threading.Event()

    def work(number):
        if number == 0:
            raise ValueError("shard 0")
        ended.wait(0.2)
        ended.set()

    with pytest.raises(ValueError, match="shard 0"):
        threads.map(work, 2)
    assert ended.is_set()
    assert torch.get_num_threads() == 2


def test_parameters_do_not_share_gradients_that_autograd_gave_to_several():
    first, second, unused = (torch.nn.Parameter(torch.zeros(3)) for _ in range(3))
    shared = torch.ones(1).expand(3)
    for _ in range(2):
        step.add_gradients([first, second, unused], [shared, shared, None])
    first.grad.mul_(10)
    assert first.grad.tolist() == [20.0] * 3
    assert second.grad.tolist() == [2.0] * 3
    assert unused.grad is None


@pytest.mark.parametrize("num_parts", [1, 2, 3, 6])
def test_shards_draw_the_stochastic_depth_of_the_whole_batch(num_parts):
    views, images = 4, 6
    whole = DepthDraws(7, 0, 1, images)
    wanted = [set(whole.kept(views * images, p).tolist()) for p in (0.9, 0.5)]
    found: list[set[int]] = [set(), set()]
    for part in range(num_parts):
        draws = DepthDraws(7, part, num_parts, images // num_parts)
        for kept, p in zip(found, (0.9, 0.5), strict=True):
            for row in draws.kept(views * images // num_parts, p).tolist():
                view, image = divmod(row, images // num_parts)
                kept.add(view * images + part * (images // num_parts) + image)
    assert found == wanted
    assert 0 < len(wanted[1]) < views * images
