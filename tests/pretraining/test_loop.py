"""The training loop: against a plain one, against itself after interruptions, and when things go wrong."""

from __future__ import annotations

import copy
import json
import math

import dino_oracle
import numpy as np
import pytest
import torch
from tiny_runs import TINY_RESNET, tiny_study
from torch._dynamo.utils import counters

from augscale.augmentation import compiled
from augscale.augmentation.scales import PRESETS
from augscale.augmentation.views import MultiCropViews
from augscale.errors import CheckpointError, ConfigError, DataError, DivergedError, Paused
from augscale.networks.backbones import build_backbone
from augscale.networks.head import DINOHead
from augscale.networks.precision import resolve_precision
from augscale.pretraining import dino
from augscale.pretraining import step as step_module
from augscale.pretraining.batches import Batches
from augscale.pretraining.loop import pretrain
from augscale.pretraining.step import Trainer
from augscale.seeding import derive_seed

SCALES = PRESETS["strong"]


@pytest.fixture
def run(images, indices):
    def start(study=None, **arguments):
        arguments = {"seed": 3, "device": "cpu", "log_every": 1} | arguments
        rows, scales = indices[arguments.pop("rows", slice(None))], arguments.pop("scales", SCALES)
        return pretrain(images, rows, scales, study=study or tiny_study(), **arguments)

    return start


def _weights(backbone):
    return {key: value.clone() for key, value in backbone.state_dict().items()}


def _equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def _plain_training(study, images, indices, seed, num_steps):
    """DINO in a plain loop: one forward per view, AdamW without fusion, loops over parameters and pairs."""
    recipe, steps, batch_size = study.pretrain, study.pretrain.steps, study.pretrain.batch_size
    weights = derive_seed(seed, "weights")
    dims = {"hidden_dim": recipe.head_hidden_dim, "bottleneck_dim": recipe.head_bottleneck_dim}
    student = torch.nn.Sequential(
        build_backbone(study.backbone, 32, seed=weights).model,
        DINOHead(32, recipe.out_dim, norm_last_layer=recipe.norm_last_layer, seed=derive_seed(weights, "head"), **dims),
    )
    teacher = copy.deepcopy(student)
    lr = dino_oracle.cosine_schedule(recipe.lr, recipe.min_lr, steps, round(recipe.warmup_fraction * steps))
    decay = dino_oracle.cosine_schedule(recipe.weight_decay, recipe.weight_decay_end, steps)
    momentum = dino_oracle.cosine_schedule(recipe.teacher_momentum, recipe.teacher_momentum_end, steps)
    temps = dino_oracle.teacher_temps(
        recipe.teacher_temp_start, recipe.teacher_temp, steps, round(recipe.teacher_temp_warmup_fraction * steps)
    )
    center = np.zeros(recipe.out_dim)
    batches = Batches(images, indices, batch_size, derive_seed(seed, "order"), torch.device("cpu"))
    views = MultiCropViews(SCALES, study.crops, images.shape[1], derive_seed(seed, "views"))
    named = list(student.named_parameters())
    optimizer = torch.optim.AdamW(
        [{"params": [p]} for _, p in named], lr=0.0, betas=(0.9, 0.999), foreach=False, fused=False
    )
    losses = []
    for step in range(num_steps):
        crops = views(*batches.draw(step))
        sets = [*crops.global_crops.split(batch_size), *crops.local_crops.split(batch_size)][: 2 + study.crops.n_local]
        t = [teacher(x).detach() for x in sets[:2]]
        s = [student(x) for x in sets]
        c = torch.tensor(center, dtype=torch.float32)
        q = [torch.softmax((x - c) / temps[step], dim=-1) for x in t]
        terms = [
            (-q[i] * torch.log_softmax(s[v] / recipe.student_temp, dim=-1)).sum(-1).mean()
            for i in range(2)
            for v in range(len(s))
            if i != v
        ]
        loss = sum(terms) / len(terms)
        optimizer.zero_grad()
        loss.backward()
        for (name, p), group in zip(named, optimizer.param_groups, strict=True):
            (clipped,) = dino_oracle.clip([p.grad.double().numpy()], recipe.clip_grad)
            p.grad = torch.tensor(clipped, dtype=torch.float32)
            if "last_layer" in name and step < round(recipe.freeze_last_layer_fraction * steps):
                p.grad = None
            group["lr"] = lr[step]
            group["weight_decay"] = 0.0 if name.endswith(".bias") or p.ndim == 1 else decay[step]
        optimizer.step()
        with torch.no_grad():
            for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                old.copy_(momentum[step] * old + (1 - momentum[step]) * new)
        center = dino_oracle.center(center, torch.cat(t).double().numpy(), recipe.center_momentum)
        losses.append(loss.item())
    return losses, teacher


