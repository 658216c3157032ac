"""What a search says about how far its score can be trusted."""

from __future__ import annotations

import re

import pytest

from augscale.config import StudyConfig, load_study
from augscale.searching import trust

REGIME = {"init": "none", "method": "dino", "network": "resnet10t", "images": 15360, "size": 64}
SETTING = REGIME | {"runs": 50, "scales": 28, "setting": "a small network", "statistics": "common"}


def _study(score: str = "dprime", init: str = "none", **settings: object) -> StudyConfig:
    return load_study("default", {"probe.score": score, "backbone.init": init} | settings)


def _said(monkeypatch: pytest.MonkeyPatch, **correlations: tuple[float, float, float]) -> str | None:
    measured = {name: {"value": value, "interval": [low, high]} for name, (value, low, high) in correlations.items()}
    monkeypatch.setattr(trust, "measured_regimes", lambda: [SETTING | {"spearman": {"dprime": measured}}])
    return trust.trust_statement(_study())


def test_correlations_from_networks_own_statistics_are_not_repeated(monkeypatch):
    measured = {"a": {"value": 0.4, "interval": [0.1, 0.7]}}
    known = {name: value for name, value in SETTING.items() if name != "statistics"}
    monkeypatch.setattr(trust, "measured_regimes", lambda: [known | {"spearman": {"dprime": measured}}])
    said = trust.trust_statement(_study())
    assert "is being measured again" in said
    assert "0.4" not in said
    assert "augscale validate" in said


def test_the_measured_correlations_are_named_with_their_intervals():
    for score in ("dprime", "pair_auroc", "alpha_req"):
        said = trust.trust_statement(_study(score))
        row = trust.nearest_regime(_study(score))
        assert said is not None
        assert f"over {row['runs']} short runs" in said
        for name, values in row["spearman"][score].items():
            assert -1 <= values["interval"][0] <= values["interval"][1] <= 1
            assert f"{values['value']:+.2f}" in said
            assert f"on {name}" in said


def test_no_agreement_is_not_called_one(monkeypatch):
    said = _said(monkeypatch, a=(0.4, -0.1, 0.7), b=(-0.2, -0.6, 0.3))
    assert said is not None
    assert "+0.40 [-0.10, +0.70] on a, -0.20 [-0.60, +0.30] on b" in said
    assert "Better than chance was not shown on any" in said


def test_one_dataset_is_not_enough(monkeypatch):
    said = _said(monkeypatch, a=(0.7, 0.3, 0.9), b=(0.3, 0.1, 0.6))
    assert said is not None
    assert "Better than chance was shown on a and b only" in said


def test_two_datasets_at_half_or_more_are(monkeypatch):
    said = _said(monkeypatch, a=(0.7, 0.3, 0.9), b=(0.5, 0.1, 0.6), c=(0.1, -0.2, 0.3))
    assert said is not None
    assert "ranked scales usefully on a and b." in said


def test_a_score_that_did_better_is_named_beside_one_that_did_not(monkeypatch):
    good = {name: {"value": 0.6, "interval": [0.2, 0.8]} for name in ("a", "b")}
    good["c"] = {"value": -0.4, "interval": [-0.6, -0.1]}
    bad = {"a": {"value": 0.1, "interval": [-0.2, 0.4]}}
    scores = {"dprime": bad, "pair_auroc": bad, "alpha_req": good}
    monkeypatch.setattr(trust, "measured_regimes", lambda: [SETTING | {"spearman": scores}])
    said = trust.trust_statement(_study())
    assert said is not None
    assert "`--set probe.score=alpha_req` reached +0.60 [+0.20, +0.80] on a, +0.60 [+0.20, +0.80] on b, -0.40" in said
    assert "picked out of 28 scores" in said
    assert "ranked them against accuracy on c. It was picked out of 28" in (
        trust.trust_statement(_study("alpha_req")) or ""
    )
    assert "--set probe.score" not in (trust.trust_statement(_study("alpha_req")) or "")
    monkeypatch.setattr(trust, "measured_regimes", lambda: [SETTING | {"spearman": {"dprime": bad}}])
    assert "--set probe.score" not in (trust.trust_statement(_study()) or "")


def test_what_pre_training_gained_is_said(monkeypatch):
    measured = {"dprime": {"a": {"value": 0.4, "interval": [0.1, 0.7]}}}
    known = SETTING | {"spearman": measured, "gain": {"value": 0.004, "interval": [-0.002, 0.01], "seeds": 5}}
    monkeypatch.setattr(trust, "measured_regimes", lambda: [known])
    assert "moved that AUROC by +0.004 [-0.002, +0.010] over the network before it" in trust.trust_statement(_study())


