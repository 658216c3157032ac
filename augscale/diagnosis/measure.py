"""All metrics of one checkpoint: `measure_views` for the views of one level, `measure_images` for the clean images.

Metrics by key of `glossary.GLOSSARY`. What cannot be computed has no value and a reason; nothing is NaN. Intervals
resample patients, and the same patients in replicate b for every checkpoint and level, so that differences are paired
(`measured.paired_difference`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.diagnosis import clusters, intrinsic, pair_metrics, spectrum
from augscale.diagnosis import labels as labelled_metrics
from augscale.diagnosis.bins import FINE_BINS, SHOWN_BINS, SHOWN_RANGE, Bins
from augscale.diagnosis.distances import centered, unit_rows
from augscale.diagnosis.labels import Labelled
from augscale.diagnosis.measured import Measured, Resamples, measured, missing, moved_to
from augscale.diagnosis.pair_metrics import Counts
from augscale.diagnosis.pair_samples import Negatives, Positives
from augscale.diagnosis.separation import MIN_IMAGES, SD_FLOOR, dprime
from augscale.errors import DataError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

NUM_SHARES = 256
"""Eigenvalue shares that are kept."""
POSITIVE_METRICS = ("positive_mean", "raw_positive_mean", "alignment")
NEGATIVE_METRICS = ("negative_mean", "raw_negative_mean", "uniformity")
PAIR_METRICS = ("gap", "ratio", "dprime", "pair_auroc", "overlap", "ks", "wasserstein")
CLUSTER_METRICS = ("silhouette", "raw_silhouette", "davies_bouldin", "calinski_harabasz", "lidar")
RETRIEVAL_METRICS = ("recall_at_1", "recall_at_5", "margin", "retrieval_error")
LEVEL_METRICS = POSITIVE_METRICS + NEGATIVE_METRICS + PAIR_METRICS + CLUSTER_METRICS + RETRIEVAL_METRICS
SPECTRUM_METRICS = ("rankme", "alpha_req", "stable_rank", "participation_ratio", "intrinsic_dimension", "feature_sd")
LABEL_METRICS = ("knn_accuracy", "knn_auroc", "class_silhouette")
IMAGE_METRICS = SPECTRUM_METRICS + LABEL_METRICS


@dataclass(frozen=True, kw_only=True)
class LevelMeasures:
    """One checkpoint on the views of one level."""

    num_images: int
    num_views: int
    metrics: dict[str, Measured]
    """By each key of `LEVEL_METRICS`."""
    positive_histogram: tuple[int, ...]
    negative_histogram: tuple[int, ...]
    """Pairs per bin of L2-normalised distances, 64 equal bins over [0, 2]; zeros without such pairs."""
    histogram_edges: tuple[float, ...]
    raw_positive_histogram: tuple[int, ...]
    raw_negative_histogram: tuple[int, ...]
    """Pairs per bin of distances of embeddings as they are, 64 equal bins from 0 to the largest distance or a little
    beyond."""
    raw_histogram_edges: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the replicates."""
        histograms = [name for name in vars(self) if "histogram" in name]
        return {
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
            **{name: list(getattr(self, name)) for name in histograms},
        }


@dataclass(frozen=True, kw_only=True)
class ImageMeasures:
    """One checkpoint on the clean images."""

    num_images: int
    num_labelled: int
    metrics: dict[str, Measured]
    """By each key of `IMAGE_METRICS`."""
    spectrum: tuple[float, ...]
    """Eigenvalues of the covariance as shares of their sum, descending, at most 256; empty if all are equal."""
    chance_accuracy: float | None
    """Share of the largest class among the labelled images: what guessing it would reach. AUROC's chance is 0.5."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the replicates."""
        return {
            "overall": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "spectrum": list(self.spectrum),
            "chance_accuracy": self.chance_accuracy,
        }


