"""Memory that runs out in a step, and micro-batches chosen before the first one."""

from __future__ import annotations

import copy
import functools
import gc
import math
import weakref

import pytest
import torch
from tiny_runs import TINY_RESNET, tiny_study

from augscale.augmentation.scales import PRESETS
from augscale.errors import ConfigError, MemoryShortageError, Paused
from augscale.pretraining import dino_method, step
from augscale.pretraining.dino import dino_loss
from augscale.pretraining.distributed import DistributedContext
from augscale.pretraining.loop import pretrain
from augscale.pretraining.micro_batches import MicroBatches
from augscale.pretraining.out_of_memory import allocate_moments, is_out_of_memory, retry_out_of_memory
from augscale.pretraining.parameter_groups import parameter_groups
from augscale.pretraining.student_teacher import build_networks
from augscale.pretraining.updates import cancel_gradients, clip_gradients

CPU_MESSAGE = (
    "[enforce fail at alloc_cpu.cpp:126] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "8000000000 bytes. Error code 12 (Cannot allocate memory)"
)
BATCH_NORM = {"backbone": TINY_RESNET, "head_batch_norm": True, "steps": 4}
NUM_VIEWS = 4


@pytest.fixture
def run(images, indices):
    def start(study=None, **arguments):
        arguments = {"seed": 3, "device": "cpu", "log_every": 1} | arguments
        return pretrain(images, indices, PRESETS["strong"], study=study or tiny_study(), **arguments)

    return start


@pytest.fixture
def scarce(monkeypatch):
    """From a step on, a loss of more than `most` images is out of memory; where="clip": after the backward pass."""

    def set_up(most, *, from_call=0, error=None, where="loss"):
        state = {"calls": 0, "images": 0}

        def check():
            if state["images"] > most and state["calls"] > from_call:
                raise error or RuntimeError(CPU_MESSAGE)

        def loss(student_logits, teacher_probs, temp, **options):
            state["calls"] += 1
            state["images"] = len(student_logits) // NUM_VIEWS
            if where == "loss":
                check()
            return dino_loss(student_logits, teacher_probs, temp, **options)

        def clip(parameters, most_norm):
            clip_gradients(parameters, most_norm)
            if where == "clip":
                check()

        monkeypatch.setattr(dino_method, "dino_loss", loss)
        monkeypatch.setattr(step, "clip_gradients", clip)

    return set_up


def _state(backbone):
    return {key: value.clone() for key, value in backbone.state_dict().items()}


def _equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("fields", [{"backbone": {"drop_path": 0.3}}, BATCH_NORM], ids=["vit", "batch norm"])
@pytest.mark.parametrize("where", ["loss", "clip"])
def test_a_run_that_is_short_of_memory_equals_one_in_smaller_micro_batches(run, scarce, fields, where):
    study = tiny_study(**fields)
    wanted = run(study, accumulate=2)
    told = []
    scarce(2, where=where)
    result = run(study, on_micro_batches=told.append)
    assert result.loss_history == wanted.loss_history
    assert result.information == wanted.information
    assert _equal(_state(result.backbone), _state(wanted.backbone))
    (change,) = result.micro_batches.changes
    assert (change.step, change.before, change.after, change.cause) == (1, 1, 2, "out of memory")
    assert change.message == CPU_MESSAGE
    assert [(cut.number, cut.size) for cut in told] == [(1, 4), (2, 2)]
    assert str(result.micro_batches) == "micro-batches 2 x 2"
    assert (result.micro_batches.note is not None) == result.micro_batches.batch_norm == ("steps" in fields)


def test_memory_that_runs_out_later_leaves_the_steps_before_and_is_survived_by_a_resumption(run, scarce, tmp_path):
    study = tiny_study(**BATCH_NORM)
    whole, paths = run(study), [tmp_path / "wanted.pt", tmp_path / "short.pt"]
    asked = iter([False, False, True])
    with pytest.raises(Paused):
        run(study, state_path=paths[0], should_stop=lambda: next(asked))
    wanted = run(study, state_path=paths[0], accumulate=2)
    scarce(2, from_call=2)
    asked = iter([False, False, False, True])
    with pytest.raises(Paused):
        run(study, state_path=paths[1], should_stop=lambda: next(asked))
    told = []
    resumed = run(study, state_path=paths[1], on_micro_batches=told.append)
    assert resumed.loss_history[:2] == whole.loss_history[:2]
    assert resumed.loss_history == wanted.loss_history
    assert resumed.loss_history[2:] != whole.loss_history[2:]
    assert _equal(_state(resumed.backbone), _state(wanted.backbone))
    assert [(change.step, change.before, change.after) for change in resumed.micro_batches.changes] == [(3, 1, 2)]
    assert [cut.number for cut in told] == [2]


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_it_halves_retry_out_of_memory(run, scarce, error):
    scarce(1, error=error)
    result = run()
    assert [(change.before, change.after) for change in result.micro_batches.changes] == [(1, 2), (2, 4)]
    assert result.micro_batches.changes[0].message == (str(error) or "MemoryError")


