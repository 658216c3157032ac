"""The estimate of a step's memory, against counts by hand, torch's own saved tensors, and the process's real peak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from augscale.pretraining.memory_estimate import SLACK_BYTES, LiveBytes, Pass, from_passes, restored

ROOT = Path(__file__).resolve().parents[2]


def test_live_bytes_are_counted_while_tensors_live_and_once():
    known = torch.ones(1000)
    with LiveBytes([known]) as live:
        view = known[:10]
        first = known + 1
        same = first.view(10, 100)
        second = first * 2
        del first
        third = second + 1
        del same
        fourth = third + 1
    assert live.timeline == [0, 4000, 4000, 8000, 12000, 12000]
    del view, fourth


def test_a_forward_pass_leaves_what_autograd_saves():
    net = torch.nn.Sequential(*[torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU()) for _ in range(4)])
    x = torch.randn(32, 64)
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = net(x)
    known = {tensor.untyped_storage()._cdata for tensor in (x, *net.parameters())}
    expected = sum(size for key, size in saved.items() if key not in known)
    del out
    with LiveBytes([x, *net.parameters()]) as live:
        out = net(x)
        after_forward = live.timeline[-1]
        out.sum().backward()
    assert after_forward == expected + 32 * 64 * 4  # and the result itself
    assert live.timeline[-1] >= sum(parameter.nbytes for parameter in net.parameters())


def test_two_passes_find_a_peak_that_moves_to_another_operation():
    def one(num_images):
        return Pass(num_images=num_images, timeline=np.array([50, 40 + num_images, 20 * num_images]), gradients=7)

    memory = from_passes([one(2), one(3)], headroom=1.0)
    for num_images in (1, 2, 3, 10, 100):
        assert memory.peak(num_images, further=False) == max(one(num_images).timeline) + SLACK_BYTES
    assert memory.peak(10, further=True) == memory.peak(10, further=False) + 7
    bound = from_passes([one(2)], headroom=1.0)
    assert all(bound.peak(n, further=False) >= memory.peak(n, further=False) for n in (2, 3, 10, 100))


def test_passes_of_other_operations_give_the_upper_bound_and_a_gpus_unseen_bytes_count_per_image():
    first = Pass(num_images=2, timeline=np.array([10, 20]), gradients=0, unseen=8)
    second = Pass(num_images=3, timeline=np.array([30, 15, 6]), gradients=0, unseen=9)
    assert from_passes([first, second], 2.0).peak(6, further=False) == 2 * (60 + 4 * 6) + SLACK_BYTES


def test_buffers_come_back_also_after_an_error():
    norm = torch.nn.BatchNorm1d(3)
    before = {key: value.clone() for key, value in norm.state_dict().items()}

    def fail():
        with restored(list(norm.buffers())):
            norm(torch.randn(8, 3))
            assert int(norm.num_batches_tracked) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all(torch.equal(before[key], value) for key, value in norm.state_dict().items())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "case", ["ViT-tiny/16, 2 x 224 + 8 x 96, batch 16", "ResNet-18, 2 x 112 + 4 x 48, batch 32 in 2"]
)
def test_the_real_peak_of_steps_lies_below_the_estimate_and_not_far(case):
    command = [sys.executable, "-m", "benchmarks.step_memory", "--case", case]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert 1.0 < json.loads(done.stdout)["ratio"] < 1.6