@pytest.mark.parametrize("n_local", [2, 0])
def test_training_equals_a_plain_loop_step_by_step(run, images, indices, n_local):
    study = tiny_study(crops={"n_local": n_local}, clip_grad=0.05)
    losses, teacher = _plain_training(study, images, indices, 3, 6)
    result = run(study)
    np.testing.assert_allclose([loss for _, loss in result.loss_history], losses, rtol=3e-5)
    assert len(set(losses)) == 6
    for found, expected in zip(result.backbone.parameters(), teacher[0].parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(run):
    study = tiny_study(backbone={"drop_path": 0.3})
    first, second, other = run(study), run(study), run(study, seed=4)
    assert first.loss_history == second.loss_history
    assert _equal(_weights(first.backbone), _weights(second.backbone))
    assert not _equal(_weights(first.backbone), _weights(other.backbone))


def test_training_leaves_and_ignores_the_global_random_state(run):
    study = tiny_study(backbone={"drop_path": 0.3})
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = run(study)
    assert torch.equal(torch.rand(3), expected)
    assert first.loss_history == run(study).loss_history


BATCH_NORM = {"backbone": TINY_RESNET, "head_batch_norm": True, "steps": 3}


@pytest.mark.parametrize(
    ("fields", "pause_at"),
    [({"backbone": {"drop_path": 0.3}}, step) for step in (0, 1, 3, 5)] + [(BATCH_NORM, 2)],
    ids=["at the start", "after 1", "after 3", "before the last", "with batch norm"],
)
def test_a_paused_and_resumed_run_equals_the_uninterrupted_one(run, tmp_path, pause_at, fields):
    study = tiny_study(**fields)
    whole = run(study)
    asked = iter([False] * pause_at + [True])
    with pytest.raises(Paused):
        run(study, state_path=tmp_path / "state.pt", should_stop=lambda: next(asked))
    resumed = run(study, state_path=tmp_path / "state.pt")
    assert resumed.loss_history == whole.loss_history
    assert resumed.information == whole.information
    assert _equal(_weights(resumed.backbone), _weights(whole.backbone))


class _Killed(Exception):
    pass


@pytest.mark.parametrize("rungs", [(2, 4, 6), (4,)])
def test_a_run_killed_in_a_rung_resumes_there_and_equals_the_uninterrupted_one(run, tmp_path, rungs):
    whole = run(rung_steps=rungs)
    seen = []

    def die_at_four(event):
        seen.append(event.step)
        if event.step == 4 and seen.count(4) == 1:
            raise _Killed

    arguments = {"state_path": tmp_path / "state.pt", "rung_steps": rungs, "on_rung": die_at_four}
    with pytest.raises(_Killed):
        run(**arguments)
    resumed = run(**arguments)
    assert seen == [step for step in rungs if step <= 4] + [step for step in rungs if step >= 4]
    assert resumed.loss_history == whole.loss_history
    assert _equal(_weights(resumed.backbone), _weights(whole.backbone))


def test_a_run_killed_in_its_last_rung_only_repeats_the_rung(run, tmp_path):
    events = []

    def die_once(event):
        events.append(event)
        if len(events) == 1:
            raise _Killed

    arguments = {"state_path": tmp_path / "state.pt", "rung_steps": [6], "on_rung": die_once}
    with pytest.raises(_Killed):
        run(**arguments)
    logged = []
    run(**arguments, on_log=logged.append)
    assert not logged
    assert events[0].loss == events[1].loss
    assert events[0].information == events[1].information


def test_state_is_saved_after_every_step_where_the_interval_is_zero(run, tmp_path):
    def die(entry):
        if entry.step == 5:
            raise _Killed

    study = tiny_study(checkpoint_seconds=0)
    with pytest.raises(_Killed):
        run(study, state_path=tmp_path / "state.pt", on_log=die)
    logged = []
    run(study, state_path=tmp_path / "state.pt", on_log=logged.append)
    assert [entry.step for entry in logged] == [5, 6]


def test_a_rung_sees_the_teacher_in_eval_mode_and_training_goes_on_as_before(run):
    study = tiny_study(**BATCH_NORM)
    events, modes = [], []

    def look(event):
        events.append((event.step, event.loss, event.chance_loss))
        modes.extend(module.training for module in event.backbone.modules())
        assert event.backbone(torch.zeros(1, 3, 32, 32)).shape == (1, event.backbone.embed_dim)
        torch.rand(5)

    result = run(study, rung_steps=[2, 3], on_rung=look)
    assert events == [(step, dict(result.loss_history)[step], math.log(24)) for step in (2, 3)]
    assert not any(modes)
    assert result.loss_history == run(study).loss_history


def test_a_rung_gets_the_teacher_and_not_the_student(run):
    study = tiny_study(teacher_momentum=1.0)
    initial = build_backbone(study.backbone, 32, seed=derive_seed(3, "weights"))
    seen = []
    run(study, rung_steps=[6], on_rung=lambda event: seen.append(_weights(event.backbone)))
    assert _equal(seen[0], _weights(initial))


@pytest.mark.parametrize("change", ["settings", "seed", "scales", "images"])
def test_a_state_of_another_run_is_refused_and_says_what_differs(run, tmp_path, change):
    state = tmp_path / "state.pt"
    run(state_path=state, rung_steps=[2])
    changed = {
        "settings": {"study": tiny_study(lr=1e-4)},
        "seed": {"seed": 4},
        "scales": {"scales": PRESETS["weak"]},
        "images": {"rows": slice(8)},
    }[change]
    named = {"settings": r" \(pretrain\.lr: 0\.\d+, now 0\.0001\)", "scales": r" \(.*brightness: .*\)"}
    with pytest.raises(CheckpointError, match=f"with other {change}{named.get(change, '')}; remove it"):
        run(state_path=state, **changed)


def test_a_state_from_before_a_setting_existed_goes_on_where_the_setting_has_its_default(run, tmp_path):
    state = tmp_path / "state.pt"
    whole = run(state_path=state, rung_steps=[2])
    content = torch.load(state, weights_only=True)
    settings = json.loads(content["fingerprint"]["settings"])
    del settings["pretrain.student_temp"]
    content["fingerprint"]["settings"] = json.dumps(settings)
    torch.save(content, state)
    assert run(state_path=state).loss_history == whole.loss_history
    with pytest.raises(CheckpointError, match=r"\(pretrain\.student_temp: 0\.1, now 0\.2\)"):
        run(study=tiny_study(student_temp=0.2), state_path=state)


def test_a_state_from_before_there_were_methods_is_continued(run, tmp_path):
    state = tmp_path / "state.pt"
    whole = run(state_path=state, rung_steps=[2])
    content = torch.load(state, weights_only=True)
    settings = json.loads(content["fingerprint"]["settings"])
    del settings["pretrain.method"]
    content["fingerprint"]["settings"] = json.dumps(settings)
    content |= {"format": 2, "center": content.pop("loss_state")["center"]}
    torch.save(content, state)
    logged = []
    resumed = run(state_path=state, on_log=logged.append)
    assert [entry.step for entry in logged] == [3, 4, 5, 6]
    assert _equal(_weights(resumed.backbone), _weights(whole.backbone))


@pytest.mark.parametrize("content", [b"", b"not a state", None], ids=["empty", "text", "truncated"])
def test_a_damaged_state_is_refused_in_one_line(run, tmp_path, content):
    state = tmp_path / "state.pt"
    run(state_path=state, rung_steps=[2])
    state.write_bytes(state.read_bytes()[:-200] if content is None else content)
    with pytest.raises(CheckpointError, match=r"state\.pt: damaged") as caught:
        run(state_path=state)
    assert "\n" not in str(caught.value)


def _poisoned(study, images, bad_step):
    """Views that turn to NaN at one step, without randomness of their own."""
    make, calls = MultiCropViews(SCALES, study.crops, images.shape[1], 0), []

    def views(batch, ids):
        calls.append(1)
        found = make(batch, ids)
        if len(calls) == bad_step:
            found.global_crops[0] = math.nan
        return found

    return views


def test_a_loss_that_is_nan_stops_the_run_and_says_where(run, images, tmp_path):
    study, state = tiny_study(), tmp_path / "state.pt"
    with pytest.raises(DivergedError) as caught:
        run(study, make_views=_poisoned(study, images, 5), state_path=state, rung_steps=[2], log_every=100)
    message = str(caught.value)
    lr = dino_oracle.cosine_schedule(2e-3, 1e-6, 6, 2)[4]
    assert message == f"loss is nan at step 5 (lr {lr:.1e}, teacher_temp 0.07); last checkpoint: step 2"
    assert run(study, state_path=state).steps == 6


def test_a_learning_rate_that_blows_up_is_reported_as_divergence(run):
    study = tiny_study(lr=1e30, warmup_fraction=0.0, clip_grad=0.0, freeze_last_layer_fraction=0.0)
    with pytest.raises(DivergedError, match=r"at step \d .*; no checkpoint"):
        run(study)


def test_weights_that_the_last_step_ruins_are_not_handed_out(run):
    def nan_gradients(student_logits, teacher_probs, temp, **options):
        return (student_logits * 0).sum().sqrt()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("augscale.pretraining.dino_method.dino_loss", nan_gradients)
        with pytest.raises(DivergedError, match="a weight of the teacher is not finite at step 1"):
            run(tiny_study(steps=1, warmup_fraction=0.0))


def test_a_trained_network_is_not_the_initial_one_and_the_log_is_complete(run):
    logged = []
    result = run(on_log=logged.append, log_every=4)
    assert [entry.step for entry in logged] == [4, 6]
    assert [(entry.step, entry.loss) for entry in logged] == result.loss_history
    initial = build_backbone(tiny_study().backbone, 32, seed=derive_seed(3, "weights"))
    assert not _equal(_weights(result.backbone), _weights(initial))
    assert not result.backbone.training
    assert result.steps == 6
    assert result.images_per_second > 0
    assert {"views", "forward", "backward", "optimiser"} <= result.seconds_by_part.keys()


def test_batch_norm_of_the_teacher_settles_on_its_own_batches(run):
    result = run(tiny_study(**BATCH_NORM))
    buffers = dict(result.backbone.named_buffers())
    assert int(buffers["model.bn1.num_batches_tracked"]) == 3


def test_bf16_and_fp32_losses_are_close(run):
    exact, rough = run(tiny_study(lr=1e-4)), run(tiny_study(lr=1e-4, precision="bf16"))
    for (_, a), (_, b) in zip(exact.loss_history, rough.loss_history, strict=True):
        assert a != b
        assert a == pytest.approx(b, rel=0.02)


def test_fewer_images_than_a_batch_are_refused_with_both_numbers(run):
    with pytest.raises(DataError, match=r"batch_size = 12 is above the 11 images"):
        run(tiny_study(batch_size=12))


def test_local_views_that_do_not_divide_into_patches_are_refused(run):
    with pytest.raises(ConfigError, match=r"crops.local_size = 20: expected a multiple"):
        run(tiny_study(crops={"local_size": 20}))


def test_an_epoch_uses_every_image_once_and_epochs_differ(images, indices):
    batches = Batches(images, indices, 4, 9, torch.device("cpu"))
    drawn = [batches.draw(step) for step in range(4)]
    rows = [ids % len(images) for _, ids in drawn]
    for epoch in (0, 1):
        used = np.concatenate(rows[2 * epoch : 2 * epoch + 2])
        assert len(set(used)) == 8
        assert set(used) <= set(indices)
    assert len(np.unique(np.concatenate([ids for _, ids in drawn]))) == 16
    assert list(np.concatenate(rows[:2])) != list(np.concatenate(rows[2:]))
    for (batch, _), row in zip(drawn, rows, strict=True):
        assert np.array_equal(batch.numpy(), images[row])


def test_a_batch_is_the_same_whenever_it_is_drawn(images, indices):
    batches = Batches(images, indices, 4, 9, torch.device("cpu"))
    batches.draw(5)
    late = batches.draw(1)[1]
    assert np.array_equal(late, Batches(images, indices, 4, 9, torch.device("cpu")).draw(1)[1])


def test_an_explicit_precision_is_taken_as_it_is():
    assert resolve_precision("fp32", "cpu") == "fp32"
    assert resolve_precision("bf16", "cpu") == "bf16"
    assert resolve_precision("auto", "cpu") in ("fp32", "bf16")


@pytest.mark.gpu
@pytest.mark.parametrize("fields", [{}, BATCH_NORM], ids=["vit", "resnet"])
def test_a_gpu_run_follows_the_cpu_run(run, fields):
    study = tiny_study(**fields)
    on_cpu, on_gpu = run(study), run(study, device="cuda")
    found, expected = ([loss for _, loss in result.loss_history] for result in (on_gpu, on_cpu))
    np.testing.assert_allclose(found, expected, rtol=2e-2)
    assert {"views", "forward", "backward", "optimiser"} <= on_gpu.seconds_by_part.keys()


@pytest.mark.gpu
def test_a_gpu_run_that_reads_its_loss_late_still_names_the_first_bad_step(run, images):
    study = tiny_study()
    with pytest.raises(DivergedError, match="loss is nan at step 3 "):
        run(study, device="cuda", make_views=_poisoned(study, images, 3), log_every=100)


@pytest.mark.gpu
def test_a_gpu_run_resumes_from_its_state(run, tmp_path):
    asked = iter([False] * 3 + [True])
    with pytest.raises(Paused):
        run(device="cuda", state_path=tmp_path / "state.pt", should_stop=lambda: next(asked))
    resumed, whole = run(device="cuda", state_path=tmp_path / "state.pt"), run(device="cuda")
    found, expected = ([loss for _, loss in result.loss_history] for result in (resumed, whole))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.gpu
def test_images_kept_on_the_gpu_and_gathered_from_the_host_are_the_same(images, indices, monkeypatch):
    device = torch.device("cuda")
    resident = Batches(images, indices, 4, 9, device)
    monkeypatch.setattr("augscale.pretraining.batches._SHARE_OF_FREE_MEMORY", 0.0)
    gathered = Batches(images, indices, 4, 9, device)
    for step in range(4):
        assert torch.equal(resident.draw(step)[0], gathered.draw(step)[0])


def test_a_run_that_compiles_does_so_with_its_views_and_its_loss_and_leaves_them_what_they_are(run, monkeypatch):
    """On a CPU, with functions that stand as written for compiled ones."""
    wanted, used = run(tiny_study(steps=3)), set()

    def as_written(function):
        used.add(function.__name__)
        return function

    monkeypatch.setattr(step_module, "resolve_compile", lambda setting, device, steps: True)
    monkeypatch.setattr(compiled, "compiled_version", as_written)
    monkeypatch.setattr(dino, "compiled_version", as_written)
    found = run(tiny_study(steps=3))
    assert used == {"color", "finish", "_cross_entropy", "_cross_entropy_gradient"}
    np.testing.assert_allclose(found.loss_history, wanted.loss_history, rtol=1e-4)


@pytest.mark.gpu
def test_a_compiled_gpu_run_follows_the_others_and_a_second_one_compiles_nothing(run):
    fields = {"backbone": {"drop_path": 0.2}, "precision": "bf16"}
    losses = []
    for setting, device in (("never", "cpu"), ("never", "cuda"), ("always", "cuda")):
        result = run(tiny_study(**fields, compile=setting), device=device)
        losses.append([loss for _, loss in result.loss_history])
    # Losses fall below 1, and bf16 rounds differently in each.
    np.testing.assert_allclose(losses[2], losses[0], rtol=0, atol=0.05)
    np.testing.assert_allclose(losses[2], losses[1], rtol=0, atol=0.05)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 5, "nothing was compiled"
    run(tiny_study(**fields, compile="always"), device="cuda", seed=4, scales=PRESETS["weak"])
    assert counters["stats"]["unique_graphs"] == graphs


@pytest.mark.gpu
@pytest.mark.parametrize(
    "fields", [{}, {"compile": "always", "precision": "bf16"}, BATCH_NORM], ids=["vit", "compiled", "resnet"]
)
def test_a_step_on_a_gpu_does_not_wait_for_it(run, monkeypatch, fields):
    step, quiet = Trainer.train_step, []

    def watched(trainer: Trainer, *, logged: bool) -> None:
        torch.cuda.set_sync_debug_mode("error" if trainer.step >= 2 else "default")
        try:
            step(trainer, logged=logged)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        quiet.append(trainer.step)

    monkeypatch.setattr(Trainer, "train_step", watched)
    run(tiny_study(**fields | {"steps": 6}), device="cuda", log_every=100)
    assert quiet == [1, 2, 3, 4, 5, 6]