def test_the_next_number_divides_the_batch():
    chosen = MicroBatches(images=12, number=1, batch_norm=False)
    numbers = []
    while chosen.next_number():
        chosen = chosen.halved(1, "")
        numbers.append(chosen.number)
    assert numbers == [2, 4, 12]
    assert MicroBatches(images=6, number=2, batch_norm=True).next_number() is None
    assert MicroBatches(images=7, number=1, batch_norm=True).next_number() is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"out of memory at step 1 with micro-batches of 1 image; expected more memory, or a smaller crops"),
        (BATCH_NORM, r"at step 1 with micro-batches of 2 images, the fewest with batch norm; expected more memory"),
    ],
)
def test_where_nothing_smaller_is_left_one_line_says_what_to_lower(run, scarce, fields, message):
    scarce(0)
    with pytest.raises(MemoryShortageError, match=message) as caught:
        run(tiny_study(**fields))
    assert "\n" not in str(caught.value)
    assert "can't allocate memory" in str(caught.value)


def test_other_errors_pass_at_once(run, scarce):
    scarce(2, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run()
    assert not is_out_of_memory(ValueError(CPU_MESSAGE))


def test_the_allocators_own_error_is_known_and_its_tensors_are_let_go():
    refs, messages = [], []

    def attempt():
        tensor = torch.ones(10)
        if not refs:
            refs.append(weakref.ref(tensor))
            torch.empty(2**60, dtype=torch.uint8)
        return "done"

    def retreat(message):
        assert refs[0]() is None
        messages.append(message)

    assert retry_out_of_memory(attempt, retreat) == "done"
    assert len(messages) == 1
    assert "allocate memory" in messages[0]


def _layout(optimizer):
    states = optimizer.state_dict()["state"].items()
    return {key: {name: (v.dtype, v.shape, v.stride()) for name, v in state.items()} for key, state in states}


@pytest.mark.parametrize("frozen", [True, False])
def test_moments_are_made_as_adamw_makes_them(frozen):
    study = tiny_study(norm_last_layer=True)
    student = build_networks(study, 0, torch.device("cpu"))[0]
    for parameter in student.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, 0.5)
    if frozen:
        cancel_gradients(student.head.last_layer.parameters())
    other = copy.deepcopy(student)
    for parameter, twin in zip(student.parameters(), other.parameters(), strict=True):
        twin.grad = None if parameter.grad is None else parameter.grad.clone()
    ours, plain = (
        torch.optim.AdamW([group.for_optimizer() for group in parameter_groups(net)], lr=1e-2, fused=True)
        for net in (student, other)
    )
    allocate_moments(ours)
    made = _layout(ours)
    ours.step()
    plain.step()
    expected = plain.state_dict()["state"]
    assert made == _layout(plain)
    for key, values in expected.items():
        assert all(torch.equal(ours.state_dict()["state"][key][name], value) for name, value in values.items())
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), other.parameters(), strict=True))


def test_an_update_that_runs_out_of_memory_is_not_done_again(run, monkeypatch):
    def fail(*_):
        raise RuntimeError(CPU_MESSAGE)

    monkeypatch.setattr(step, "update_teacher", fail)
    with pytest.raises(MemoryShortageError, match="within an update, which cannot be done again"):
        run()


def test_one_process_of_several_cannot_decide(run, scarce, monkeypatch):
    for name, stand_in in {
        "all_reduce_max": lambda self, value: value,
        "all_reduce_mean": lambda self, values: values,
        "broadcast_bytes": lambda self, content: content,
        "check_equal": lambda self, facts: None,
        "broadcast_weights": lambda self, network: None,
        "data_parallel": lambda self, student: student,
    }.items():
        monkeypatch.setattr(DistributedContext, name, stand_in)
    scarce(1)
    message = r"process 1 ran out of memory at step 1 with micro-batches 1 x 2; expected --accumulate 2 or more on all"
    with pytest.raises(MemoryShortageError, match=message):
        run(context=DistributedContext(rank=1, world_size=2))


