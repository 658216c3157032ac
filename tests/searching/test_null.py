"""The null: with learning rate 0 all trials are equal, whatever they trained on and however.

Each case is something that a trial carries besides its weights. Before batch norm's statistics were gathered on common
views, every case of a network with batch norm failed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from augscale.augmentation.scales import load_scales
from augscale.config import StudyConfig, load_study
from augscale.pretraining.loop import pretrain
from augscale.records.panel import PanelRecord
from augscale.records.trial import TrialRecord
from augscale.runs.files import read_json
from augscale.runs.folders import RunFolder
from augscale.searching import trial
from augscale.searching.null import TOLERANCE, null_config, null_record, null_runs, null_sentence
from augscale.searching.prepare import prepare_run

RESNET = {"name": "resnet10t", "overrides": {"channels": [8, 8, 16, 16], "stem_width": 8}, "drop_path": 0.0}
GROUP_NORM = {"name": "resnet10t", "overrides": RESNET["overrides"] | {"norm_layer": "groupnorm1"}, "drop_path": 0.0}
VIT = {
    "name": "vit_tiny_patch16_224",
    "overrides": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    "drop_path": 0.0,
}
SCALES = ("strong", "weak+med")
"""The two that change images most, in unlike ways."""

CASES = {
    "batch norm": (RESNET, {}),
    "batch norm, bf16 on the way": (RESNET, {"pretrain.precision": "bf16"}),
    "batch norm, the EMA's own buffers": (RESNET, {"pretrain.teacher_momentum": 0.5}),
    "batch norm, stochastic depth": (RESNET | {"drop_path": 0.3}, {}),
    "batch norm, more local views": (RESNET, {"crops.n_local": 4}),
    "batch norm, weight decay": (RESNET, {"pretrain.weight_decay": 10.0, "pretrain.weight_decay_end": 10.0}),
    "layer norm": (VIT, {}),
    "layer norm, stochastic depth": (VIT | {"drop_path": 0.3}, {}),
    "layer norm, position embedding resampled for local views": (VIT, {"crops.local_size": 24}),
    "group norm": (GROUP_NORM, {}),
}


def _study(backbone: dict, **settings) -> StudyConfig:
    overrides = {"backbone": backbone, "pretrain.steps": 4, "probe.bootstrap": 5}
    return null_config(load_study("smoke", overrides | settings))


def _finals(folder: Path, config: StudyConfig, scales=SCALES, **options) -> list[PanelRecord]:
    run = RunFolder(folder)
    prepare_run(run, config, storage=None, parameters=1, device_label="cpu")
    context = trial.build_context(run, config, "cpu")
    finals = [trial.score_untrained(context, seed=3)]
    for number, name in enumerate(scales):
        new = trial.new_record(load_scales(name), 3, number=number, control=name)
        finals.append(trial.run_trial(context, new, run.trial_dir(number), **options)[0].final)
    return finals


@pytest.mark.parametrize("case", CASES)
def test_without_learning_all_trials_score_what_the_network_before_training_scores(tmp_path, case):
    backbone, settings = CASES[case]
    finals = _finals(tmp_path, _study(backbone, **settings))
    for name in ("score", "effective_rank", "feature_sd", "bootstrap_scores", "levels"):
        for final in finals[1:]:
            assert getattr(final, name) == getattr(finals[0], name), (case, name)


def test_every_rung_is_equal_too(tmp_path):
    config = _study(RESNET)
    _finals(tmp_path, config)
    records = [read_json(path) for path in sorted(tmp_path.glob("trials/*/trial.json"))]
    for rungs in zip(*(record["rungs"] for record in records), strict=True):
        assert len({rung["score"] for rung in rungs}) == 1


@pytest.mark.parametrize("score", ["pair_auroc", "alpha_req"])
def test_every_score_is_equal(tmp_path, score):
    scores = {final.score for final in _finals(tmp_path, _study(RESNET, **{"probe.score": score}))}
    assert len(scores) == 1


def test_micro_batches_change_nothing(tmp_path):
    config = _study(RESNET)
    whole = _finals(tmp_path / "whole", config, ("strong",))[-1]
    cut = _finals(tmp_path / "cut", config, ("strong",), largest_micro_batch=4)[-1]
    assert read_json(tmp_path / "cut" / "trials" / "0000" / "trial.json")["micro_batches"]["number"] > 1
    assert cut.score == whole.score


def test_a_run_with_learning_rate_0_ends_with_the_weights_that_it_began_with():
    config = _study(RESNET)
    images = np.random.default_rng(0).integers(0, 255, (24, 40, 40, 3), dtype=np.uint8)
    result = pretrain(images, np.arange(24), load_scales("strong"), study=config, seed=1, device="cpu")
    start = trial.build_networks(config, 1, torch.device("cpu"))[1].backbone
    for (name, trained), begun in zip(result.backbone.named_parameters(), start.parameters(), strict=True):
        assert torch.equal(trained, begun), name
    moved = [name for name, value in result.backbone.named_buffers() if not torch.equal(value, start.get_buffer(name))]
    assert any("running_mean" in name for name in moved)


def _null_folder(tmp_path: Path, scores: list[float | None], start: float | None) -> tuple[RunFolder, StudyConfig]:
    run = RunFolder(tmp_path)
    config = load_study("smoke", {"search.null_trials": len(scores)})
    for null, score in zip(null_runs(run, config), scores, strict=True):
        null.directory.mkdir(parents=True)
        state, final = ("FAIL", None) if score is None else ("COMPLETE", PanelRecord(score=score))
        record = TrialRecord(number=null.number, name=null.name, kind="null", state=state, scales={}, final=final)
        record.keep(null.directory)
    return run, config


def test_nulls_that_stand_still_take_nothing_off(tmp_path):
    run, config = _null_folder(tmp_path, [0.5, 0.5 + TOLERANCE / 2], 0.5)
    facts = null_record(run, config, PanelRecord(score=0.5))
    assert facts is not None
    assert facts.still
    assert facts.gain == 0
    assert "stays where it begins (d': none 0.500, weak" in null_sentence(facts, "dprime")


def test_the_largest_gain_without_learning_is_taken_off(tmp_path):
    run, config = _null_folder(tmp_path, [0.9, 1.1, None], 0.5)
    facts = null_record(run, config, PanelRecord(score=0.5))
    assert facts is not None
    assert not facts.still
    assert facts.gain == pytest.approx(0.6)
    assert "With learning switched off the score moves" in null_sentence(facts, "dprime")


def test_a_null_that_is_missing_is_said(tmp_path):
    run, config = _null_folder(tmp_path, [None], None)
    facts = null_record(run, config, PanelRecord(score=0.5))
    assert facts.gain == 0
    assert "has ended" in null_sentence(facts, "dprime")
    assert null_record(run, load_study("smoke", {"search.null_trials": 0}), None) is None
    assert "search.null_trials = 0" in null_sentence(None, "dprime")
