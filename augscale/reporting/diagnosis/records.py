"""diagnosis.json as typed records. Reading forgives what is missing, so that an old or partial file still shows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

LADDER = "ladder"
NAME_LENGTH = 40
GROUPS = {
    "pairs": "Pairs",
    "clusters": "Clusters of views",
    "retrieval": "Retrieval",
    "spectrum": "Spectrum",
    "labels": "Labels",
}
"""Title of each group of metrics, in the order of tables."""

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number, how sure it is, and, where there is none, why."""

    value: float | None = None
    interval: Interval | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """An entry of the glossary."""

    label: str
    direction: str = "none"
    """higher, lower or none: which values are better."""
    range: str = ""
    meaning: str = ""
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of positive and negative pairs over the same bins of distance."""

    positive: tuple[float, ...]
    negative: tuple[float, ...]
    edges: tuple[float, ...]

    @property
    def is_usable(self) -> bool:
        bins = len(self.edges) - 1
        return bins > 0 and all(len(c) == bins and sum(c) > 0 for c in (self.positive, self.negative))


@dataclass(frozen=True, kw_only=True)
class LevelResult:
    """A checkpoint on the views of one level."""

    metrics: Mapping[str, Metric]
    normalized: Histogram
    """Of embeddings of length 1: distances from 0 to 2."""
    raw: Histogram
    """Of embeddings as they are, as the paper plots them."""


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Two images of different patients that lie closer together than a view lies to its own partner."""

    a: int
    b: int
    distance: float | None
    own_distance: float | None
    other_distance: float | None
    """Of the same two images on other views."""
    level: str


@dataclass(frozen=True, kw_only=True)
class PointMap:
    """Points in the plane and the panel's image that each belongs to."""

    xy: tuple[tuple[float, float], ...]
    images: tuple[int, ...]
    level: str


@dataclass(frozen=True, kw_only=True)
class Load:
    """How a checkpoint's keys fitted the network."""

    matched_share: float | None
    matched: int | None
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unexpected: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CheckpointResult:
    name: str
    verdict: str
    """healthy, suspicious or collapsed; empty where it was not judged."""
    evidence: tuple[str, ...]
    advice: tuple[str, ...]
    levels: Mapping[str, LevelResult]
    ladder: Mapping[str, Metric]
    """Metrics over the ladder: as the file gives them, else means over its levels, without intervals."""
    overall: Mapping[str, Metric]
    spectrum: tuple[float, ...]
    confusions: tuple[Confusion, ...]
    maps: Mapping[str, PointMap]
    load: Load | None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """path, kind, arch, embed_dim, num_parameters, image_size, trained_with."""

    @property
    def is_collapsed(self) -> bool:
        return self.verdict == "collapsed"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two checkpoints on the same pairs; the difference is a's value minus b's."""

    level: str
    metric: str
    a: str
    b: str
    difference: float
    interval: Interval | None
    distinguishable: bool


@dataclass(frozen=True, kw_only=True)
class PanelImage:
    image_id: str
    label: str | None
    patient: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    checkpoints: tuple[CheckpointResult, ...]
    levels: tuple[tuple[str, str], ...]
    """Name and kind (ladder or scales) of each level."""
    glossary: Mapping[str, Meaning]
    comparisons: tuple[Comparison, ...]
    images: tuple[PanelImage, ...]
    near_duplicates: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    facts: Mapping[str, Any]
    """Everything else at the top of the file."""

    @property
    def ladder_levels(self) -> tuple[str, ...]:
        """The levels that "on the ladder" speaks of; all levels where none is of the ladder."""
        return ladder_levels(self.levels)

    @property
    def where(self) -> str:
        """What the ladder's values are taken over, in words."""
        names = self.ladder_levels
        if any(kind == LADDER for _, kind in self.levels):
            return "on the ladder"
        return f"at {names[0]}" if len(names) == 1 else "over all levels"

    def meaning(self, metric: str) -> Meaning:
        return self.glossary.get(metric) or Meaning(label=metric.replace("_", " "))


