"""The spectrum's slope as a score, against scikit-learn's PCA and SciPy's regression."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import linregress
from sklearn.decomposition import PCA

from augscale.config import load_study
from augscale.scoring.score import score_embeddings
from augscale.scoring.slope_score import FARTHEST, MOST_REPLICATES, slope_score

ALONE = np.arange(120)


def embeddings(slope: float, seed: int = 0, images: int = 120, dim: int = 60) -> np.ndarray:
    """Two views of each image whose eigenvalues fall as a power law."""
    generator = np.random.default_rng(seed)
    directions = np.linalg.qr(generator.normal(size=(dim, dim)))[0]
    scale = np.arange(1, dim + 1) ** (-slope / 2)
    return (generator.normal(size=(images, 2, dim)) * scale) @ directions


def expected(rows: np.ndarray) -> float:
    eigenvalues = PCA().fit(rows).explained_variance_[10:100]
    index = np.arange(11, 11 + len(eigenvalues))
    return -abs(-linregress(np.log(index), np.log(eigenvalues)).slope - 1)


def test_it_is_the_mean_over_levels_of_the_first_views_distance_from_one() -> None:
    levels = {"mild": embeddings(1.2), "strong": embeddings(2.0, seed=1)}
    found = slope_score(levels, ALONE)
    assert found.score == pytest.approx(np.mean([expected(points[:, 0]) for points in levels.values()]), abs=1e-6)
    assert not len(found.replicates)


def test_a_flatter_spectrum_is_better_down_to_one() -> None:
    # So many images that the sampled spectrum is the true one.
    images = 4000
    scores = [
        slope_score({"level": embeddings(slope, images=images)}, np.arange(images)).score
        for slope in (3.0, 2.0, 1.0, 0.2)
    ]
    np.testing.assert_allclose(scores, [-2.0, -1.0, 0.0, -0.8], atol=0.2)


def test_it_does_not_change_with_the_scale_of_the_embeddings() -> None:
    points = embeddings(1.5)
    scores = [slope_score({"level": factor * points}, ALONE).score for factor in (1.0, 1e-6, 1e4)]
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-9)


@pytest.mark.parametrize("points", [np.ones((120, 2, 60)), np.repeat(embeddings(1.0)[:, :, :4], 3, axis=2)])
def test_too_few_directions_are_as_far_as_can_be(points: np.ndarray) -> None:
    assert slope_score({"level": points}, ALONE).score == -FARTHEST


def test_replicates_lie_around_the_score_and_are_shared() -> None:
    groups = np.repeat(np.arange(60), 2)
    first, second = (slope_score({"level": embeddings(s)}, groups, bootstrap=300, seed=5) for s in (1.5, 1.52))
    assert first.replicates.shape == (MOST_REPLICATES,)
    assert first.replicates.mean() == pytest.approx(first.score)
    assert 0.005 < first.replicates.std() < 0.3
    # The same patients in replicate b of both: the difference is far less uncertain than either.
    assert (first.replicates - second.replicates).std() < 0.2 * first.replicates.std()


def test_resamples_with_too_few_directions_do_not_widen_the_interval() -> None:
    few = np.arange(12)
    points = embeddings(1.5, images=12)
    found = slope_score({"level": points}, few, bootstrap=100, seed=1)
    assert np.isfinite(found.replicates).all()
    assert found.replicates.min() > -FARTHEST / 2
    assert found.replicates.max() <= 0


def test_a_panel_is_scored_by_it_where_the_study_says_so() -> None:
    probe = load_study("smoke", {"probe.score": "alpha_req"}).probe
    points = embeddings(1.5)
    found = score_embeddings({"strong": points}, points[:, 0], probe, bootstrap=20, information=1.0)
    assert (found.score_name, found.score) == ("alpha_req", slope_score({"strong": points}, ALONE).score)
    assert found.interval is not None
    assert found.interval[0] < found.score < found.interval[1]
    assert (
        found.levels["strong"].dprime
        == score_embeddings({"strong": points}, points[:, 0], probe).levels["strong"].dprime
    )