def measure_views(
    embeddings: npt.ArrayLike, groups: npt.ArrayLike | None = None, *, bootstrap: int = 0, seed: int = 0
) -> LevelMeasures:
    """Every metric of one level.

    Up to 4096 views every value is exact, d' and pair AUROC are those of `separation`, by which a search scores.
    Larger panels are streamed (`pair_samples`): distances are then float32, and AUROC, KS, Wasserstein and uniformity
    come from 8192 bins (`pair_metrics.Counts` states the errors). Intervals of these, and of overlap, are always from
    256 bins, moved by what that does to the value.

    Args:
        embeddings: floats, shape (n, V, D).
        groups: shape (n,): patients; None: every image is its own.
        bootstrap: resamples of patients; 0 for no intervals. At most 50 are used for LiDAR.
        seed: of the resamples.
    Raises:
        DataError: wrong shape, or values that are not finite.
        ConfigError: faiss is not installed.
    """
    points, own = _checked(embeddings, groups, 3)
    order = np.argsort(own, kind="stable")
    level = _Level(points[order], own[order], bootstrap, seed)
    metrics = level.metrics()
    positive, negative, raw_positive, raw_negative, raw_edges = level.histograms()
    return LevelMeasures(
        num_images=len(points),
        num_views=points.shape[1],
        metrics={name: metrics[name] for name in LEVEL_METRICS},
        positive_histogram=_plain(positive),
        negative_histogram=_plain(negative),
        histogram_edges=tuple(np.linspace(0.0, SHOWN_RANGE, SHOWN_BINS + 1).tolist()),
        raw_positive_histogram=_plain(raw_positive),
        raw_negative_histogram=_plain(raw_negative),
        raw_histogram_edges=tuple(raw_edges.tolist()),
    )


def _plain(counts: Integers) -> tuple[int, ...]:
    return tuple(int(count) for count in counts)