def test_a_score_that_was_not_measured_is_not_spoken_of(monkeypatch):
    assert trust.trust_statement(_study("knn-auroc", **{"probe.labelled": ["x"]})) is None
    monkeypatch.setattr(trust, "measured_regimes", lambda: [SETTING | {"spearman": {"dprime": {}}}])
    assert trust.trust_statement(_study()) is None


def test_another_start_than_the_studys_is_said(monkeypatch):
    measured = {"dprime": {"a": {"value": 0.4, "interval": [0.1, 0.7]}}}
    monkeypatch.setattr(trust, "measured_regimes", lambda: [SETTING | {"spearman": measured}])
    assert "had random weights, unlike yours" in trust.trust_statement(_study(init="imagenet"))
    assert "unlike yours" not in trust.trust_statement(_study())


def test_another_method_than_the_studys_is_said_and_its_own_is_nearer(monkeypatch):
    measured = {"dprime": {"a": {"value": 0.4, "interval": [0.1, 0.7]}}}
    dino = SETTING | {"spearman": measured, "network": "vit_small_patch16_224"}
    monkeypatch.setattr(trust, "measured_regimes", lambda: [dino])
    study = _study(**{"pretrain.method": "simclr", "crops.n_local": 0})
    assert "Those runs had DINO, unlike yours" in trust.trust_statement(study)
    assert trust.trust_line(study).endswith("vit_small_patch16_224, 15,360 images; your method and network differ)")
    simclr = dino | {"method": "simclr", "network": "resnet10t"}
    monkeypatch.setattr(trust, "measured_regimes", lambda: [dino, simclr])
    assert trust.nearest_regime(study) == simclr
    assert trust.nearest_regime(_study()) == dino


def test_statistics_of_the_weights_that_all_began_with_are_comparable(monkeypatch):
    measured = {"dprime": {"a": {"value": 0.4, "interval": [0.1, 0.7]}}}
    monkeypatch.setattr(trust, "measured_regimes", lambda: [SETTING | {"statistics": "weights", "spearman": measured}])
    assert "+0.40" in trust.trust_statement(_study())
    assert "+0.40" in trust.trust_line(_study())


def test_the_nearest_regime_has_the_same_start_then_the_network_then_the_length(monkeypatch):
    other = {"init": "imagenet", "method": "dino", "network": "tf_efficientnet_lite0", "images": 16000, "size": 112}
    longer, wide = other | {"images": 128_000}, REGIME | {"network": "resnet50", "images": 64_000}
    monkeypatch.setattr(trust, "measured_regimes", lambda: [REGIME, wide, other, longer])
    network = {"backbone.name": "tf_efficientnet_lite0", "backbone.overrides": {}, "pretrain.batch_size": 64}
    for steps, nearest in ((100, other), (4000, longer)):
        study = _study(init="imagenet", **network | {"pretrain.steps": steps})
        assert trust.nearest_regime(study) == nearest
    assert trust.nearest_regime(_study(**network)) in (REGIME, wide), "random weights"
    small = {"backbone.name": "resnet18", "backbone.overrides": {}, "pretrain.steps": 240, "pretrain.batch_size": 64}
    assert trust.nearest_regime(_study(**small)) == REGIME
    assert trust.nearest_regime(_study(**small | {"backbone.name": "resnet50"})) == wide
    monkeypatch.setattr(trust, "measured_regimes", lambda: [])
    assert trust.nearest_regime(_study()) is None
    assert trust.trust_statement(_study()) is None


def test_a_search_says_in_one_line_what_the_nearest_study_found(monkeypatch):
    measured = {"dprime": {"a": {"value": 0.4, "interval": [0.1, 0.7]}}}
    monkeypatch.setattr(trust, "measured_regimes", lambda: [SETTING | {"spearman": measured}])
    line = trust.trust_line(_study())
    assert line is not None
    assert "\n" not in line
    assert line == (
        "rank correlation of d' with ridge AUROC: +0.40, better than chance (docs: evidence; DINO from random weights, "
        "resnet10t, 15,360 images)"
    )
    assert "15,360 images; your start differs)" in trust.trust_line(_study(init="imagenet"))
    assert trust.trust_line(_study("alpha_req")) is None
    assert trust.trust_line(_study("cv-auroc", **{"probe.labelled": ["x"]})) is None


