"""One call gives every metric, its interval or a reason; intervals agree with resampling patients outright."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import ks_2samp, ortho_group, wasserstein_distance

from augscale.diagnosis import clusters
from augscale.diagnosis.checkup import _listed_distances
from augscale.diagnosis.measure import measure_images, measure_views
from augscale.errors import DataError
from augscale.records.metrics import (
    CLUSTER_METRICS,
    IMAGE_METRICS,
    LABEL_METRICS,
    LEVEL_METRICS,
    METRICS,
    PAIR_METRICS,
    RETRIEVAL_METRICS,
)
from augscale.scoring import pair_samples
from augscale.scoring.separation import separation
from augscale.scoring.spectrum import effective_rank, feature_sd
from augscale.statistics.panel_bootstrap import Measured, measured, missing, paired_difference, resample_weights


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _views(n: int = 30, views: int = 3, dim: int = 8, noise: float = 0.7, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, 1, dim)) + noise * rng.standard_normal((n, views, dim)) + 0.5
    return points * rng.uniform(1, 3, (n, 1, 1))


def _sound(metrics: dict[str, Measured]) -> None:
    for name, metric in metrics.items():
        if metric.value is None:
            assert metric.reason, name
            assert "\n" not in metric.reason
            assert metric.interval is None
        else:
            assert metric.reason is None
            assert math.isfinite(metric.value), name
            assert isinstance(metric.value, float), name
        if metric.interval is not None:
            assert all(math.isfinite(end) for end in metric.interval), name
            assert metric.interval[0] <= metric.interval[1]


def test_every_metric_is_in_the_registry() -> None:
    assert set(METRICS) == {*LEVEL_METRICS, *IMAGE_METRICS}
    assert set(measure_views(_views()).metrics) == set(LEVEL_METRICS)
    assert set(measure_images(_views()[:, 0]).metrics) == set(IMAGE_METRICS)
    for info in METRICS.values():
        assert info.meaning.endswith(".")
        assert info.direction in ("higher", "lower", "none")


def test_scores_are_those_of_a_search() -> None:
    points, groups = _views(), np.arange(30) // 2
    found, expected = (
        measure_views(points, groups, bootstrap=50, seed=3),
        separation(points, groups, bootstrap=50, seed=3),
    )
    for name in ("dprime", "pair_auroc", "positive_mean", "negative_mean", "overlap", "margin", "retrieval_error"):
        assert found.metrics[name].value == pytest.approx(getattr(expected, name), abs=1e-12), name
    for name in ("raw_positive_mean", "raw_negative_mean"):
        assert found.metrics[name].value == pytest.approx(getattr(expected, name)), name
    assert found.positive_histogram == expected.positive_histogram
    assert found.negative_histogram == expected.negative_histogram
    np.testing.assert_allclose(found.metrics["dprime"].replicates, expected.dprime_replicates, rtol=1e-9)
    assert found.metrics["pair_auroc"].interval == pytest.approx(expected.pair_auroc_interval, abs=0.01)


def _plain_pairs(points: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, views, dim = points.shape
    rows = (points / np.linalg.norm(points, axis=2, keepdims=True)).reshape(-1, dim)
    distances, image = cdist(rows, rows), np.repeat(np.arange(n), views)
    upper = np.triu(np.ones_like(distances, dtype=bool), 1)
    near = distances[upper & (image[:, None] == image)]
    return near, distances[upper & (groups[image][:, None] != groups[image])]


def _resampled(points: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Panel in which each patient stands as often as drawn, copies being patients of their own."""
    copies, owners = [], []
    for group, weight in enumerate(weights.astype(int)):
        for copy in range(weight):
            copies.append(points[groups == group])
            owners += [(group, copy)] * int((groups == group).sum())
    owner = np.array([group for group, _ in owners])
    return np.concatenate(copies), owner


@pytest.mark.parametrize("name", ["gap", "ratio", "dprime", "ks", "wasserstein", "overlap", "uniformity", "pair_auroc"])
def test_replicates_are_those_of_the_resampled_panel(name: str) -> None:
    points, groups = _views(24, 3, noise=1.0), np.arange(24) // 2
    found = measure_views(points, groups, bootstrap=30, seed=1).metrics[name]
    weights = resample_weights(12, 30, 1)
    expected = []
    for row in weights:
        # A patient drawn twice is no negative of itself.
        panel, owner = _resampled(points, groups, row)
        near, far = _plain_pairs(panel, owner)
        values = {
            "gap": far.mean() - near.mean(),
            "ratio": far.mean() / near.mean(),
            "dprime": (far.mean() - near.mean()) / np.sqrt((far.var() + near.var()) / 2),
            "ks": ks_2samp(near, far).statistic,
            "wasserstein": wasserstein_distance(near, far),
            "uniformity": np.log(np.exp(-2 * far**2).mean()),
            "overlap": separation(panel, owner).overlap,
            "pair_auroc": separation(panel, owner).pair_auroc,
        }
        expected.append(values[name])
    exact = name in ("gap", "ratio", "dprime", "overlap")
    np.testing.assert_allclose(found.replicates, expected, rtol=1e-9 if exact else 0, atol=0 if exact else 0.02)