class _Level:
    """One level; images in rising order of their groups."""

    def __init__(self, points: Floats, groups: Integers, bootstrap: int, seed: int) -> None:
        self.points, self.groups, self.bootstrap, self.seed = points, groups, bootstrap, seed
        self.num_images, self.num_views, _ = points.shape
        self.num_groups = int(groups.max()) + 1
        self.resamples = Resamples.of(groups, bootstrap, seed)
        self.positives = Positives.of(points) if self.num_views > 1 else None
        self.negatives = Negatives.of(points, groups, self.resamples) if self.num_groups > 1 else None
        self.no_positives = f"{self.num_views} view per image: there are no positive pairs"
        self.no_negatives = (
            "1 image: there are no negative pairs"
            if self.num_images == 1
            else f"all {self.num_images} images belong to one patient: there are no negative pairs"
        )

    def metrics(self) -> dict[str, Measured]:
        found = self._of_positives() | self._of_negatives()
        return found | self._of_both() | self._of_clusters() | self._of_retrieval()

    def _of_positives(self) -> dict[str, Measured]:
        if self.positives is None:
            return dict.fromkeys(POSITIVE_METRICS, missing(self.no_positives))
        mean = self.resamples.mean
        return {
            "positive_mean": mean(self.positives.unit.mean(axis=1)),
            "raw_positive_mean": mean(self.positives.raw.mean(axis=1)),
            "alignment": mean(clusters.alignment_values(self.points)),
        }

    def _of_negatives(self) -> dict[str, Measured]:
        negatives = self.negatives
        if negatives is None:
            return dict.fromkeys(NEGATIVE_METRICS, missing(self.no_negatives))
        # The positives do not matter for uniformity.
        whole = Counts(positive=negatives.histogram, negative=negatives.histogram, bins=negatives.fine)
        value = float(whole.uniformity()) if negatives.sample is None else clusters.uniformity(negatives.sample)
        counted = Counts(positive=negatives.histograms, negative=negatives.histograms, bins=negatives.coarse)
        return {
            "negative_mean": measured(negatives.mean, negatives.means),
            "raw_negative_mean": measured(negatives.raw_mean, negatives.raw_means),
            "uniformity": measured(value, self._moved(value, Counts.uniformity, counted)),
        }

    def _of_both(self) -> dict[str, Measured]:
        reason = self._no_pairs()
        if reason is not None or self.positives is None or self.negatives is None:
            return dict.fromkeys(PAIR_METRICS, missing(reason or ""))
        near, negatives, resamples = self.positives.unit, self.negatives, self.resamples
        mean = float(near.mean())
        positive_means, positive_squares = np.empty(0), np.empty(0)
        if len(resamples):
            positive_means = mean + resamples.mean(near.mean(axis=1) - mean).replicates
            positive_squares = resamples.mean(np.square(near - mean).mean(axis=1)).replicates
        difference = negatives.mean - mean
        gaps = negatives.means - positive_means
        found = {"gap": measured(difference, gaps)}
        if mean > 0:
            with np.errstate(divide="ignore", invalid="ignore"):
                found["ratio"] = measured(negatives.mean / mean, negatives.means / positive_means)
        else:
            found["ratio"] = missing("all positive distances are 0")
        spreads = (float(near.var()), negatives.variance)
        if self.num_images < MIN_IMAGES:
            return found | dict.fromkeys(
                ("dprime", "pair_auroc", "overlap", "ks", "wasserstein"),
                missing(f"{self.num_images} images: at least {MIN_IMAGES} are needed to compare distributions"),
            )
        variances = np.maximum(positive_squares - np.square(positive_means - mean), 0.0)
        found["dprime"] = measured(float(dprime(difference, *spreads)), dprime(gaps, variances, negatives.variances))
        return found | self._of_distributions(self._is_nothing(difference, *spreads))

    def _of_distributions(self, nothing: bool) -> dict[str, Measured]:
        assert self.positives is not None
        assert self.negatives is not None
        near, negatives = self.positives.unit, self.negatives
        whole = Counts(positive=negatives.fine.histogram(near), negative=negatives.histogram, bins=negatives.fine)
        if nothing:
            # Ranks of distances that differ by rounding only would be chance.
            zeros = np.zeros(len(self.resamples))
            return {
                "pair_auroc": measured(0.5, zeros + 0.5),
                "overlap": measured(float(whole.overlap()), zeros + float(whole.overlap())),
                "ks": measured(0.0, zeros),
                "wasserstein": measured(0.0, zeros),
            }
        per_image = np.stack([negatives.coarse.histogram(row) for row in near])
        counted = Counts(
            positive=self.resamples.sums(per_image.astype(np.float64)),
            negative=negatives.histograms,
            bins=negatives.coarse,
        )
        found = {}
        kinds: dict[str, tuple[Callable[[Counts], Floats], Callable[..., float] | None, float]] = {
            "pair_auroc": (Counts.pair_auroc, pair_metrics.pair_auroc, 1.0),
            "overlap": (Counts.overlap, None, 1.0),
            "ks": (Counts.ks, pair_metrics.ks, 1.0),
            "wasserstein": (Counts.wasserstein, pair_metrics.wasserstein, SHOWN_RANGE),
        }
        for name, (of_counts, of_samples, largest) in kinds.items():
            exact = of_samples is not None and negatives.sample is not None
            value = of_samples(near, negatives.sample) if exact and of_samples else float(of_counts(whole))
            found[name] = measured(value, np.clip(self._moved(value, of_counts, counted), 0.0, largest))
        return found

    def _moved(self, value: float, of_counts: Callable[[Counts], Floats], resampled: Counts) -> Floats:
        """Replicates from coarse bins, moved by what the bins do to the value itself."""
        negatives = self.negatives
        if negatives is None or not len(self.resamples):
            return np.empty(0)
        near = self.positives.unit if self.positives is not None else np.zeros(1)
        per_fine = round(negatives.coarse.width / negatives.fine.width)
        counts = np.add.reduceat(negatives.histogram, np.arange(0, negatives.fine.count, per_fine))
        counts = np.pad(counts, (0, max(0, negatives.coarse.count - len(counts))))[: negatives.coarse.count]
        whole = Counts(positive=negatives.coarse.histogram(near), negative=counts, bins=negatives.coarse)
        return of_counts(resampled) + (value - float(of_counts(whole)))

    def _of_clusters(self) -> dict[str, Measured]:
        reason = self._no_clusters()
        if reason is not None:
            return dict.fromkeys(CLUSTER_METRICS, missing(reason))
        points, resamples = self.points, self.resamples
        found = {
            name: resamples.mean(clusters.silhouette_values(points, normalize=name == "silhouette").mean(axis=1))
            for name in ("silhouette", "raw_silhouette")
        }
        worst = clusters.davies_bouldin_values(points)
        found["davies_bouldin"] = (
            missing("two images have the same centre, or no view differs from its image's centre")
            if worst is None
            else resamples.mean(worst)
        )
        same_views = "the views of each image are equal"
        ratio = clusters.calinski_harabasz(points)
        if ratio is None:
            found["calinski_harabasz"] = missing(same_views)
        else:
            scores = clusters.calinski_harabasz(points, weights=resamples.weights) if len(resamples) else None
            found["calinski_harabasz"] = measured(float(ratio), scores)
        rank = clusters.lidar(points)
        found["lidar"] = (
            missing(same_views)
            if rank is None
            else resamples.recomputed(rank, lambda weights: clusters.lidar(points, weights=weights))
        )
        return found

    def _of_retrieval(self) -> dict[str, Measured]:
        reason = self._no_pairs()
        if reason is not None:
            return dict.fromkeys(RETRIEVAL_METRICS, missing(reason))
        values = clusters.retrieval_values(self.points, self.groups)
        return {name: self.resamples.mean(values[name].mean(axis=1)) for name in RETRIEVAL_METRICS}

    def _no_pairs(self) -> str | None:
        if self.positives is None:
            return self.no_positives
        return self.no_negatives if self.negatives is None else None

    def _no_clusters(self) -> str | None:
        if self.positives is None:
            return self.no_positives
        if self.num_images < 2:
            return "1 image: there is no other cluster of views"
        spread = float(np.linalg.norm(centered(unit_rows(self.points)[0]), axis=2).max())
        return "all embeddings are equal up to rounding" if spread < SD_FLOOR else None

    @staticmethod
    def _is_nothing(difference: float, *variances: float) -> bool:
        return bool(np.sqrt(sum(variances) / 2) < SD_FLOOR and abs(difference) < SD_FLOOR)

    def histograms(self) -> tuple[Integers, Integers, Integers, Integers, Floats]:
        """Positive, negative, raw positive, raw negative, raw edges."""
        shown = Bins(width=SHOWN_RANGE / SHOWN_BINS, count=SHOWN_BINS)
        positives, negatives = self.positives, self.negatives
        empty = np.zeros(SHOWN_BINS, dtype=np.int64)
        positive = shown.histogram(positives.unit) if positives is not None else empty
        negative = negatives.fine.shown(negatives.histogram) if negatives is not None else empty
        raw_bins = negatives.raw_bins if negatives is not None else None
        if raw_bins is None:
            raw_bins = Bins.over(float(positives.raw.max()) if positives is not None else 0.0, FINE_BINS)
        nothing = np.zeros(raw_bins.count, dtype=np.int64)
        raw = [
            raw_bins.histogram(positives.raw) if positives is not None else nothing,
            negatives.raw_histogram if negatives is not None else nothing,
        ]
        edges, (raw_positive, raw_negative) = raw_bins.trimmed(*raw)
        return positive, negative, raw_positive, raw_negative, edges


