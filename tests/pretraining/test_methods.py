"""What holds for every method: micro-batches equal the whole, resumption leaves no trace, lr 0 learns nothing."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch
from method_studies import METHODS, method_study
from PIL import Image
from pydantic import ValidationError
from tiny_runs import tiny_study

from augscale.augmentation.scales import PRESETS
from augscale.augmentation.views import MultiCropViews
from augscale.config import load_study
from augscale.diagnosis.training_signs import training_signs
from augscale.errors import CheckpointError, ConfigError, Paused
from augscale.networks.checkpoints import load_checkpoint
from augscale.networks.weights import read_sidecar
from augscale.pretrain_config import method_overrides
from augscale.pretraining.batches import partners
from augscale.pretraining.forward import Forward
from augscale.pretraining.loop import pretrain
from augscale.pretraining.methods import chance_loss
from augscale.pretraining.student_teacher import build_networks
from augscale.promotion import full_run

PATIENTS = np.arange(14) // 2
CONTRASTIVE = [name for name in METHODS if name in ("simclr", "mocov3")]


@pytest.fixture
def run(images, indices):
    def start(study, **arguments):
        arguments = {"seed": 3, "device": "cpu", "log_every": 1, "patients": PATIENTS} | arguments
        return pretrain(images, indices, PRESETS["strong"], study=study, **arguments)

    return start


def _weights(backbone):
    return {key: value.clone() for key, value in backbone.state_dict().items()}


def _equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("method", METHODS)
def test_micro_batches_equal_the_whole_batch(run, tmp_path, method):
    study = method_study(method, backbone={"drop_path": 0.3})
    states = []
    for accumulate in (1, 2):
        state = tmp_path / f"{accumulate}.pt"
        result = run(study, accumulate=accumulate, state_path=state, rung_steps=[study.pretrain.steps])
        states.append((result, torch.load(state, weights_only=True)))
    (whole, first), (parts, second) = states
    np.testing.assert_allclose([x for _, x in parts.loss_history], [x for _, x in whole.loss_history], rtol=1e-4)
    # AdamW hardly sees the size of gradients, so its running means of them are compared.
    moments = [state["optimizer"]["state"] for state in (first, second)]
    for key, moment in moments[0].items():
        torch.testing.assert_close(moments[1][key]["exp_avg"], moment["exp_avg"], rtol=1e-3, atol=1e-5)
    assert parts.information == pytest.approx(whole.information, abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_equals_the_uninterrupted_one(run, tmp_path, method):
    study = method_study(method, backbone={"drop_path": 0.3})
    whole = run(study)
    asked = iter([False] * 2 + [True])
    with pytest.raises(Paused):
        run(study, state_path=tmp_path / "state.pt", should_stop=lambda: next(asked))
    resumed = run(study, state_path=tmp_path / "state.pt")
    assert resumed.loss_history == whole.loss_history
    assert resumed.information == whole.information
    assert _equal(_weights(resumed.backbone), _weights(whole.backbone))


@pytest.mark.parametrize("method", METHODS)
def test_a_run_learns_and_one_with_learning_rate_zero_keeps_its_weights(run, method):
    initial = build_networks(method_study(method), 3, torch.device("cpu"))[1].backbone
    result = run(method_study(method))
    assert not _equal(_weights(result.backbone), _weights(initial))
    assert all(np.isfinite(loss) for _, loss in result.loss_history)
    assert len({loss for _, loss in result.loss_history}) == len(result.loss_history)
    null = run(method_study(method, lr=0.0, min_lr=0.0))
    assert _equal(_weights(null.backbone), _weights(initial))


@pytest.mark.parametrize("frozen", [True, False])
def test_mocov3_keeps_the_patch_projection_of_a_vit_where_the_study_says_so(run, frozen):
    study = method_study("mocov3", freeze_patch_projection=frozen)
    initial = build_networks(study, 3, torch.device("cpu"))[1].backbone.model.patch_embed.proj.weight
    assert torch.equal(run(study).backbone.model.patch_embed.proj.weight, initial) == frozen


@pytest.mark.parametrize("method", METHODS)
def test_batch_norm_runs_on_a_resnet(run, method):
    fields = {"ibot_weight": 0.0} if method == "dinov2" else {}
    narrow = {"name": "resnet10t", "overrides": {"channels": [8, 8, 16, 16], "stem_width": 8}}
    study = method_study(method, backbone=narrow, head_batch_norm=True, steps=2, **fields)
    seen = []
    result = run(study, accumulate=2, rung_steps=[1], on_rung=lambda event: seen.append(event.chance_loss))
    assert seen == [chance_loss(study)]
    # Two passes over the micro-batches of a loss that compares images move the running statistics once.
    tracked = dict(result.backbone.named_buffers())["model.bn1.num_batches_tracked"]
    assert int(tracked) == 2 * 2


@pytest.mark.parametrize("method", CONTRASTIVE)
def test_images_of_a_patient_change_the_loss_and_belong_to_a_runs_fingerprint(run, tmp_path, method):
    study = method_study(method)
    state = tmp_path / "state.pt"
    known = run(study, state_path=state, rung_steps=[1])
    # Of these seven patients, every batch of eight images holds at least one pair.
    assert run(study, patients=None).loss_history[0] != known.loss_history[0]
    with pytest.raises(CheckpointError, match="with other patients"):
        run(study, patients=PATIENTS[::-1].copy() // 2, state_path=state)


@pytest.mark.parametrize("method", METHODS)
def test_a_strength_of_zero_trains_as_without_weights_and_another_one_does_not(run, method):
    plain = run(method_study(method, steps=2))
    zero = run(method_study(method, steps=2, pair_weighting="hard", pair_strength=0.0))
    hard = run(method_study(method, steps=2, pair_weighting="hard", pair_strength=1.0))
    assert zero.loss_history == plain.loss_history
    assert _equal(_weights(zero.backbone), _weights(plain.backbone))
    assert hard.loss_history != plain.loss_history


def test_natural_positives_show_another_photograph_of_the_patient(run, images, indices):
    study = method_study("dino", natural_positives=True, steps=1)
    seen = []

    def look(batch, ids, partners):
        seen.append((batch.clone(), partners.clone(), ids % len(images)))
        return MultiCropViews(PRESETS["strong"], study.crops, images.shape[1], 0)(batch, ids, partners)

    run(study, make_views=look)
    ((batch, partners, rows),) = seen
    trained = {int(row): {int(x) for x in indices if PATIENTS[x] == PATIENTS[row]} - {int(row)} for row in rows}
    for image, partner, row in zip(batch, partners, rows, strict=True):
        assert np.array_equal(image.numpy(), images[row])
        allowed = trained[int(row)] or {int(row)}
        assert any(np.array_equal(partner.numpy(), images[other]) for other in allowed)
    assert any(len(others) for others in trained.values())


def test_partners_are_in_the_second_of_every_two_views():
    crops = method_study("dino").crops.model_copy(update={"n_local": 2})
    views = MultiCropViews(PRESETS["none"], crops, 40, 0)
    black, white = torch.zeros(3, 40, 40, 3, dtype=torch.uint8), torch.full((3, 40, 40, 3), 255, dtype=torch.uint8)
    made = views(black, np.arange(3), white)
    for batch in (made.global_crops, made.local_crops):
        shown = batch.flatten(1).mean(dim=1)
        assert (shown[:3] < 0).all()
        assert (shown[3:] > 0).all()


def test_partners_are_other_images_of_the_same_patient_and_all_of_them_over_time():
    patients = np.array([3, 1, 3, 2, 3, 1])
    drawn = np.array([partners(patients, np.random.default_rng(seed)) for seed in range(40)])
    assert (patients[drawn] == patients).all()
    assert {tuple(sorted(set(drawn[:, i]))) for i in (0, 2, 4)} == {(2, 4), (0, 4), (0, 2)}
    assert (drawn[:, 3] == 3).all()
    assert (drawn[:, 1] == 5).all()


@pytest.mark.parametrize("patients", [None, np.arange(14)])
def test_natural_positives_without_pairs_are_refused_in_one_line(run, patients):
    with pytest.raises(ConfigError, match="natural_positives = true: no patient has two images") as caught:
        run(method_study("simclr", natural_positives=True), patients=patients)
    assert "\n" not in str(caught.value)


def test_natural_positives_without_patients_are_refused_before_anything_is_decoded(tmp_path, monkeypatch):
    for number in range(4):
        Image.fromarray(np.full((8, 8, 3), number, dtype=np.uint8)).save(tmp_path / f"{number}.png")
    monkeypatch.setattr(full_run, "build_cache", lambda *_, **__: pytest.fail("images were decoded"))
    settings = {"pretrain.natural_positives": True}
    with pytest.raises(ConfigError, match="no patient has two images"):
        full_run.pretrain_full("weak", data=tmp_path, study="smoke", overrides=settings, out=tmp_path / "x", quiet=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "simclr", "crops": {"n_local": 2}}, "takes two global views; found crops.n_local = 2, expected 0"),
        ({"method": "dino", "pair_weighting": "hard", "negative_prior": 0.1}, "has no negatives"),
        ({"method": "simclr", "crops": {"n_local": 0}, "negative_prior": 0.1}, 'belongs to pair_weighting = "hard"'),
        ({"method": "dinov2", "dino_weight": 0.0, "ibot_weight": 0.0}, "leaves nothing to predict"),
        ({"method": "dinov2", "mask_probability": 0.0}, "needs masked patches"),
        ({"method": "dinov2", "mask_ratio": (0.5, 0.1)}, "expected [low, high]"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fields, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        tiny_study(**fields)


def test_the_flag_leaves_out_local_views_where_a_method_takes_none():
    assert method_overrides(None) == {}
    assert method_overrides("dinov2") == {"pretrain.method": "dinov2"}
    study = load_study("smoke", method_overrides("simclr"))
    assert (study.pretrain.method, study.crops.n_local) == ("simclr", 0)
    with pytest.raises(
        ConfigError, match=r"pretrain.method = 'byol' is not accepted: input should be 'dino', 'simclr'"
    ):
        load_study("smoke", method_overrides("byol"))


@pytest.mark.parametrize("method", METHODS)
def test_rungs_and_the_estimate_of_memory_leave_a_run_as_it_is(run, method):
    study = method_study(method, backbone={"drop_path": 0.3}, steps=2)
    modes = []
    limited = study.model_copy(update={"pretrain": study.pretrain.model_copy(update={"max_memory": "1TB"})})
    looked_at = run(limited, rung_steps=[1, 2], on_rung=lambda event: modes.append(event.backbone.training))
    assert modes == [False, False]
    assert looked_at.micro_batches.changes == ()
    assert looked_at.loss_history == run(study).loss_history


def test_a_full_run_by_another_method_says_so_in_its_sidecar_and_is_diagnosed_by_its_own_signs(tmp_path):
    run = full_run.pretrain_full(
        "weak",
        study="smoke",
        steps=2,
        evaluations=1,
        overrides=method_overrides("simclr"),
        device="cpu",
        out=tmp_path / "run",
        quiet=True,
    )
    facts = read_sidecar(run.last_weights)
    assert facts.method == "simclr"
    assert facts.training.out_dim is None
    assert facts.training.chance_loss == pytest.approx(math.log(2 * 8 - 1))
    assert facts.training.information == pytest.approx(run.information)
    steps = [json.loads(line) for line in (run.run_dir / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    logged = {name for entry in steps if entry["event"] == "step" for name in entry}
    assert {"lr", "weight_decay"} <= logged
    assert not {"teacher_momentum", "teacher_temp", "student_temp"} & logged
    signs = training_signs(load_checkpoint(run.last_weights))
    assert (signs.loss, signs.chance) == (facts.training.loss, facts.training.chance_loss)


@pytest.mark.parametrize("method", ["simclr", "dinov2"])
def test_a_run_that_is_short_of_memory_equals_one_in_smaller_micro_batches(run, monkeypatch, method):
    study, plain = method_study(method, backbone={"drop_path": 0.3}, steps=2), Forward.outputs
    wanted = run(study, accumulate=2)

    def scarce(forward, student, part):
        if part.num_images > 4:
            raise MemoryError
        return plain(forward, student, part)

    monkeypatch.setattr(Forward, "outputs", scarce)
    found = run(study)
    assert [(change.step, change.before, change.after) for change in found.micro_batches.changes] == [(1, 1, 2)]
    assert found.loss_history == wanted.loss_history
    assert _equal(_weights(found.backbone), _weights(wanted.backbone))