def test_replicates_of_means_are_weighted_means_of_images() -> None:
    points, groups = _views(20), np.arange(20) // 2
    found = measure_views(points, groups, bootstrap=20, seed=2).metrics
    weights = resample_weights(10, 20, 2)[:, groups]
    values = clusters.silhouette_values(points).mean(axis=1)
    np.testing.assert_allclose(found["silhouette"].replicates, weights @ values / weights.sum(axis=1))
    assert found["silhouette"].value == pytest.approx(values.mean())


def test_intervals_cover_the_value_of_many_more_images() -> None:
    # 60 panels of 40 images: a 95 % interval should miss at most some; 75 % is five sigma below.
    names = ("dprime", "gap", "wasserstein", "positive_mean")
    truth = measure_views(_views(400, 2, noise=1.0, seed=99)).metrics
    hits = dict.fromkeys(names, 0)
    for seed in range(60):
        found = measure_views(_views(40, 2, noise=1.0, seed=seed), bootstrap=60).metrics
        for name in names:
            low, high = found[name].interval
            hits[name] += low <= truth[name].value <= high
    assert min(hits.values()) >= 45, hits


@pytest.fixture
def _streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_samples, "EXACT_ROWS", 0)


def test_streamed_metrics_equal_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    points, groups = _views(150, 2, noise=1.0), np.arange(150) // 2
    exact = measure_views(points, groups, bootstrap=200, seed=1)
    monkeypatch.setattr(pair_samples, "EXACT_ROWS", 0)
    streamed = measure_views(points, groups, bootstrap=200, seed=1)
    for name in (*PAIR_METRICS, "negative_mean", "raw_negative_mean", "uniformity"):
        a, b = exact.metrics[name], streamed.metrics[name]
        assert b.value == pytest.approx(a.value, rel=1e-3, abs=1e-3), name
        # The projection leaves out a term of order 1/G of the standard error.
        spread = a.replicates.std()
        assert b.replicates.std() == pytest.approx(spread, rel=0.1), name
        assert np.corrcoef(a.replicates, b.replicates)[0, 1] > 0.95, name
    for name in (*CLUSTER_METRICS, *RETRIEVAL_METRICS, "positive_mean", "raw_positive_mean", "alignment"):
        assert streamed.metrics[name] == exact.metrics[name], name
    counts = np.cumsum([exact.negative_histogram, streamed.negative_histogram], axis=1)
    assert np.abs(counts[0] - counts[1]).max() <= 2
    assert sum(streamed.raw_negative_histogram) == sum(exact.raw_negative_histogram)
    assert streamed.raw_histogram_edges[-1] == pytest.approx(exact.raw_histogram_edges[-1], rel=0.05)


def test_raw_histograms_reach_the_largest_distance() -> None:
    found = measure_views(_views() * 1e3)
    n, views, dim = _views().shape
    rows = _views().reshape(-1, dim) * 1e3
    assert cdist(rows, rows).max() <= found.raw_histogram_edges[-1] * (1 + 1e-9)
    assert sum(found.raw_positive_histogram) == n * views * (views - 1) // 2
    assert sum(found.raw_negative_histogram) == n * (n - 1) // 2 * views**2
    assert len(found.raw_histogram_edges) == 65