@pytest.mark.parametrize("fields", [{"backbone": {"drop_path": 0.3}}, BATCH_NORM], ids=["vit", "batch norm"])
def test_measuring_changes_nothing(run, monkeypatch, fields):
    study, measured = tiny_study(**fields), []

    def only_measure(chosen, estimate, **_):
        measured.append(estimate()(1))
        return chosen

    monkeypatch.setattr(step, "fewest_that_fit", lambda chosen, *_, **__: chosen)
    torch.manual_seed(0)
    plain = run(study)
    after = torch.rand(3)
    monkeypatch.setattr(step, "fewest_that_fit", only_measure)
    torch.manual_seed(0)
    result = run(study)
    assert len(measured) == 1
    assert torch.equal(torch.rand(3), after)
    assert result.loss_history == plain.loss_history
    assert _equal(_state(result.backbone), _state(plain.backbone))


def test_where_one_micro_batch_fits_nothing_is_recorded(run):
    told = []
    result = run(tiny_study(max_memory="1TB"), on_micro_batches=told.append)
    assert result.micro_batches.changes == ()
    assert [str(cut) for cut in told] == ["micro-batches 1 x 4"]
    assert result.loss_history == run().loss_history


def _needs(run, monkeypatch, number):
    """The estimate in `number` micro-batches."""
    found = []

    def spy(chosen, estimate, **_):
        found.append(estimate()(number))
        return chosen

    with monkeypatch.context() as patch:
        patch.setattr(step, "fewest_that_fit", spy)
        run()
    return found[0]


def test_a_limit_between_two_estimates_takes_the_fewest_micro_batches_that_fit(run, monkeypatch):
    monkeypatch.setattr(step, "resident_memory", lambda: 10**9)
    # Larger views, so that activations outweigh the gradients that further micro-batches find.
    study = tiny_study(crops={"global_size": 64, "local_size": 32, "n_local": 6}, steps=2)
    one, two, four = (_needs(lambda: run(study), monkeypatch, number) for number in (1, 2, 4))
    assert one > two > four
    wanted = run(study, accumulate=2)
    limit = f"{(one + two) // 2} B"
    result = run(study.model_copy(update={"pretrain": study.pretrain.model_copy(update={"max_memory": limit})}))
    (change,) = result.micro_batches.changes
    assert (change.step, change.after, change.cause) == (1, 2, "estimate")
    assert "in 1 x 4" in change.message
    assert "pretrain.max_memory is" in change.message
    assert result.loss_history == wanted.loss_history
    free = run(study, free_memory=(two + four) // 2)
    assert free.micro_batches.number == 4
    assert run(study, free_memory=1).micro_batches.number == 4
    tight = study.model_copy(update={"pretrain": study.pretrain.model_copy(update={"max_memory": "1MB"})})
    with pytest.raises(
        ConfigError, match=r"pretrain.max_memory = '1MB' \(--max-memory\): 4 micro-batches of 1 are esti"
    ):
        run(tight)


def test_a_limit_may_change_between_sessions_and_is_no_part_of_the_fingerprint(run, tmp_path):
    state = tmp_path / "state.pt"
    run(tiny_study(max_memory="1TB"), state_path=state, rung_steps=[2])
    assert run(tiny_study(), state_path=state).steps == 6


def test_a_run_begins_as_an_earlier_one_on_the_device_ended(run):
    wanted = run(accumulate=2)
    result = run(largest_micro_batch=2)
    (change,) = result.micro_batches.changes
    assert (change.step, change.after, change.cause) == (1, 2, "earlier run")
    assert result.loss_history == wanted.loss_history
    assert run(largest_micro_batch=4).micro_batches.changes == ()


@pytest.fixture
def heavy():
    """A study whose step takes hundreds of megabytes of a GPU, so that libraries' own do not count."""
    return functools.partial(
        tiny_study,
        backbone={"overrides": {"patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 2}},
        crops={"global_size": 224, "local_size": 96, "n_local": 8},
        batch_size=8,
    )


@pytest.mark.gpu
def test_on_a_gpu_a_limit_is_kept_by_smaller_micro_batches_and_lifted_afterwards(run, heavy):
    run(heavy(), device="cuda")  # what libraries take when they are first used
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    plain = run(heavy(), device="cuda")
    gc.collect()
    torch.cuda.empty_cache()
    limit = int(0.7 * torch.cuda.max_memory_allocated())
    torch.cuda.reset_peak_memory_stats()
    result = run(heavy(), device="cuda", free_memory=limit)
    assert torch.cuda.max_memory_reserved() <= limit
    assert result.micro_batches.changes[0].cause == "out of memory"
    assert math.isclose(result.loss_history[0][1], plain.loss_history[0][1], rel_tol=1e-3)
    assert run(heavy(), device="cuda").micro_batches.changes == ()