def measure_images(
    clean: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    labels: Sequence[Any] | npt.NDArray[np.object_] | None = None,
    *,
    bootstrap: int = 0,
    seed: int = 0,
) -> ImageMeasures:
    """Every metric of the images without augmentation.

    Args:
        clean: floats, shape (n, D).
        groups: shape (n,): patients; None: every image is its own.
        labels: n of them, anything that `str` tells apart, None for unknown; None: there are no labels.
        bootstrap: resamples of patients; 0 for no intervals. At most 50 are used for what needs eigenvalues.
        seed: of the resamples; the same as for `measure_views` gives the same patients.
    Raises:
        DataError: wrong shape, or values that are not finite.
        ConfigError: faiss is not installed.
    """
    points, own = _checked(clean, groups, 2)
    if labels is not None and len(labels) != len(points):
        raise DataError(f"labels: {len(labels)}; expected one per image, {len(points)}, None where unknown")
    resamples = Resamples.of(own, bootstrap, seed)
    found, shares = _of_spectrum(points, resamples)
    known = Labelled.of(labels if labels is not None else [None] * len(points))
    found |= _of_labels(points, own, known, resamples)
    return ImageMeasures(
        num_images=len(points),
        num_labelled=len(known.rows),
        metrics={name: found[name] for name in IMAGE_METRICS},
        spectrum=() if shares is None else tuple(shares[:NUM_SHARES].tolist()),
        chance_accuracy=float(known.sizes.max() / known.sizes.sum()) if len(known.rows) else None,
    )


def _of_spectrum(points: Floats, resamples: Resamples) -> tuple[dict[str, Measured], Floats | None]:
    rows = points / (np.abs(points).max() or 1.0)

    def rank(weights: Floats) -> float:
        return spectrum.effective_rank((rows * np.sqrt(weights)[:, None])[weights > 0])

    found = {
        "rankme": resamples.recomputed(spectrum.effective_rank(rows), rank),
        "feature_sd": _feature_sd(rows, resamples),
    }
    shapes = {
        "alpha_req": spectrum.alpha_req,
        "stable_rank": spectrum.stable_rank,
        "participation_ratio": spectrum.participation_ratio,
    }
    equal = "all embeddings are equal up to rounding"
    shares = spectrum.eigenvalue_shares(rows) if np.abs(centered(rows)).max() >= SD_FLOOR else None
    if shares is None:
        return found | dict.fromkeys((*shapes, "intrinsic_dimension"), missing(equal)), None
    every = [spectrum.eigenvalue_shares(rows, weights=weights) for weights in resamples.few]
    for name, function in shapes.items():
        value = function(shares)
        found[name] = (
            missing("fewer than 10 eigenvalues above rounding: no power law can be fitted")
            if value is None
            else moved_to(value, [None if part is None else function(part) for part in every])
        )
    found["intrinsic_dimension"] = _intrinsic_dimension(rows, resamples)
    return found, shares