def test_the_line_has_two_figures_and_is_short_whatever_was_measured(monkeypatch):
    for score in ("dprime", "pair_auroc", "alpha_req"):
        line = trust.trust_line(_study(score))
        assert line is not None
        assert len(line) <= 200
        assert len(re.findall(r"[-+]\d\.\d+", line)) == 2
        measured = trust.nearest_regime(_study(score))["spearman"][score].values()
        values, better = [one["value"] for one in measured], sum(one["interval"][0] > 0 for one in measured)
        assert f"{min(values):+.2f} to {max(values):+.2f}, better than chance on {better} of {len(values)} sets" in line
    measured = {"dprime": {name: {"value": 0.1, "interval": [-0.2, 0.4]} for name in "ab"}}
    monkeypatch.setattr(trust, "measured_regimes", lambda: [SETTING | {"spearman": measured}])
    assert "+0.10 to +0.10, not better than chance on any of 2 sets (" in trust.trust_line(_study())
    measured["dprime"]["c"] = {"value": -0.4, "interval": [-0.6, -0.1]}
    assert "-0.40 to +0.10, not better than chance on any of 3 sets, against accuracy on 1 (" in trust.trust_line(
        _study()
    )


def test_another_panel_has_figures_of_its_own_or_none(monkeypatch):
    own, crops = ({"dprime": {"a": {"value": value, "interval": [0.1, 0.9]}}} for value in (0.4, 0.7))
    row = SETTING | {"spearman": own, "panels": {"crops@0.5,crops": crops}}
    monkeypatch.setattr(trust, "measured_regimes", lambda: [row])
    study = _study(**{"probe.levels": ["crops@0.5", "crops"]})
    assert trust.trust_line(study).startswith("rank correlation of d' on crops@0.5, crops with ridge AUROC: +0.70, ")
    assert "+0.70 [+0.10, +0.90] on a" in trust.trust_statement(study)
    assert "+0.40" in trust.trust_line(_study())
    for levels in (["crops"], ["strong"]):
        assert trust.trust_line(_study(**{"probe.levels": levels})) is None
        assert trust.trust_statement(_study(**{"probe.levels": levels})) is None


def test_the_hint_on_labels_claims_only_what_was_measured_for_such_a_start(monkeypatch):
    unmeasured = "with labels at hand, --labels DIR scores trials by how well classes are told apart"
    few = {"images": 50, "spearman": {"a": 0.61}, "without_labels": {"a": 0.3}}
    assert trust.labels_line(_study()) is None, "random weights"
    assert trust.labels_line(_study("cv-auroc", "imagenet", **{"probe.labelled": ["x"]})) is None, "labels are used"
    monkeypatch.setattr(trust, "measured_regimes", lambda: [SETTING | {"spearman": {}, "labels": few}])
    assert trust.labels_line(_study(init="imagenet")) == unmeasured, "measured for random weights"
    unknown = SETTING | {"init": "imagenet", "spearman": {}, "labels": few | {"without_labels": {}}}
    monkeypatch.setattr(trust, "measured_regimes", lambda: [unknown])
    assert trust.labels_line(_study(init="imagenet")) == unmeasured, "not measured beside pair AUROC"
    own = SETTING | {"init": "imagenet", "spearman": {}, "labels": few}
    monkeypatch.setattr(trust, "measured_regimes", lambda: [own])
    assert trust.labels_line(_study(init="imagenet")) == (
        f"{unmeasured}: from 50 labelled images scales were ranked at +0.61 (mean rank correlation), by pair AUROC at "
        "+0.30 (docs: evidence)"
    )
    few["without_labels"]["a"] = 0.7
    assert trust.labels_line(_study(init="imagenet")) is None, "labels were no better"


def test_where_labels_were_worse_by_another_method_the_hint_on_labels_is_not_given(monkeypatch):
    """Of pre-trained starts there is one measurement, by SimCLR; the user's runs are DINO's."""
    few = {"images": 50, "spearman": {"a": 0.3}, "without_labels": {"a": 0.6}}
    simclr = SETTING | {"init": "imagenet", "method": "simclr", "spearman": {}, "labels": few}
    dino = SETTING | {"init": "imagenet", "spearman": {}, "labels": None}
    for rows in ([SETTING, simclr], [SETTING, dino, simclr]):
        monkeypatch.setattr(trust, "measured_regimes", lambda rows=rows: rows)
        for init in ("imagenet", "weights.safetensors"):
            assert trust.labels_line(_study(init=init)) is None
    few["spearman"]["a"] = 0.7
    assert trust.labels_line(_study(init="imagenet")).endswith(
        "from 50 labelled images scales were ranked at +0.70 (mean rank correlation), by pair AUROC at +0.60 "
        "(docs: evidence; SimCLR, unlike yours)"
    )


def test_the_hint_on_labels_is_never_bare_where_the_project_has_measured_labels():
    for study in ("fundus-vits16", "fundus-cpu-imagenet"):
        line = trust.labels_line(load_study(study, {"backbone.init": "imagenet"}))
        assert line is None or "labelled images scales were ranked at" in line
