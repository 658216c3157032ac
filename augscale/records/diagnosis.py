"""`diagnosis.json`: the results of a diagnosis. `augscale.Diagnosis` is this record with its in-memory arrays.

Every field has a default, so that a file of an earlier version, or a part of one, can still be shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BeforeValidator, Field, WrapSerializer

from augscale.records.base import FileRecord, Record
from augscale.records.metrics import MetricInfo

LADDER = "ladder"
"""Kind of the levels of the fixed ladder, and the name of the mean over them."""

Interval = tuple[float, float]


class Metric(Record):
    """A measured value with its interval, or the reason why there is no value."""

    value: float | None = None
    interval: Interval | None = None
    """95 % percentile interval over resampled patients."""
    reason: str | None = None
    """Reason for a missing value, in one line."""


_Metric = TypeVar("_Metric", bound=Metric)
LadderMeans = Annotated[
    Mapping[str, _Metric],
    BeforeValidator(lambda value: value["metrics"] if set(value) == {"metrics"} else value),
    WrapSerializer(lambda value, serialize: {"metrics": serialize(value)}),
]
"""Means over the ladder's levels by metric; the file wraps them as {"metrics": ...}."""


class Histogram(NamedTuple):
    """Numbers of positive and of negative pairs in the same bins of distance."""

    positive: tuple[int, ...]
    negative: tuple[int, ...]
    edges: tuple[float, ...]

    @property
    def is_usable(self) -> bool:
        """True if both samples have a count for every bin and at least one pair."""
        bins = len(self.edges) - 1
        return bins > 0 and all(len(counts) == bins and sum(counts) > 0 for counts in self[:2])


class LevelRecord(Record):
    """One checkpoint on the views of one level."""

    metrics: Mapping[str, Metric] = {}
    """Every metric of `metrics.LEVEL_METRICS`, by its key."""
    positive_histogram: tuple[int, ...] = ()
    negative_histogram: tuple[int, ...] = ()
    """Pairs per bin of L2-normalized distances, 64 equal bins over [0, 2]; zeros without such pairs."""
    histogram_edges: tuple[float, ...] = ()
    raw_positive_histogram: tuple[int, ...] = ()
    raw_negative_histogram: tuple[int, ...] = ()
    """Pairs per bin of distances of embeddings that are not normalized, 64 equal bins from 0 to the largest distance or
    slightly beyond."""
    raw_histogram_edges: tuple[float, ...] = ()

    @property
    def normalized(self) -> Histogram:
        return Histogram(self.positive_histogram, self.negative_histogram, self.histogram_edges)

    @property
    def raw(self) -> Histogram:
        return Histogram(self.raw_positive_histogram, self.raw_negative_histogram, self.raw_histogram_edges)


class Examination(Record):
    """The health verdict on a checkpoint."""

    verdict: str = ""
    """"healthy", "suspicious" or "collapsed"; empty if the checkpoint was not judged."""
    evidence: tuple[str, ...] = ()
    """Sentences with numbers and limits; those against the checkpoint come first."""
    advice: tuple[str, ...] = ()
    """Measures to try next; empty for a healthy checkpoint."""


class Load(Record):
    """Names of tensors that a file and the network share, and of those that they do not."""

    matched_share: float | None = None
    """Share of the network's weights that the file provides, in [0, 1]."""
    matched: int | None = None
    missing: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()


class OwnAndData(Record):
    """d' over the ladder with each of two kinds of batch norm statistics."""

    own: float
    data: float


class StatisticsCheck(Record):
    """d' with a network's own batch norm statistics, and with those gathered on other photographs of the data."""

    used: str
    """"own" or "data": the statistics with which all other numbers of the checkpoint are measured."""
    dprime: OwnAndData
    interval: Interval | None = None
    """95 % percentile interval of data - own over resampled patients; None without a bootstrap."""
    differ: bool = False
    """The interval excludes 0."""


class ConfusionCounts(Record):
    """Number of confusions."""

    pairs: int
    images: int
    """Images that are part of at least one pair."""


class Confusion(Record):
    """Two images, a < b, of different patients whose views lie closer together than the views of either image."""

    a: int
    b: int
    distance: float | None = None
    """Mean L2-normalized distance between views of a and views of b, in [0, 2]."""
    own_distance: float | None = None
    """Mean distance between two views of one image, the smaller of the two images' means."""
    level: str = ""
    pixel_correlation: float | None = None
    """Correlation of the two photographs' thumbnails; near 1 for near-duplicates."""


