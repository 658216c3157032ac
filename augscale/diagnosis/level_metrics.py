"""The metrics of one level: distances of pairs, clusters of views and retrieval, each with its resamples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from augscale.diagnosis import clusters
from augscale.diagnosis.glossary import (
    CLUSTER_METRICS,
    NEGATIVE_METRICS,
    PAIR_METRICS,
    POSITIVE_METRICS,
    RETRIEVAL_METRICS,
)
from augscale.scoring import pair_metrics
from augscale.scoring.bins import FINE_BINS, SHOWN_BINS, SHOWN_RANGE, Bins
from augscale.scoring.distances import centered, unit_rows
from augscale.scoring.pair_metrics import Counts
from augscale.scoring.pair_samples import Negatives, Positives
from augscale.scoring.separation import MIN_IMAGES, SD_FLOOR, dprime
from augscale.statistics.measured import Measured, Resamples, measured, missing

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Level:
    """Embeddings (n, V, D) of one level, images in rising order of their group numbers 0, ..., G - 1."""

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
