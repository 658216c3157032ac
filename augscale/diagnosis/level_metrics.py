"""The metrics of one level: distances of pairs, clusters of views and retrieval, each with its resamples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from augscale.diagnosis import clusters
from augscale.records.diagnosis import Histogram
from augscale.records.metrics import (
    CLUSTER_METRICS,
    NEGATIVE_METRICS,
    PAIR_METRICS,
    POSITIVE_METRICS,
    RETRIEVAL_METRICS,
)
from augscale.scoring import pair_metrics
from augscale.scoring.bins import FINE_BINS, SHOWN, SHOWN_RANGE, Bins
from augscale.scoring.distances import centered, unit_rows
from augscale.scoring.pair_metrics import Counts
from augscale.scoring.pair_samples import Negatives, Positives
from augscale.scoring.separation import MIN_IMAGES, dprime, is_nothing, is_rounding
from augscale.statistics.panel_bootstrap import Measured, Resamples, measured, missing

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class LevelPairs:
    """Embeddings (n, V, D) of one level, images in rising order of their group numbers 0, ..., G - 1."""

    def __init__(self, points: Floats, groups: Integers, bootstrap: int, seed: int) -> None:
        self.points, self.groups = points, groups
        self.num_images, self.num_views, _ = points.shape
        self.resamples = Resamples.of(groups, bootstrap, seed)
        several = int(groups.max()) > 0
        self.positives = Positives.of(points) if self.num_views > 1 else None
        self.negatives = Negatives.of(points, groups, self.resamples) if several else None
        self.no_positives = f"{self.num_views} view per image: there are no positive pairs"
        self.no_negatives = (
            "1 image: there are no negative pairs"
            if self.num_images == 1
            else f"all {self.num_images} images belong to one patient: there are no negative pairs"
        )

    def metrics(self) -> dict[str, Measured]:
        """Every metric of `metrics.LEVEL_METRICS`."""
        positives, negatives = self.positives, self.negatives
        found = (
            dict.fromkeys(POSITIVE_METRICS, missing(self.no_positives))
            if positives is None
            else self._of_positives(positives)
        )
        found |= (
            dict.fromkeys(NEGATIVE_METRICS, missing(self.no_negatives))
            if negatives is None
            else self._of_negatives(negatives)
        )
        if positives is None or negatives is None:
            reason = self.no_positives if positives is None else self.no_negatives
            found |= dict.fromkeys((*PAIR_METRICS, *RETRIEVAL_METRICS), missing(reason))
        else:
            found |= self._of_both(positives, negatives) | self._of_retrieval()
        return found | self._of_clusters()

    def unit_histogram(self) -> Histogram:
        """Distances of L2-normalized embeddings, 64 bins over [0, 2]."""
        empty = np.zeros(SHOWN.count, dtype=np.int64)
        positive = empty if self.positives is None else SHOWN.histogram(self.positives.unit)
        negative = empty if self.negatives is None else self.negatives.fine.shown(self.negatives.histogram)
        return _histogram(positive, negative, SHOWN.edges)

    def raw_histogram(self) -> Histogram:
        """Distances of embeddings that are not normalized, 64 bins up to the largest distance."""
        positives, negatives = self.positives, self.negatives
        if negatives is not None:
            bins, negative = negatives.raw_bins, negatives.raw_histogram
        else:
            bins = Bins.over(0.0 if positives is None else float(positives.raw.max()), FINE_BINS)
            negative = np.zeros(bins.count, dtype=np.int64)
        positive = np.zeros_like(negative) if positives is None else bins.histogram(positives.raw)
        edges, (near, far) = bins.trimmed(positive, negative)
        return _histogram(near, far, edges)

    def _of_positives(self, positives: Positives) -> dict[str, Measured]:
        mean = self.resamples.mean
        return {
            "positive_mean": mean(positives.unit.mean(axis=1)),
            "raw_positive_mean": mean(positives.raw.mean(axis=1)),
            "alignment": mean(clusters.alignment_values(self.points)),
        }

    def _of_negatives(self, negatives: Negatives) -> dict[str, Measured]:
        # Uniformity does not depend on the positive pairs, so any counts can be given for them.
        whole = Counts(positive=negatives.histogram, negative=negatives.histogram, bins=negatives.fine)
        value = float(whole.uniformity()) if negatives.sample is None else clusters.uniformity(negatives.sample)
        counted = Counts(positive=negatives.histograms, negative=negatives.histograms, bins=negatives.coarse)
        return {
            "negative_mean": measured(negatives.mean, negatives.means),
            "raw_negative_mean": measured(negatives.raw_mean, negatives.raw_means),
            "uniformity": measured(value, self._moved(value, Counts.uniformity, counted, negatives)),
        }

    def _of_both(self, positives: Positives, negatives: Negatives) -> dict[str, Measured]:
        near, resamples = positives.unit, self.resamples
        mean, variance = float(near.mean()), float(near.var())
        means, squares = np.empty(0), np.empty(0)
        if len(resamples):
            means = mean + resamples.mean(near.mean(axis=1) - mean).replicates
            squares = resamples.mean(np.square(near - mean).mean(axis=1)).replicates
        gap, gaps = negatives.mean - mean, negatives.means - means
        found = {"gap": measured(gap, gaps), "ratio": missing("all positive distances are 0")}
        if mean > 0:
            with np.errstate(divide="ignore", invalid="ignore"):
                found["ratio"] = measured(negatives.mean / mean, negatives.means / means)
        if self.num_images < MIN_IMAGES:
            reason = f"{self.num_images} images: at least {MIN_IMAGES} are needed to compare distributions"
            return dict.fromkeys(PAIR_METRICS, missing(reason)) | found
        variances = np.maximum(squares - np.square(means - mean), 0.0)
        found["dprime"] = measured(
            float(dprime(gap, variance, negatives.variance)), dprime(gaps, variances, negatives.variances)
        )
        if is_nothing(gap, variance, negatives.variance):
            return found | self._of_equal_distances(near, negatives)
        return found | self._of_distributions(near, negatives)

    def _of_equal_distances(self, near: Floats, negatives: Negatives) -> dict[str, Measured]:
        """Fixed values instead of ranks, which would be random for distances that differ by rounding only."""
        overlap = float(self._counts(near, negatives).overlap())
        values = {"pair_auroc": 0.5, "overlap": overlap, "ks": 0.0, "wasserstein": 0.0}
        return {name: measured(value, np.full(len(self.resamples), value)) for name, value in values.items()}

    def _of_distributions(self, near: Floats, negatives: Negatives) -> dict[str, Measured]:
        whole = self._counts(near, negatives)
        per_image = np.stack([negatives.coarse.histogram(row) for row in near])
        counted = Counts(
            positive=self.resamples.sums(per_image.astype(np.float64)),
            negative=negatives.histograms,
            bins=negatives.coarse,
        )
        kinds: dict[str, tuple[Callable[[Counts], Floats], Callable[..., float] | None, float]] = {
            "pair_auroc": (Counts.pair_auroc, pair_metrics.pair_auroc, 1.0),
            "overlap": (Counts.overlap, None, 1.0),
            "ks": (Counts.ks, pair_metrics.ks, 1.0),
            "wasserstein": (Counts.wasserstein, pair_metrics.wasserstein, SHOWN_RANGE),
        }
        found = {}
        for name, (of_counts, of_samples, largest) in kinds.items():
            if of_samples is None or negatives.sample is None:
                value = float(of_counts(whole))
            else:
                value = of_samples(near, negatives.sample)
            replicates = self._moved(value, of_counts, counted, negatives)
            found[name] = measured(value, np.clip(replicates, 0.0, largest))
        return found

    @staticmethod
    def _counts(near: Floats, negatives: Negatives) -> Counts:
        fine = negatives.fine
        return Counts(positive=fine.histogram(near), negative=negatives.histogram, bins=fine)

    def _moved(
        self, value: float, of_counts: Callable[[Counts], Floats], resampled: Counts, negatives: Negatives
    ) -> Floats:
        """Replicates from coarse bins, shifted by the error that the bins cause in the value itself."""
        if not len(self.resamples):
            return np.empty(0)
        near = self.positives.unit if self.positives is not None else np.zeros(1)
        coarse, fine = negatives.coarse, negatives.fine
        per_coarse = round(coarse.width / fine.width)
        counts = np.add.reduceat(negatives.histogram, np.arange(0, fine.count, per_coarse))
        counts = np.pad(counts, (0, max(0, coarse.count - len(counts))))[: coarse.count]
        whole = Counts(positive=coarse.histogram(near), negative=counts, bins=coarse)
        return of_counts(resampled) + (value - float(of_counts(whole)))

    def _of_clusters(self) -> dict[str, Measured]:
        reason = self._no_clusters()
        if reason is not None:
            return dict.fromkeys(CLUSTER_METRICS, missing(reason))
        points, resamples = self.points, self.resamples
        same_views = missing("the views of each image are equal")
        found = dict.fromkeys(("calinski_harabasz", "lidar"), same_views)
        for name in ("silhouette", "raw_silhouette"):
            values = clusters.silhouette_values(points, normalize=name == "silhouette")
            found[name] = resamples.mean(values.mean(axis=1))
        worst = clusters.davies_bouldin_values(points)
        found["davies_bouldin"] = (
            missing("two images have the same center, or no view differs from its image's center")
            if worst is None
            else resamples.mean(worst)
        )
        ratio = clusters.calinski_harabasz(points)
        if ratio is not None:
            ratios = clusters.calinski_harabasz(points, weights=resamples.weights) if len(resamples) else None
            found["calinski_harabasz"] = measured(float(ratio), ratios)
        rank = clusters.lidar(points)
        if rank is not None:
            found["lidar"] = resamples.recomputed(rank, lambda weights: clusters.lidar(points, weights=weights))
        return found

    def _no_clusters(self) -> str | None:
        if self.positives is None:
            return self.no_positives
        if self.num_images < 2:
            return "1 image: there is no other cluster of views"
        spread = float(np.linalg.norm(centered(unit_rows(self.points)[0]), axis=2).max())
        return "all embeddings are equal up to rounding" if is_rounding(spread) else None

    def _of_retrieval(self) -> dict[str, Measured]:
        values = clusters.retrieval_values(self.points, self.groups)
        return {name: self.resamples.mean(values[name].mean(axis=1)) for name in RETRIEVAL_METRICS}


def _histogram(positive: Integers, negative: Integers, edges: Floats) -> Histogram:
    return Histogram(tuple(positive.tolist()), tuple(negative.tolist()), tuple(edges.tolist()))