def parse_diagnosis(data: Mapping[str, Any]) -> Diagnosis:
    """Reads the content of diagnosis.json; names too long for a heading are cut in the middle."""
    data = _printable(data)
    shorter = _shorter([str(entry.get("name")) for entry in _mappings(data.get("checkpoints"))])
    levels = tuple((str(e.get("name")), str(e.get("kind") or "")) for e in _mappings(data.get("levels")))
    known = {"checkpoints", "levels", "glossary", "comparisons", "images", "near_duplicates", "notes"}
    return Diagnosis(
        checkpoints=tuple(_checkpoint(entry, levels, shorter) for entry in _mappings(data.get("checkpoints"))),
        levels=levels,
        glossary={str(key): _meaning(str(key), entry) for key, entry in _mapping(data.get("glossary")).items()},
        comparisons=tuple(c for entry in _mappings(data.get("comparisons")) if (c := _comparison(entry, shorter))),
        images=tuple(_image(entry) for entry in _mappings(data.get("images"))),
        near_duplicates=tuple(_mappings(data.get("near_duplicates"))),
        notes=_strings(data.get("notes")),
        facts={key: value for key, value in data.items() if key not in known},
    )


def ladder_levels(levels: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Names of the ladder's levels, or of all where there is no ladder."""
    return tuple(name for name, kind in levels if kind == LADDER) or tuple(name for name, _ in levels)


def _printable(value: Any) -> Any:
    """The same, printable: a file's name may hold bytes that are not text, or sequences that steer a terminal."""
    if isinstance(value, str):
        return _CONTROLS.sub(" ", value.encode("utf-8", "replace").decode("utf-8"))
    if isinstance(value, Mapping):
        return {_printable(key): _printable(entry) for key, entry in value.items()}
    return [_printable(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _shorter(names: Sequence[str]) -> dict[str, str]:
    """Names to show: cut, unless two of them would become the same."""
    half = NAME_LENGTH // 2
    cut = {name: name if len(name) <= NAME_LENGTH else f"{name[:half]}…{name[-half:]}" for name in names}
    return cut if len(set(cut.values())) == len(cut) else {name: name for name in names}


def _checkpoint(
    entry: Mapping[str, Any], levels: Sequence[tuple[str, str]], shorter: Mapping[str, str]
) -> CheckpointResult:
    health = _mapping(entry.get("health"))
    found = {str(name): _level(_mapping(level)) for name, level in _mapping(entry.get("levels")).items()}
    given = metrics_of(_mapping(_mapping(entry.get("ladder")).get("metrics")))
    load = entry.get("load")
    facts = ("path", "kind", "arch", "embed_dim", "num_parameters", "image_size", "trained_with")
    return CheckpointResult(
        name=shorter[str(entry.get("name"))],
        verdict=str(health.get("verdict") or ""),
        evidence=_strings(health.get("evidence")),
        advice=_strings(health.get("advice")),
        levels=found,
        ladder=_ladder(found, ladder_levels(levels)) | given,
        overall=metrics_of(_mapping(entry.get("overall"))),
        spectrum=_numbers(entry.get("spectrum")),
        confusions=tuple(c for pair in _mappings(entry.get("confusions")) if (c := _confusion(pair))),
        maps={str(k): m for k, value in _mapping(entry.get("maps")).items() if (m := _map(_mapping(value)))},
        load=_load(load) if isinstance(load, Mapping) else None,
        facts={key: entry[key] for key in facts if entry.get(key) is not None},
    )


def _ladder(found: Mapping[str, LevelResult], names: Sequence[str]) -> dict[str, Metric]:
    """Means over the ladder's levels; the one level's own numbers where there is one only."""
    shown = [found[name].metrics for name in names if name in found]
    if len(shown) == 1:
        return dict(shown[0])
    result = {}
    for key in dict.fromkeys(key for metrics in shown for key in metrics):
        entries = [metrics.get(key, Metric(reason="not computed at every level")) for metrics in shown]
        values = [entry.value for entry in entries if entry.value is not None]
        whole = len(values) == len(entries)
        reason = next((entry.reason for entry in entries if entry.value is None), "")
        result[key] = Metric(value=fmean(values) if whole else None, reason=reason)
    return result


def metrics_of(entries: Mapping[str, Any]) -> dict[str, Metric]:
    """Metrics by key."""
    return {
        str(key): Metric(
            value=_number(entry.get("value")), interval=_interval(entry.get("interval")), reason=_text(entry, "reason")
        )
        for key, entry in entries.items()
        if isinstance(entry, Mapping)
    }


def _level(entry: Mapping[str, Any]) -> LevelResult:
    def histogram(prefix: str) -> Histogram:
        names = (f"{prefix}positive_histogram", f"{prefix}negative_histogram", f"{prefix}histogram_edges")
        positive, negative, edges = (_numbers(entry.get(name)) for name in names)
        return Histogram(positive=positive, negative=negative, edges=edges)

    metrics = metrics_of(_mapping(entry.get("metrics")))
    return LevelResult(metrics=metrics, normalized=histogram(""), raw=histogram("raw_"))


def _meaning(key: str, entry: Any) -> Meaning:
    found = _mapping(entry)
    return Meaning(
        label=_text(found, "label") or key.replace("_", " "),
        direction=_text(found, "direction") or "none",
        range=_text(found, "range"),
        meaning=_text(found, "meaning"),
        group=_text(found, "group"),
    )


def _comparison(entry: Mapping[str, Any], shorter: Mapping[str, str]) -> Comparison | None:
    difference = _number(entry.get("difference"))
    if difference is None:
        return None
    return Comparison(
        level=_text(entry, "level"),
        metric=_text(entry, "metric"),
        a=shorter.get(_text(entry, "a"), _text(entry, "a")),
        b=shorter.get(_text(entry, "b"), _text(entry, "b")),
        difference=difference,
        interval=_interval(entry.get("interval")),
        distinguishable=entry.get("distinguishable") is True,
    )


def _confusion(entry: Mapping[str, Any]) -> Confusion | None:
    a, b = entry.get("a"), entry.get("b")
    if not isinstance(a, int) or not isinstance(b, int):
        return None
    return Confusion(
        a=a,
        b=b,
        distance=_number(entry.get("distance")),
        own_distance=_number(entry.get("own_distance")),
        other_distance=_number(entry.get("distance_other_views")),
        level=_text(entry, "level"),
    )


def _map(entry: Mapping[str, Any]) -> PointMap | None:
    pairs = [_numbers(p) for p in entry.get("xy") or ()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        return None
    rows = entry.get("image")
    images = [int(row) for row in rows] if isinstance(rows, Sequence) else list(range(len(pairs)))
    if len(images) != len(pairs):
        return None
    return PointMap(xy=tuple((x, y) for x, y in pairs), images=tuple(images), level=_text(entry, "level"))


def _load(entry: Mapping[str, Any]) -> Load:
    matched = entry.get("matched")
    return Load(
        matched_share=_number(entry.get("matched_share")),
        matched=matched if isinstance(matched, int) else None,
        missing=_strings(entry.get("missing")),
        mismatched=_strings(entry.get("mismatched")),
        unexpected=_strings(entry.get("unexpected")),
    )


def _image(entry: Mapping[str, Any]) -> PanelImage:
    label = entry.get("label")
    return PanelImage(
        image_id=_text(entry, "image_id"),
        label=None if label is None else str(label),
        patient=_text(entry, "patient"),
        source=_text(entry, "source"),
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _numbers(values: Any) -> tuple[float, ...]:
    """All of them, or none where one is not a finite number."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        return ()
    found = [_number(value) for value in values]
    return tuple(value for value in found if value is not None) if None not in found else ()


def _interval(value: Any) -> Interval | None:
    found = _numbers(value)
    return (found[0], found[1]) if len(found) == 2 else None


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return "" if value is None else str(value)


def _strings(values: Any) -> tuple[str, ...]:
    if isinstance(values, str):
        return (values,)
    return tuple(str(value) for value in values) if isinstance(values, Sequence) else ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(values: Any) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, (list, tuple)) else []
