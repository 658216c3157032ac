"""The score of a backbone: made of the levels' separations, the same for the same embeddings, JSON-ready, quick."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
import torch
from torch import nn

from augscale.augmentation.scales import load_scales
from augscale.config import CropsConfig, ProbeConfig
from augscale.data.image_records import ImageRecord
from augscale.diagnosis.checkup import examine_subjects, ladder_levels
from augscale.diagnosis.subjects import Subject
from augscale.errors import DataError, DivergedError
from augscale.scoring.panel import ProbePanel, build_panel
from augscale.scoring.score import PanelScore, score_backbone, score_embeddings
from augscale.scoring.separation import separation
from augscale.scoring.spectrum import effective_rank, feature_sd
from augscale.seeding import derive_seed

PROBE = ProbeConfig(levels=("strong@0.25", "strong"), seed=2)
GROUPS = np.arange(24) // 2


def _embeddings(n: int = 24, views: int = 2, dim: int = 16, levels: int = 2, seed: int = 0) -> tuple[dict, np.ndarray]:
    rng = np.random.default_rng(seed)
    clean = rng.standard_normal((n, dim)).astype(np.float32)
    noise = rng.standard_normal((levels, n, views, dim)).astype(np.float32)
    return {f"level {k}": clean[:, None] + 0.5 * (k + 1) * noise[k] for k in range(levels)}, clean


@pytest.mark.parametrize("name", ["dprime", "pair_auroc"])
def test_the_score_is_the_mean_over_the_ladder(name: str) -> None:
    levels, clean = _embeddings()
    probe = PROBE.model_copy(update={"score": name})
    found = score_embeddings(levels, clean, probe, groups=GROUPS, bootstrap=40)
    seed = derive_seed(PROBE.seed, "bootstrap")
    each = [separation(points, GROUPS, bootstrap=40, seed=seed) for points in levels.values()]
    assert found.score_name == name
    assert found.score == pytest.approx(np.mean([getattr(level, name) for level in each]), rel=1e-12)
    expected = np.mean([getattr(level, f"{name}_replicates") for level in each], axis=0)
    np.testing.assert_allclose(found.bootstrap_scores, expected, rtol=1e-12)
    assert found.interval == pytest.approx(tuple(np.percentile(expected, (2.5, 97.5))))
    assert found.interval[0] < found.score < found.interval[1]


def test_without_a_bootstrap_there_is_no_interval() -> None:
    found = score_embeddings(*_embeddings(), PROBE)
    assert found.interval is None
    assert found.bootstrap_scores.shape == (0,)


def test_one_float_scale_for_all_levels_does_not_matter() -> None:
    levels, clean = _embeddings()
    ten_times = score_embeddings({name: 10 * points for name, points in levels.items()}, 10 * clean, PROBE)
    once = score_embeddings(levels, clean, PROBE)
    assert ten_times.score == pytest.approx(once.score, abs=1e-6)
    assert ten_times.effective_rank == pytest.approx(once.effective_rank, rel=1e-6)
    assert ten_times.health.verdict == once.health.verdict


def test_bootstrap_scores_of_two_backbones_are_aligned() -> None:
    levels, clean = _embeddings(n=60)
    other = {name: points + 0.05 * _embeddings(n=60, seed=8)[0][name] for name, points in levels.items()}
    first = score_embeddings(levels, clean, PROBE, bootstrap=200).bootstrap_scores
    second = score_embeddings(other, clean, PROBE, bootstrap=200).bootstrap_scores
    assert np.corrcoef(first, second)[0, 1] > 0.95


def test_no_levels_are_refused() -> None:
    with pytest.raises(DataError, match="levels: none given"):
        score_embeddings({}, np.ones((3, 2)), PROBE)


def test_to_dict_is_plain_json_with_the_agreed_keys() -> None:
    score = score_embeddings(
        *_embeddings(), PROBE, bootstrap=10, information=0.7, loss=2.0, chance_loss=math.log(64), final=True
    )
    values = json.loads(json.dumps(score.to_dict(), allow_nan=False))
    assert set(values) == {
        "score",
        "score_name",
        "interval",
        "levels",
        "effective_rank",
        "feature_sd",
        "information",
        "health",
        "bootstrap_scores",
        "num_images",
        "num_views",
    }
    wanted = {"dprime", "dprime_interval", "pair_auroc", "pair_auroc_interval", "retrieval_error", "margin"}
    wanted |= {f"{side}_{what}" for side in ("positive", "negative") for what in ("mean", "sd", "histogram")}
    wanted |= {"raw_positive_mean", "raw_negative_mean", "histogram_edges"}
    assert wanted <= set(values["levels"]["level 1"])
    assert {"verdict", "evidence", "violation"} == set(values["health"])
    assert (values["num_images"], values["num_views"], len(values["bootstrap_scores"])) == (24, 2, 10)
    assert values["health"]["verdict"] == "healthy"


class _Pixels(nn.Module):
    """Embeds a view as its pixels, through a fixed projection; `gain` 0 is a collapsed network."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.projection = nn.Parameter(torch.randn(3 * 16 * 16, 12, generator=generator))
        self.gain = gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * (x.flatten(1) @ self.projection) + 1.0


