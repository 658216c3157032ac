"""One trial: what its record says about time, and in which precision it is scored."""

from __future__ import annotations

import contextlib

import optuna
import pytest
import torch

from augscale.augmentation.scales import load_scales
from augscale.config import load_study
from augscale.runs.files import read_json
from augscale.runs.folders import RunFolder
from augscale.scoring.score import score_backbone
from augscale.searching import trial
from augscale.searching.prepare import prepare_run


@pytest.fixture
def start(tmp_path):
    """Runs one trial of the smoke study; returns its record."""

    def run(on_rung=None, **settings):
        folder, config = RunFolder(tmp_path / "run"), load_study("smoke", settings)
        prepare_run(folder, config, storage=None, parameters=1, device_label="cpu")
        context = trial.build_context(folder, config, "cpu")
        directory = folder.trial_dir(0)
        with contextlib.suppress(optuna.TrialPruned):
            trial.run_trial(context, trial.new_record(load_scales("strong"), 1, number=0), directory, on_rung=on_rung)
        return read_json(directory / "trial.json")

    return run


def _prune_at_the_second_rung(rung):
    if rung.step == 4:
        raise optuna.TrialPruned


@pytest.mark.parametrize("on_rung", [None, _prune_at_the_second_rung])
def test_a_trial_also_a_pruned_one_says_where_its_seconds_went(start, on_rung):
    record = start(on_rung)
    assert len(record["rungs"]) == (3 if on_rung is None else 2)
    parts = record["seconds_by_part"]
    assert all(parts[name] > 0 for name in ("views", "forward", "backward", "optimiser", "rungs", "state"))
    scoring = sum(rung["seconds"] for rung in record["rungs"])
    assert 0 < scoring <= parts["rungs"] + 0.002
    assert sum(parts.values()) <= record["seconds"] + 0.01


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_rungs_on_the_way_are_scored_in_trainings_precision_and_the_final_score_in_fp32(start, monkeypatch, precision):
    seen = []

    def both(backbone, panel, probe, *, autocast, **options):
        scores = {flag: score_backbone(backbone, panel, probe, autocast=flag, **options) for flag in (False, True)}
        seen.append((autocast, scores))
        return scores[autocast]

    monkeypatch.setattr(trial, "score_backbone", both)
    record = start(**{"pretrain.precision": precision})
    assert [autocast for autocast, _ in seen] == [precision == "bf16"] * 2 + [False]
    assert record["final"]["score"] == seen[-1][1][False].score
    half_interval = (record["final"]["interval"][1] - record["final"]["interval"][0]) / 2
    for _, scores in seen:
        # 8 bits of mantissa move a score by far less than the panel's choice of images does.
        assert abs(scores[True].score - scores[False].score) < 0.1 * half_interval
        assert scores[True].effective_rank == pytest.approx(scores[False].effective_rank, rel=0.1)
        assert scores[True].feature_sd == pytest.approx(scores[False].feature_sd, rel=0.02)
        assert scores[True].score != scores[False].score


@pytest.mark.parametrize("content", [b"", None], ids=["cut off", "of another version"])
def test_a_trial_whose_saved_state_cannot_be_used_begins_again(start, tmp_path, content):
    whole = start()
    state = tmp_path / "run" / "trials" / "0000" / "state.pt"
    values = torch.load(state, weights_only=True)
    if content is None:
        torch.save(values | {"format": 1}, state)
    else:
        state.write_bytes(content)
    again = start()
    assert again["began_again"].startswith(str(state))
    assert again["final"]["score"] == whole["final"]["score"]
    assert len(again["rungs"]) == len(whole["rungs"])