_NORMALISED = [name for name in LEVEL_METRICS if name not in ("raw_positive_mean", "raw_negative_mean")]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), exponent=st.integers(-9, 9))
def test_scale_rotation_and_order_do_not_matter(seed: int, exponent: int) -> None:
    points, rng = _views(10, 3, 5, seed=seed), np.random.default_rng(seed)
    groups, order = np.append(rng.integers(0, 4, 8), [0, 1]), rng.permutation(10)
    changed = points[order][:, rng.permutation(3)] @ ortho_group.rvs(5, random_state=seed) * 10.0**exponent
    base, other = measure_views(points, groups).metrics, measure_views(changed, groups[order]).metrics
    for name in _NORMALISED:
        assert other[name].value == pytest.approx(base[name].value, rel=1e-5, abs=1e-7), name


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), exponent=st.integers(-9, 9))
def test_scale_rotation_and_order_of_clean_images_do_not_matter(seed: int, exponent: int) -> None:
    rows, order = _views(24, 1, 5, seed=seed)[:, 0], np.random.default_rng(seed).permutation(24)
    labels = np.array(["a", "b", None, "c"] * 6, dtype=object)
    changed = rows[order] @ ortho_group.rvs(5, random_state=seed) * 10.0**exponent
    base, other = measure_images(rows, None, labels).metrics, measure_images(changed, None, labels[order]).metrics
    for name in IMAGE_METRICS:
        # Standard deviations per feature are those of these axes.
        if name not in ("feature_sd", "alpha_req"):
            assert other[name].value == pytest.approx(base[name].value, rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize("size", ["exact", "streamed"])
@pytest.mark.parametrize(
    ("points", "groups", "absent"),
    [
        pytest.param(
            _views(1), None, (*PAIR_METRICS, *CLUSTER_METRICS, *RETRIEVAL_METRICS, "uniformity"), id="1 image"
        ),
        pytest.param(_views(2), None, ("dprime", "pair_auroc", "ks", "overlap", "wasserstein"), id="2 images"),
        pytest.param(_views(8, 1), None, (*PAIR_METRICS, *CLUSTER_METRICS, "alignment"), id="1 view"),
        pytest.param(_views(1, 1), None, LEVEL_METRICS, id="1 image, 1 view"),
        pytest.param(_views(5), np.zeros(5), (*PAIR_METRICS, *RETRIEVAL_METRICS, "negative_mean"), id="1 patient"),
        pytest.param(np.ones((6, 3, 4)), None, ("ratio", *CLUSTER_METRICS), id="equal"),
        pytest.param(np.zeros((6, 3, 4)), None, ("ratio", *CLUSTER_METRICS), id="zero"),
        pytest.param(
            np.repeat(np.eye(6)[:, None], 2, axis=1), None, ("ratio", "davies_bouldin", "lidar"), id="same views"
        ),
        pytest.param(_views(4, 2, 1), None, (), id="1 feature"),
    ],
)
def test_what_cannot_be_computed_has_a_reason(
    points: np.ndarray,
    groups: np.ndarray | None,
    absent: tuple[str, ...],
    size: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if size == "streamed":
        monkeypatch.setattr(pair_samples, "EXACT_ROWS", 0)
    for dtype in (np.float64, np.float32):
        found = measure_views(points.astype(dtype), groups, bootstrap=20)
        _sound(found.metrics)
        assert [name for name in absent if found.metrics[name].value is not None] == []
        json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.usefixtures("_streamed")
def test_equal_embeddings_say_nothing_when_streamed() -> None:
    test_equal_embeddings_say_nothing()


def test_equal_embeddings_say_nothing() -> None:
    found = measure_views(np.full((6, 3, 4), 0.3), bootstrap=10).metrics
    values = {name: found[name].value for name in ("dprime", "gap", "pair_auroc", "ks", "wasserstein", "overlap")}
    assert values == {"dprime": 0, "gap": 0, "pair_auroc": 0.5, "ks": 0, "wasserstein": 0, "overlap": 1}
    assert found["pair_auroc"].interval == (0.5, 0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_refused_with_their_number(value: float) -> None:
    points = _views()
    points[3, 1, 2] = points[4, 0] = value
    with pytest.raises(DataError, match="2 of 90 are not finite"):
        measure_views(points)
    with pytest.raises(DataError, match="1 of 30 are not finite"):
        measure_images(points[:, 0])


def test_images_metrics_equal_their_functions() -> None:
    rows, groups = _views(60, 1, 12)[:, 0], np.arange(60) // 2
    found = measure_images(rows, groups, bootstrap=80)
    assert found.metrics["rankme"].value == pytest.approx(effective_rank(rows))
    assert found.metrics["feature_sd"].value == pytest.approx(feature_sd(rows))
    assert sum(found.spectrum) == pytest.approx(1)
    _sound(found.metrics)
    for name in IMAGE_METRICS:
        metric = found.metrics[name]
        if metric.value is not None:
            assert metric.interval[0] <= metric.value <= metric.interval[1], name
    assert len(found.metrics["rankme"].replicates) == 50
    assert len(found.metrics["feature_sd"].replicates) == 80


def test_replicates_of_feature_sd_are_those_of_the_resampled_images() -> None:
    rows = _views(12, 1)[:, 0]
    found = measure_images(rows, bootstrap=10, seed=4).metrics["feature_sd"]
    for replicate, row in zip(found.replicates, resample_weights(12, 10, 4), strict=True):
        assert replicate == pytest.approx(feature_sd(np.repeat(rows, row.astype(int), axis=0)))


def test_labels_of_half_of_the_images() -> None:
    own = np.arange(60) % 2
    rows = _views(60, 1, noise=0.2)[:, 0] + 4 * own[:, None] * np.eye(8)[0]
    labels = np.array([str(own[i]) if i < 30 else None for i in range(60)], dtype=object)
    found = measure_images(rows, None, labels, bootstrap=30)
    _sound(found.metrics)
    assert found.num_labelled == 30
    assert found.chance_accuracy == 0.5
    alone = measure_images(rows[:30], None, labels[:30])
    for name in LABEL_METRICS:
        assert found.metrics[name].value == pytest.approx(alone.metrics[name].value), name
        assert found.metrics[name].interval is not None


@pytest.mark.parametrize(
    ("labels", "groups", "absent"),
    [
        (None, None, LABEL_METRICS),
        ([None] * 12, None, LABEL_METRICS),
        (["a"] * 12, None, LABEL_METRICS),
        (["a"] + [None] * 11, None, LABEL_METRICS),
        ([str(i) for i in range(12)], None, ("class_silhouette",)),
        (["a", "b"] * 6, np.zeros(12), ("knn_accuracy", "knn_auroc")),
        (["a"] + ["b"] * 11, None, ()),
    ],
)
def test_labels_that_say_nothing_have_a_reason(
    labels: list[str | None] | None, groups: np.ndarray | None, absent: tuple[str, ...]
) -> None:
    found = measure_images(_views(12)[:, 0], groups, labels, bootstrap=20)
    _sound(found.metrics)
    assert [name for name in LABEL_METRICS if found.metrics[name].value is None] == list(absent)
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    "rows", [np.ones((6, 4)), np.zeros((6, 4)), _views(1)[:, 0], _views(2)[:, 0], _views(9, 1, 1)[:, 0]]
)
def test_images_that_say_nothing_have_reasons(rows: np.ndarray) -> None:
    found = measure_images(rows, None, ["a", "b", *["a"] * 20][: len(rows)], bootstrap=20)
    _sound(found.metrics)
    assert found.metrics["alpha_req"].value is None
    assert found.metrics["rankme"].value >= 1


def test_labels_must_fit_the_images() -> None:
    with pytest.raises(DataError, match="labels: 3; expected one per image, 12"):
        measure_images(_views(12)[:, 0], labels=["a", "b", None])


def test_differences_of_checkpoints_are_paired() -> None:
    points = _views(40, 2, noise=1.0)
    better = points.mean(axis=1, keepdims=True) + 0.95 * (points - points.mean(axis=1, keepdims=True))
    a, b = (measure_views(p, bootstrap=100, seed=5).metrics["dprime"] for p in (better, points))
    low, high = paired_difference(a, b)
    assert 0 < low < high
    # Unpaired, the two intervals overlap.
    assert a.interval[0] < b.interval[1]
    assert paired_difference(missing("none"), b) is None
    assert paired_difference(measured(1.0), measured(2.0)) is None


@pytest.mark.parametrize("spread", [1.0, 1e-5])
def test_listed_distances_are_those_of_every_pair_measured_directly(spread: float) -> None:
    generator = np.random.default_rng(0)
    points = (3 + spread * generator.normal(size=(6, 3, 16)) * np.arange(1, 7)[:, None, None]).astype(np.float32)
    groups = np.array([0, 0, 1, 2, 2, 3])
    listed = _listed_distances({"weak": points, "strong": points[:, ::-1]}, groups)
    flat = points.reshape(18, 16).astype(np.float64)
    left, right = np.triu_indices(18, 1)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    for prefix, rows in (("", unit), ("raw_", flat)):
        direct = np.linalg.norm(rows[left] - rows[right], axis=1)
        same = left // 3 == right // 3
        other = groups[left // 3] != groups[right // 3]
        np.testing.assert_allclose(listed[f"weak/{prefix}positive"], direct[same], rtol=1e-6)
        np.testing.assert_allclose(listed[f"weak/{prefix}negative"], direct[other], rtol=1e-6)
        assert listed[f"strong/{prefix}negative"].shape == (other.sum(),)