def _photographs() -> tuple[np.ndarray, list[ImageRecord]]:
    """Smooth images of different colours, so that crops of one image resemble each other; two of each patient."""
    low = np.random.default_rng(1).integers(0, 256, (30, 2, 2, 3), dtype=np.uint8)
    images = np.repeat(np.repeat(low, 12, axis=1), 12, axis=2)
    records = [ImageRecord(image_id=str(row), path=None, patient_id=str(row // 2), source="test") for row in range(30)]
    return images, records


@pytest.fixture(scope="module")
def panel() -> ProbePanel:
    images, records = _photographs()
    return build_panel(images, np.arange(4, 28), records, PROBE, CropsConfig(global_size=16))


def _score(backbone: nn.Module, panel: ProbePanel, **options: object) -> PanelScore:
    return score_backbone(backbone, panel, PROBE, device="cpu", **options)


def test_a_backbone_is_scored_on_every_level_and_image_in_order(panel: ProbePanel) -> None:
    backbone = _Pixels()
    found = _score(backbone, panel)
    with torch.inference_mode():
        levels = {
            name: torch.stack([backbone(panel.views[k, :, v]) for v in range(2)], dim=1).numpy()
            for k, name in enumerate(panel.level_names)
        }
        clean = backbone(panel.clean).numpy()
    expected = score_embeddings(levels, clean, PROBE, groups=panel.groups)
    assert list(found.levels) == ["strong@0.25", "strong"]
    assert found.score == pytest.approx(expected.score, abs=1e-5)
    assert found.effective_rank == pytest.approx(effective_rank(clean), rel=1e-4)
    assert found.feature_sd == pytest.approx(feature_sd(clean), rel=1e-4)
    assert sum(found.levels["strong"].negative_histogram) == 12 * 11 // 2 * 16
    assert found.levels["strong@0.25"].dprime > found.levels["strong"].dprime > 0


def test_the_same_embeddings_get_the_same_score_whatever_they_were_trained_with(panel: ProbePanel) -> None:
    # Two "trials" with equal weights: nothing about their training enters the score, and nothing is drawn anew.
    first = _score(_Pixels(), panel, bootstrap=20).to_dict()
    torch.manual_seed(5)
    assert _score(_Pixels(), panel, bootstrap=20).to_dict() == first


def test_a_collapsed_backbone_is_infeasible_and_its_score_is_a_number(panel: ProbePanel) -> None:
    found = _score(_Pixels(gain=0.0), panel, bootstrap=10, final=True)
    assert found.score == 0.0
    assert found.interval == (0.0, 0.0)
    assert found.effective_rank == pytest.approx(1.0, abs=1e-3)
    assert found.health.verdict == "collapsed"
    assert found.health.violation > 0
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_diverged_backbone_gets_no_score(panel: ProbePanel) -> None:
    with pytest.raises(DivergedError, match="not finite"):
        _score(_Pixels(gain=math.nan), panel)


@pytest.mark.parametrize(("bootstrap", "seconds"), [(0, 0.05), (500, 1.0)])
def test_scoring_costs_next_to_nothing_beside_a_trial(bootstrap: int, seconds: float) -> None:
    levels, clean = _embeddings(n=128, views=2, dim=128, levels=3)
    taken = []
    for _ in range(8):
        begin = time.process_time()
        score_embeddings(levels, clean, PROBE, bootstrap=bootstrap)
        taken.append(time.process_time() - begin)
    # CPU seconds of a free core; three times that allows for one that is shared.
    assert min(taken) < 3 * seconds


def test_diagnose_shows_the_ladders_views_that_a_search_scores(panel: ProbePanel) -> None:
    """Also beside levels of other scales, whose draws are their own."""
    images, records = _photographs()
    rows = panel.image_rows
    backbone = _Pixels()
    backbone.model, backbone.embed_dim = nn.Identity(), 12
    levels = {"none": ("scales", load_scales("none"))} | ladder_levels(PROBE.levels)
    subject = Subject(name="a", path="", kind="", arch="", backbone=backbone, image_size=16, view_size=16)  # type: ignore[arg-type]
    found = examine_subjects([subject], images[rows], [records[r] for r in rows], levels, probe=PROBE)
    scored = _score(backbone, panel).levels
    for level in PROBE.levels:
        assert found.checkpoints[0].levels[level].metrics["dprime"].value == pytest.approx(
            scored[level].dprime, rel=1e-5
        )
