"""What each metric of a diagnosis means, for people: reports and tables take their words from here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

POSITIVE_METRICS = ("positive_mean", "raw_positive_mean", "alignment")
NEGATIVE_METRICS = ("negative_mean", "raw_negative_mean", "uniformity")
PAIR_METRICS = ("gap", "ratio", "dprime", "pair_auroc", "overlap", "ks", "wasserstein")
CLUSTER_METRICS = ("silhouette", "raw_silhouette", "davies_bouldin", "calinski_harabasz", "lidar")
RETRIEVAL_METRICS = ("recall_at_1", "recall_at_5", "margin", "retrieval_error")
LEVEL_METRICS = POSITIVE_METRICS + NEGATIVE_METRICS + PAIR_METRICS + CLUSTER_METRICS + RETRIEVAL_METRICS
SPECTRUM_METRICS = ("rankme", "alpha_req", "stable_rank", "participation_ratio", "intrinsic_dimension", "feature_sd")
LABEL_METRICS = ("knn_accuracy", "knn_auroc", "class_silhouette")
IMAGE_METRICS = SPECTRUM_METRICS + LABEL_METRICS

Direction = Literal["higher", "lower", "none"]
Group = Literal["pairs", "clusters", "retrieval", "spectrum", "labels"]


@dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """One metric."""

    label: str
    direction: Direction
    """Which way is better; "none" where neither is, or where it depends on something else."""
    range: str
    meaning: str
    """One sentence."""
    group: Group

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def _info(group: Group, label: str, direction: Direction, limits: str, meaning: str) -> MetricInfo:
    return MetricInfo(label=label, direction=direction, range=limits, meaning=meaning, group=group)


GLOSSARY: dict[str, MetricInfo] = {
    "dprime": _info(
        "pairs",
        "d'",
        "higher",
        "unbounded, 0: no difference",
        "How many standard deviations farther apart views of different patients lie than views of one image.",
    ),
    "pair_auroc": _info(
        "pairs",
        "Pair AUROC",
        "higher",
        "0 to 1, chance 0.5",
        "Chance that a pair of views of different patients is farther apart than a pair of views of one image.",
    ),
    "gap": _info(
        "pairs",
        "Gap",
        "higher",
        "-2 to 2",
        "Mean distance of negative pairs minus that of positive pairs, on L2-normalised embeddings.",
    ),
    "ratio": _info(
        "pairs",
        "Ratio",
        "higher",
        "0 up, 1: no difference",
        "Mean distance of negative pairs divided by that of positive pairs.",
    ),
    "overlap": _info(
        "pairs",
        "Overlap",
        "lower",
        "0 to 1",
        "Common area of the two histograms of distances.",
    ),
    "ks": _info(
        "pairs",
        "Kolmogorov-Smirnov",
        "higher",
        "0 to 1",
        "Largest difference between the shares of positive and of negative pairs below a common distance.",
    ),
    "wasserstein": _info(
        "pairs",
        "Wasserstein",
        "higher",
        "0 to 2",
        "How far the distances of positive pairs would have to be moved to become those of negative pairs.",
    ),
    "positive_mean": _info(
        "pairs",
        "Positive distance",
        "none",
        "0 to 2",
        "Mean distance of two views of one image, L2-normalised; a collapsed encoder has 0.",
    ),
    "negative_mean": _info(
        "pairs",
        "Negative distance",
        "none",
        "0 to 2",
        "Mean distance of views of different patients, L2-normalised; about 1.4 if directions are spread evenly.",
    ),
    "raw_positive_mean": _info(
        "pairs",
        "Raw positive distance",
        "none",
        "0 up",
        "Mean distance of two views of one image as the paper plots it; not comparable between models.",
    ),
    "raw_negative_mean": _info(
        "pairs",
        "Raw negative distance",
        "none",
        "0 up",
        "Mean distance of views of different patients as the paper plots it; not comparable between models.",
    ),
    "alignment": _info(
        "pairs",
        "Alignment",
        "lower",
        "0 to 4",
        "Mean squared distance of two views of one image; only good beside a good uniformity.",
    ),
    "uniformity": _info(
        "pairs",
        "Uniformity",
        "lower",
        "-8 to 0, about -4 if spread evenly",
        "How evenly embeddings are spread over the sphere.",
    ),
    "silhouette": _info(
        "clusters",
        "Silhouette",
        "higher",
        "-1 to 1",
        "How much nearer a view is to the other views of its image than to those of the nearest other image.",
    ),
    "raw_silhouette": _info(
        "clusters",
        "Raw silhouette",
        "higher",
        "-1 to 1",
        "The silhouette on embeddings that are not normalised.",
    ),
    "davies_bouldin": _info(
        "clusters",
        "Davies-Bouldin",
        "lower",
        "0 up",
        "Spread of the views of two images relative to the distance of their centres, for the worst partner.",
    ),
    "calinski_harabasz": _info(
        "clusters",
        "Calinski-Harabasz",
        "higher",
        "0 up, about 1: no difference",
        "Variance between images over variance between views of one image, per degree of freedom.",
    ),
    "lidar": _info(
        "clusters",
        "LiDAR",
        "higher",
        "1 to the smaller of images - 1 and features",
        "How many directions tell images apart more than views of one image differ.",
    ),
    "recall_at_1": _info(
        "retrieval",
        "Recall@1",
        "higher",
        "0 to 1",
        "Share of views whose nearest other view is one of the same image.",
    ),
    "recall_at_5": _info(
        "retrieval",
        "Recall@5",
        "higher",
        "0 to 1",
        "Share of views that have a view of the same image among their five nearest.",
    ),
    "retrieval_error": _info(
        "retrieval",
        "Retrieval error",
        "lower",
        "0 to 1",
        "How often some view of another patient is as near as the other view of the same image.",
    ),
    "margin": _info(
        "retrieval",
        "Hard-negative margin",
        "higher",
        "-2 to 2",
        "Distance to the nearest view of another patient minus that to the views of the same image.",
    ),
    "rankme": _info(
        "spectrum",
        "RankMe",
        "higher",
        "1 to the smaller of images and features",
        "How many directions the embeddings of unaugmented images use.",
    ),
    "alpha_req": _info(
        "spectrum",
        "alpha-ReQ",
        "none",
        "0 up, about 1 is best",
        "How fast the eigenvalues of the embeddings fall; near 1 is balanced, far above it few directions dominate.",
    ),
    "stable_rank": _info(
        "spectrum",
        "Stable rank",
        "higher",
        "1 to the smaller of images - 1 and features",
        "Total variance over that of the strongest direction.",
    ),
    "participation_ratio": _info(
        "spectrum",
        "Participation ratio",
        "higher",
        "1 to the smaller of images - 1 and features",
        "How many directions would carry the variance if they shared it evenly.",
    ),
    "intrinsic_dimension": _info(
        "spectrum",
        "Intrinsic dimension",
        "none",
        "0 up",
        "Dimension of the surface on which the embeddings lie, seen from each image's two nearest neighbours.",
    ),
    "feature_sd": _info(
        "spectrum",
        "Feature spread",
        "higher",
        "0 to 1",
        "How evenly directions are spread; 0: all alike, a collapse.",
    ),
    "knn_accuracy": _info(
        "labels",
        "k-NN accuracy",
        "higher",
        "0 to 1, chance: share of the largest class",
        "Share of images that their nearest images of other patients label correctly.",
    ),
    "knn_auroc": _info(
        "labels",
        "k-NN AUROC",
        "higher",
        "0 to 1, chance 0.5",
        "Macro one-vs-rest AUROC of the vote of the nearest images of other patients.",
    ),
    "class_silhouette": _info(
        "labels",
        "Class silhouette",
        "higher",
        "-1 to 1, 0: mixed",
        "How much nearer an image is to images of its own class than to those of the nearest other class.",
    ),
}
