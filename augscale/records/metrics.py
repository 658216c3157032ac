"""The metrics of a diagnosis: names, ranges, better direction, meaning and source.

Reports, tables and validation take their words from here. The metrics of fine-tuned classifiers are in
`augscale/records/evaluation.py`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from augscale.records.base import Record

POSITIVE_METRICS = ("positive_mean", "raw_positive_mean", "alignment")
NEGATIVE_METRICS = ("negative_mean", "raw_negative_mean", "uniformity")
PAIR_METRICS = ("gap", "ratio", "dprime", "pair_auroc", "overlap", "ks", "wasserstein")
CLUSTER_METRICS = ("silhouette", "raw_silhouette", "davies_bouldin", "calinski_harabasz", "lidar")
RETRIEVAL_METRICS = ("recall_at_1", "recall_at_5", "margin", "retrieval_error")
LEVEL_METRICS = POSITIVE_METRICS + NEGATIVE_METRICS + PAIR_METRICS + CLUSTER_METRICS + RETRIEVAL_METRICS
"""Metrics of the views of one level."""
SPECTRUM_METRICS = ("rankme", "alpha_req", "stable_rank", "participation_ratio", "intrinsic_dimension", "feature_sd")
LABEL_METRICS = ("knn_accuracy", "knn_auroc", "class_silhouette")
IMAGE_METRICS = SPECTRUM_METRICS + LABEL_METRICS
"""Metrics of the images without augmentation."""

GROUP_TITLES = {
    "pairs": "Pairs",
    "clusters": "Clusters of views",
    "retrieval": "Retrieval",
    "spectrum": "Spectrum",
    "labels": "Labels",
}
"""Title of each group of metrics, in the order of tables."""


class MetricInfo(Record):
    """One metric. `key` and `source` are not written to files."""

    key: str = Field(default="", exclude=True)
    label: str = ""
    direction: Literal["higher", "lower", "none"] = "none"
    """Better values; "none" if neither direction is better, or if it depends on another metric."""
    range: str = ""
    meaning: str = ""
    """One sentence."""
    group: str = ""
    """A key of `GROUP_TITLES`."""
    source: str = Field(default="", exclude=True)
    """Publication or method that defines the metric."""


_DISTANCES = "Dis(P+) and Dis(P-) of Cheng et al., MIDL 2025"

_METRICS = (
    MetricInfo(
        key="dprime",
        group="pairs",
        label="d'",
        direction="higher",
        range="unbounded, 0: no difference",
        meaning="How many standard deviations farther apart views of different patients lie than views of one image.",
        source="Green and Swets 1966, on " + _DISTANCES,
    ),
    MetricInfo(
        key="pair_auroc",
        group="pairs",
        label="Pair AUROC",
        direction="higher",
        range="0 to 1, chance 0.5",
        meaning="Chance that a pair of views of different patients is farther apart than a pair of views of one image.",
        source="Mann and Whitney 1947",
    ),
    MetricInfo(
        key="gap",
        group="pairs",
        label="Gap",
        direction="higher",
        range="-2 to 2",
        meaning="Mean distance of negative pairs minus that of positive pairs, on L2-normalized embeddings.",
        source=_DISTANCES,
    ),
    MetricInfo(
        key="ratio",
        group="pairs",
        label="Ratio",
        direction="higher",
        range="0 up, 1: no difference",
        meaning="Mean distance of negative pairs divided by that of positive pairs.",
    ),
    MetricInfo(
        key="overlap",
        group="pairs",
        label="Overlap",
        direction="lower",
        range="0 to 1",
        meaning="Common area of the two histograms of distances.",
        source="Weitzman 1970",
    ),
    MetricInfo(
        key="ks",
        group="pairs",
        label="Kolmogorov-Smirnov",
        direction="higher",
        range="0 to 1",
        meaning="Largest difference between the shares of positive and of negative pairs below a common distance.",
    ),
    MetricInfo(
        key="wasserstein",
        group="pairs",
        label="Wasserstein",
        direction="higher",
        range="0 to 2",
        meaning="How far the distances of positive pairs would have to be moved to become those of negative pairs.",
    ),
    MetricInfo(
        key="positive_mean",
        group="pairs",
        label="Positive distance",
        range="0 to 2",
        meaning="Mean distance of two views of one image, L2-normalized; a collapsed encoder has 0.",
        source=_DISTANCES,
    ),
    MetricInfo(
        key="negative_mean",
        group="pairs",
        label="Negative distance",
        range="0 to 2",
        meaning="Mean distance of views of different patients, L2-normalized; about 1.4 if directions are spread "
        "evenly.",
        source=_DISTANCES,
    ),
    MetricInfo(
        key="raw_positive_mean",
        group="pairs",
        label="Raw positive distance",
        range="0 up",
        meaning="Mean distance of two views of one image as the paper plots it; not comparable between models.",
        source=_DISTANCES,
    ),
    MetricInfo(
        key="raw_negative_mean",
        group="pairs",
        label="Raw negative distance",
        range="0 up",
        meaning="Mean distance of views of different patients as the paper plots it; not comparable between models.",
        source=_DISTANCES,
    ),
    MetricInfo(
        key="alignment",
        group="pairs",
        label="Alignment",
        direction="lower",
        range="0 to 4",
        meaning="Mean squared distance of two views of one image; only good beside a good uniformity.",
        source="Wang and Isola, ICML 2020",
    ),
    MetricInfo(
        key="uniformity",
        group="pairs",
        label="Uniformity",
        direction="lower",
        range="-8 to 0, about -4 if spread evenly",
        meaning="How evenly embeddings are spread over the sphere.",
        source="Wang and Isola, ICML 2020",
    ),
    MetricInfo(
        key="silhouette",
        group="clusters",
        label="Silhouette",
        direction="higher",
        range="-1 to 1",
        meaning="How much nearer a view is to the other views of its image than to those of the nearest other image.",
        source="Rousseeuw 1987",
    ),
    MetricInfo(
        key="raw_silhouette",
        group="clusters",
        label="Raw silhouette",
        direction="higher",
        range="-1 to 1",
        meaning="The silhouette on embeddings that are not normalized.",
        source="Rousseeuw 1987",
    ),
    MetricInfo(
        key="davies_bouldin",
        group="clusters",
        label="Davies-Bouldin",
        direction="lower",
        range="0 up",
        meaning="Spread of the views of two images relative to the distance of their centers, for the worst partner.",
        source="Davies and Bouldin 1979",
    ),
    MetricInfo(
        key="calinski_harabasz",
        group="clusters",
        label="Calinski-Harabasz",
        direction="higher",
        range="0 up, about 1: no difference",
        meaning="Variance between images over variance between views of one image, per degree of freedom.",
        source="Calinski and Harabasz 1974",
    ),
    MetricInfo(
        key="lidar",
        group="clusters",
        label="LiDAR",
        direction="higher",
        range="1 to the smaller of images - 1 and features",
        meaning="How many directions tell images apart more than views of one image differ.",
        source="Thilak et al., ICLR 2024",
    ),
    MetricInfo(
        key="recall_at_1",
        group="retrieval",
        label="Recall@1",
        direction="higher",
        range="0 to 1",
        meaning="Share of views whose nearest other view is one of the same image.",
        source="Musgrave et al., ECCV 2020",
    ),
    MetricInfo(
        key="recall_at_5",
        group="retrieval",
        label="Recall@5",
        direction="higher",
        range="0 to 1",
        meaning="Share of views that have a view of the same image among their five nearest.",
        source="Musgrave et al., ECCV 2020",
    ),
    MetricInfo(
        key="retrieval_error",
        group="retrieval",
        label="Retrieval error",
        direction="lower",
        range="0 to 1",
        meaning="How often some view of another patient is as near as the other view of the same image.",
    ),
    MetricInfo(
        key="margin",
        group="retrieval",
        label="Hard-negative margin",
        direction="higher",
        range="-2 to 2",
        meaning="Distance to the nearest view of another patient minus that to the views of the same image.",
    ),
    MetricInfo(
        key="rankme",
        group="spectrum",
        label="RankMe",
        direction="higher",
        range="1 to the smaller of images and features",
        meaning="How many directions the embeddings of unaugmented images use.",
        source="Garrido et al., ICML 2023",
    ),
    MetricInfo(
        key="alpha_req",
        group="spectrum",
        label="alpha-ReQ",
        range="0 up, about 1 is best",
        meaning="How fast the eigenvalues of the embeddings fall; near 1 is balanced, far above it few directions "
        "dominate.",
        source="Agrawal et al., NeurIPS 2022",
    ),
    MetricInfo(
        key="stable_rank",
        group="spectrum",
        label="Stable rank",
        direction="higher",
        range="1 to the smaller of images - 1 and features",
        meaning="Total variance over that of the strongest direction.",
        source="Rudelson and Vershynin 2007",
    ),
    MetricInfo(
        key="participation_ratio",
        group="spectrum",
        label="Participation ratio",
        direction="higher",
        range="1 to the smaller of images - 1 and features",
        meaning="How many directions would carry the variance if they shared it evenly.",
        source="Gao et al., bioRxiv 214262, 2017",
    ),
    MetricInfo(
        key="intrinsic_dimension",
        group="spectrum",
        label="Intrinsic dimension",
        range="0 up",
        meaning="Dimension of the surface on which the embeddings lie, seen from each image's two nearest neighbors.",
        source="Facco et al., Scientific Reports 2017",
    ),
    MetricInfo(
        key="feature_sd",
        group="spectrum",
        label="Feature spread",
        direction="higher",
        range="0 to 1",
        meaning="How evenly directions are spread; 0: all alike, a collapse.",
        source="Chen and He, CVPR 2021",
    ),
    MetricInfo(
        key="knn_accuracy",
        group="labels",
        label="k-NN accuracy",
        direction="higher",
        range="0 to 1, chance: share of the largest class",
        meaning="Share of images that their nearest images of other patients label correctly.",
        source="Wu et al., CVPR 2018",
    ),
    MetricInfo(
        key="knn_auroc",
        group="labels",
        label="k-NN AUROC",
        direction="higher",
        range="0 to 1, chance 0.5",
        meaning="Macro one-vs-rest AUROC of the vote of the nearest images of other patients.",
        source="Wu et al., CVPR 2018",
    ),
    MetricInfo(
        key="class_silhouette",
        group="labels",
        label="Class silhouette",
        direction="higher",
        range="-1 to 1, 0: mixed",
        meaning="How much nearer an image is to images of its own class than to those of the nearest other class.",
        source="Rousseeuw 1987",
    ),
)

METRICS: dict[str, MetricInfo] = {metric.key: metric for metric in _METRICS}
"""Every metric by its key, in the order of tables."""
