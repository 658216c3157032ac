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

from augscale.config import CropsConfig
from augscale.pretraining.memory_estimate import HEADROOM, SLACK_BYTES, LiveBytes, extrapolated, measure_step

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


CROPS = CropsConfig(global_size=8, local_size=8, n_local=0)
VIEWS = 4 * 3 * CROPS.n_global * CROPS.global_size**2


def test_two_passes_find_a_peak_that_moves_to_another_operation():
    def timeline(num_images):
        return np.array([50_000, 40_000 + num_images, 20_000 * num_images])

    memory = extrapolated([timeline(2), timeline(3)], 7, CROPS)
    for num_images in (1, 2, 3, 10, 100):
        held = HEADROOM * max(timeline(num_images)) + SLACK_BYTES
        assert memory.peak(num_images) == held + VIEWS * num_images
        assert memory.peak(num_images, accumulating=True) == memory.peak(num_images) + 7
    assert memory.peak(10, num_threads=2) == memory.peak(10) + 2 * 7


def test_passes_of_other_operations_give_an_upper_bound():
    memory = extrapolated([np.array([10, 20]), np.array([30, 15, 6])], 0, CROPS)
    assert memory.peak(6) == HEADROOM * 60 + SLACK_BYTES + 6 * VIEWS


def test_buffers_come_back_also_after_an_error():
    norm = torch.nn.BatchNorm1d(3)
    before = {key: value.clone() for key, value in norm.state_dict().items()}

    def fail(views):
        norm(torch.randn(8, 3))
        assert int(norm.num_batches_tracked) == 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure_step(fail, [norm], CROPS, key="fails")
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