def _feature_sd(rows: Floats, resamples: Resamples) -> Measured:
    value = spectrum.feature_sd(rows)
    if not len(resamples):
        return measured(value)
    unit = centered(unit_rows(rows)[0])
    counts = resamples.weights.sum(axis=1)[:, None]
    variances = resamples.sums(np.square(unit)) / counts - np.square(resamples.sums(unit) / counts)
    spreads = np.sqrt(np.maximum(variances, 0.0)).mean(axis=1) * np.sqrt(unit.shape[1])
    return measured(value, spreads)


def _intrinsic_dimension(rows: Floats, resamples: Resamples) -> Measured:
    if len(rows) < intrinsic.MIN_ROWS:
        return missing(f"{len(rows)} images: at least {intrinsic.MIN_ROWS} are needed to see a dimension")
    ratios = intrinsic.log_ratios(rows)
    value = intrinsic.dimension_of(ratios)
    if value is None:
        return missing("nearly all embeddings have an equal one: distances to neighbours say nothing")
    found = [intrinsic.dimension_of(ratios, weights) for weights in resamples.weights]
    return measured(value, np.array([np.nan if number is None else number for number in found]))


def _of_labels(points: Floats, groups: Integers, known: Labelled, resamples: Resamples) -> dict[str, Measured]:
    if len(known.rows) < 2 or len(known.classes) < 2:
        reason = "no image has a label"
        if len(known.rows):
            reason = f"{len(known.classes)} class among {len(known.rows)} labelled image(s): at least 2 are needed"
        return dict.fromkeys(LABEL_METRICS, missing(reason))
    rows, own = points[known.rows], groups[known.rows]
    drawn = resamples.of_rows(known.rows)
    found: dict[str, Measured] = {}
    if len(np.unique(own)) < 2:
        reason = "all labelled images belong to one patient: there are no neighbours of other patients"
        found |= dict.fromkeys(("knn_accuracy", "knn_auroc"), missing(reason))
    else:
        votes = labelled_metrics.knn_votes(rows, known.labels, own)
        found["knn_accuracy"] = drawn.mean(labelled_metrics.knn_correct(votes, known.labels))
        area = labelled_metrics.macro_auroc(votes, known.labels)
        found["knn_auroc"] = (
            missing("no class has both members and others")
            if area is None
            else measured(area, labelled_metrics.resampled_macro_auroc(votes, known.labels, drawn.weights))
        )
    if len(known.classes) == len(known.rows):
        found["class_silhouette"] = missing("every labelled image has a class of its own")
    else:
        found["class_silhouette"] = drawn.mean(labelled_metrics.class_silhouette_values(rows, known.labels))
    return found


def _checked(embeddings: npt.ArrayLike, groups: npt.ArrayLike | None, dimensions: int) -> tuple[Floats, Integers]:
    """float64 embeddings, and group numbers 0, ..., G - 1."""
    points = np.asarray(embeddings)
    axes = ("images", "views", "features") if dimensions == 3 else ("images", "features")
    if points.ndim != dimensions or 0 in points.shape or not np.issubdtype(points.dtype, np.floating):
        raise DataError(
            f"embeddings: {points.dtype} of shape {points.shape}; expected floats of shape ({', '.join(axes)}), "
            "at least 1 each"
        )
    points = points.astype(np.float64)
    bad = int((~np.isfinite(points)).any(axis=-1).sum())
    if bad:
        raise DataError(f"embeddings: {bad} of {points[..., 0].size} are not finite; expected finite numbers")
    own = np.arange(len(points)) if groups is None else np.asarray(groups)
    if own.shape != (len(points),):
        raise DataError(f"groups: shape {own.shape}; expected one group per image, ({len(points)},)")
    return points, np.unique(own, return_inverse=True)[1].astype(np.int64)