class PointMap(Record):
    """Embeddings in the plane."""

    xy: tuple[tuple[float, float], ...] = ()
    image: tuple[int, ...] = ()
    """The photograph of each point, a row of the panel; empty: point i shows photograph i."""
    level: str | None = None
    """The level whose views are shown; None for the photographs without augmentation."""

    @property
    def images(self) -> tuple[int, ...]:
        return self.image or tuple(range(len(self.xy)))


class CheckpointRecord(Record):
    """One checkpoint."""

    name: str = ""
    path: str = ""
    kind: str = ""
    arch: str = ""
    embed_dim: int | None = None
    num_parameters: int | None = None
    image_size: int | None = None
    """Side of the images that the network was made for, pixels."""
    view_size: int | None = None
    """Side of the views that it was examined with, pixels; None in older files, which have one for all."""
    trained_with: str | None = None
    """Augmentation scales in words, if the file or its sidecar states them."""
    load: Load | None = None
    """None for a network that was not read from a file."""
    batch_norm_statistics: StatisticsCheck | None = None
    """None for a network without two kinds of batch norm statistics."""
    health: Examination = Examination()
    levels: Mapping[str, LevelRecord] = {}
    """Metrics and histograms by level; empty if nothing could be embedded."""
    ladder: LadderMeans[Metric] = Field(default={})
    overall: Mapping[str, Metric] = {}
    """Every metric of `metrics.IMAGE_METRICS`, of the photographs without augmentation."""
    spectrum: tuple[float, ...] = ()
    """Eigenvalues of the covariance as shares of their sum, descending, at most 256; empty if all are equal."""
    confused: ConfusionCounts | None = None
    confusions: tuple[Confusion, ...] = ()
    """The clearest confusions."""
    maps: Mapping[str, PointMap] = {}

    @property
    def is_collapsed(self) -> bool:
        return self.health.verdict == "collapsed"


class Comparison(Record):
    """Two checkpoints on the same views: the metric of a minus that of b."""

    level: str = ""
    metric: str = ""
    a: str = ""
    b: str = ""
    difference: float
    interval: Interval | None = None
    """95 % percentile interval over resampled patients."""
    distinguishable: bool = False
    """The interval excludes 0. It does not cover other training seeds."""


class Level(Record):
    """The scales that the views of one level were drawn from."""

    name: str
    kind: str = ""
    """"ladder" for the fixed ladder, "scales" for additional scales."""
    description: str = ""


class PanelImage(Record):
    """One photograph that was used."""

    image_id: str = ""
    label: str | None = None
    patient: int | None = None
    source: str = ""


class NearDuplicate(Record):
    """Two photographs whose thumbnails are almost equal."""

    a: str = ""
    b: str = ""
    correlation: float | None = None
    same_patient: bool = False


class DiagnosisRecord(FileRecord):
    """All checkpoints, on the same views of the same photographs."""

    writer = "augscale diagnose"

    finished: str = ""
    """ISO 8601, UTC."""
    versions: Mapping[str, str] = {}
    seed: int | None = None
    bootstrap: int | None = None
    view_size: int | None = None
    """Side of the views, pixels; None if it differs between checkpoints."""
    num_images: int | None = None
    num_views: int | None = None
    device: str | None = None
    data: Mapping[str, Any] = {}
    """Facts on the images, as every manifest has them."""
    notes: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ()
    glossary: Mapping[str, MetricInfo] = {}
    checkpoints: tuple[CheckpointRecord, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    images: tuple[PanelImage, ...] = ()
    near_duplicates: tuple[NearDuplicate, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        # Not pydantic's JSON mode: names of files may hold bytes that are not UTF-8.
        return self.model_dump()

    @property
    def ladder_levels(self) -> tuple[str, ...]:
        """Names of the ladder's levels; of all levels if there is no ladder."""
        ladder = tuple(level.name for level in self.levels if level.kind == LADDER)
        return ladder or tuple(level.name for level in self.levels)

    def meaning(self, metric: str) -> MetricInfo:
        """The entry of the glossary; if there is none, its label is made from the key."""
        found = self.glossary.get(metric, MetricInfo())
        return found if found.label else found.model_copy(update={"label": metric.replace("_", " ")})
