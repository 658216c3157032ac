"""Several processes and micro-batches: the result is that of one process and one batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from method_studies import METHODS, method_study
from tiny_runs import TINY_RESNET, tiny_study

from augscale.augmentation.scales import PRESETS
from augscale.config import StudyConfig
from augscale.errors import ConfigError, Paused
from augscale.networks.batch_norm import has_batch_norm
from augscale.pretraining.batches import Batches
from augscale.pretraining.dino import information, information_of_shards
from augscale.pretraining.distributed import DistributedContext, init_distributed
from augscale.pretraining.loop import pretrain
from augscale.pretraining.monitor import means_over
from augscale.pretraining.student_teacher import build_networks, synchronize_batch_norm

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def run(images, indices):
    def start(study: StudyConfig | None = None, **arguments):
        arguments = {"seed": 3, "device": "cpu", "log_every": 1} | arguments
        return pretrain(images, indices, PRESETS["strong"], study=study or tiny_study(), **arguments)

    return start


@pytest.fixture(scope="module")
def alone(run):
    return run()


@pytest.fixture(scope="module")
def ranks(run, images, indices, tmp_path_factory):
    """What both processes found in all scenarios of two_ranks.py, and the folder they left their states in."""
    folder = tmp_path_factory.mktemp("ranks")
    np.save(folder / "images.npy", images)
    np.save(folder / "indices.npy", indices)
    asked = iter([False] * 3 + [True])
    with pytest.raises(Paused):
        run(state_path=folder / "alone.pt", should_stop=lambda: next(asked))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, str(HERE / "two_ranks.py"), str(folder)], env=environment, capture_output=True, timeout=280
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)], folder


def _close(losses, information, weights, expected):
    np.testing.assert_allclose([x for _, x in losses], [x for _, x in expected.loss_history], rtol=1e-5)
    np.testing.assert_allclose(information, expected.information, atol=1e-5)
    for key, value in expected.backbone.state_dict().items():
        # Attention does not depend on the bias of its keys: its gradient is rounding alone, which AdamW scales up.
        rows = torch.arange(len(value)) // (len(value) // 3) != 1 if key.endswith("qkv.bias") else slice(None)
        torch.testing.assert_close(weights[key][rows], value[rows], rtol=1e-5, atol=1e-5)


def _close_to(found, expected):
    _close(found["losses"], found["information"], found["weights"], expected)


def test_two_processes_give_the_result_of_one_with_the_whole_batch(ranks, alone):
    for found in ranks[0]:
        _close_to(found["whole"], alone)


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_give_the_result_of_one_by_every_method(ranks, run, method):
    alone = run(method_study(method, backbone={"drop_path": 0.3}), patients=np.arange(14) // 2)
    for found in ranks[0]:
        _close_to(found[f"by {method}"], alone)


def test_both_processes_hold_the_same_network_bit_for_bit(ranks):
    first, second = (found["whole"]["weights"] for found in ranks[0])
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_two_processes_with_two_micro_batches_each_give_it_too(ranks, alone):
    _close_to(ranks[0][0]["accumulated"], alone)


def test_a_state_of_one_process_is_continued_by_two(ranks, alone):
    for found in ranks[0]:
        _close_to(found["resumed"], alone)


def test_a_stop_of_any_process_stops_all_at_the_same_step_and_one_process_goes_on(ranks, run, alone):
    found, folder = ranks
    assert [entry["stopped"].partition(":")[0] for entry in found] == ["Paused", "Paused"]
    logged = []
    resumed = run(state_path=folder / "two.pt", on_log=logged.append)
    assert [entry.step for entry in logged] == [4, 5, 6]
    np.testing.assert_allclose([x for _, x in resumed.loss_history], [x for _, x in alone.loss_history], rtol=1e-5)


def _same_gradients(found, expected):
    """AdamW hardly sees the size of gradients, so its running means of them are compared, and the center."""
    torch.testing.assert_close(found["loss_state"], expected["loss_state"])
    moments = [state["optimizer"]["state"] for state in (found, expected)]
    assert moments[0].keys() == moments[1].keys()
    for key, moment in moments[1].items():
        torch.testing.assert_close(moments[0][key]["exp_avg"], moment["exp_avg"], rtol=1e-4, atol=1e-6)


def test_gradients_and_center_are_means_over_the_processes(ranks):
    states = [torch.load(ranks[1] / name, weights_only=True) for name in ("two.pt", "alone.pt")]
    assert [state["step"] for state in states] == [3, 3]
    _same_gradients(*states)


def test_gradients_and_center_are_means_over_the_micro_batches(run, tmp_path):
    for accumulate in (1, 2):
        run(tiny_study(clip_grad=0.0), accumulate=accumulate, rung_steps=[2], state_path=tmp_path / f"{accumulate}.pt")
    _same_gradients(*(torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in (2, 1)))


def test_only_process_0_leaves_files(ranks):
    names = {path.name for path in ranks[1].iterdir()}
    assert names == {"images.npy", "indices.npy", "alone.pt", "two.pt", "rank0.pt", "rank1.pt"}


def test_a_failure_of_process_0_ends_the_others_in_one_line(ranks):
    first, second = (found["failed"] for found in ranks[0])
    assert first == "OSError: [Errno 28] No space left on device"
    assert second == "AugscaleError: another process of this run has failed; its own message says why"


def test_a_loss_that_is_nan_on_one_process_stops_both_at_that_step(ranks):
    for found in ranks[0]:
        assert found["diverged"].startswith("DivergedError: loss is nan at step 3 ")


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ("batch norm", "ConfigError: batch norm over several processes needs GPUs"),
        ("uneven", "ConfigError: pretrain.batch_size = 5 over 2 processes x 1 micro-batches: expected a multiple of 2"),
    ],
)
def test_what_several_processes_cannot_do_is_refused_by_all(ranks, scenario, message):
    assert all(found[scenario].startswith(message) for found in ranks[0])


def test_processes_with_other_images_say_so(ranks):
    first, second = (found["other images"] for found in ranks[0])
    assert "another process has other" in first
    assert second == "ConfigError: process 1 has other images than process 0; expected the same on every machine"


def test_processes_and_micro_batches_draw_the_stochastic_depth_of_the_whole_batch(ranks, run):
    study = tiny_study(backbone={"drop_path": 0.5})
    _close_to(ranks[0][0]["drop path"], run(study, accumulate=2))
    _close_to(ranks[0][0]["drop path"], run(study))
    none = run(tiny_study())
    assert abs(none.loss_history[-1][1] - ranks[0][0]["drop path"]["losses"][-1][1]) > 1e-3


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_give_the_result_of_the_whole_batch(run, alone, accumulate):
    result = run(accumulate=accumulate)
    _close(result.loss_history, result.information, result.backbone.state_dict(), alone)


def test_another_number_of_micro_batches_continues_a_run(run, alone, tmp_path):
    asked = iter([False] * 3 + [True])
    with pytest.raises(Paused):
        run(state_path=tmp_path / "state.pt", should_stop=lambda: next(asked), accumulate=2)
    resumed = run(state_path=tmp_path / "state.pt")
    np.testing.assert_allclose([x for _, x in resumed.loss_history], [x for _, x in alone.loss_history], rtol=1e-5)


@pytest.mark.parametrize(("accumulate", "multiple"), [(3, 3), (0, 1), (8, 8)])
def test_shards_that_would_not_be_equal_are_refused(run, accumulate, multiple):
    with pytest.raises(
        ConfigError, match=f"1 processes x {accumulate} micro-batches: expected a multiple of {multiple}"
    ):
        run(accumulate=accumulate)


def test_shards_of_a_batch_are_the_batch(images, indices):
    batches = Batches(images, indices, 4, 9, torch.device("cpu"))
    for step in (0, 3):
        whole, ids = batches.draw(step)
        parts = [batches.draw(step, part, 2) for part in (0, 1)]
        assert torch.equal(torch.cat([part for part, _ in parts]), whole)
        assert np.array_equal(np.concatenate([part for _, part in parts]), ids)


def test_information_of_shards_is_that_of_the_batch_and_not_the_mean_of_theirs():
    probs = torch.softmax(3 * torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), dim=-1)

    def means(rows):
        entropy = torch.special.entr(rows).sum(dim=-1).mean()
        return {"entropy": entropy, "probs": rows.mean(0)}

    whole = means_over([means(probs[:4]), means(probs[4:])], DistributedContext())
    joined = float(information_of_shards(whole["probs"], whole["entropy"]))
    assert joined == pytest.approx(float(information(probs)), abs=1e-6)
    apart = (information(probs[:4]) + information(probs[4:])) / 2
    assert abs(joined - float(apart)) > 0.01


def test_synchronised_batch_norm_keeps_parameters_names_and_activations():
    study = tiny_study(backbone=TINY_RESNET, head_batch_norm=True)
    student, _ = build_networks(study, 0, torch.device("cpu"))
    views = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = student.eval()(views)
    names, identities = list(student.state_dict()), [id(parameter) for parameter in student.parameters()]
    converted = synchronize_batch_norm(student)
    normalising = [m for m in converted.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert normalising
    assert all(isinstance(module, torch.nn.SyncBatchNorm) for module in normalising)
    assert list(converted.state_dict()) == names
    assert [id(parameter) for parameter in converted.parameters()] == identities
    assert torch.equal(converted.eval()(views), expected)


def test_batch_norm_is_found_in_backbone_and_head_and_nowhere_else():
    def networks(**fields):
        return build_networks(tiny_study(**fields), 0, torch.device("cpu"))[0]

    assert not has_batch_norm(networks())
    assert has_batch_norm(networks(head_batch_norm=True))
    assert has_batch_norm(networks(backbone=TINY_RESNET))


def test_a_single_process_needs_no_process_group(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with init_distributed("cpu") as context:
        assert (context.rank, context.world_size, context.device) == (0, 1, "cpu")
        assert context.is_main
        assert context.is_single
        assert context.all_reduce_max(3) == 3
        assert context.broadcast_bytes(b"bytes") == b"bytes"


def test_one_gpu_for_several_processes_is_refused(monkeypatch):
    values = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ConfigError, match="every process of torchrun takes its own GPU"), init_distributed("cuda:0"):
        pass
    with (
        pytest.raises(ConfigError, match="on a machine with 1 GPUs; expected --nproc-per-node 1"),
        init_distributed("cuda"),
    ):
        pass
