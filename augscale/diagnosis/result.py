"""What a diagnosis found: plain frozen objects, and the files that they are written to."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.diagnosis.checkpoint_doctor import Examination
from augscale.diagnosis.confusions import Confusions
from augscale.diagnosis.glossary import GLOSSARY
from augscale.diagnosis.measure import ImageMeasures, LevelMeasures
from augscale.diagnosis.statistics_check import StatisticsCheck
from augscale.runs.files import write_atomic, write_json
from augscale.runs.folders import now, versions
from augscale.statistics.measured import Measured, measured, paired_difference

Floats = npt.NDArray[np.float64]
COMPARED = ("dprime", "pair_auroc")
"""Metrics of which the difference between two checkpoints gets an interval."""
LADDER = "ladder"
"""Name for the mean over the levels of the fixed ladder."""


@dataclass(frozen=True, kw_only=True)
class PanelImage:
    """One photograph that was used."""

    image_id: str
    label: str | None
    patient: int
    source: str


@dataclass(frozen=True, kw_only=True)
class Level:
    """One set of scales that views were drawn from."""

    name: str
    kind: str
    """"ladder" for the fixed ladder, "scales" for those asked for."""
    description: str


@dataclass(frozen=True, kw_only=True)
class Map:
    """Points of a two-dimensional map."""

    xy: npt.NDArray[np.float32]
    """Shape (N, 2)."""
    image: npt.NDArray[np.int64]
    """Shape (N,): the photograph of each point, a row of the panel."""
    level: str | None
    """The level whose views are shown; None for the photographs themselves."""


@dataclass(frozen=True, kw_only=True)
class CheckpointDiagnosis:
    """One checkpoint."""

    name: str
    path: str
    kind: str
    arch: str
    embed_dim: int
    num_parameters: int
    image_size: int
    trained_with: str | None
    """In words, where the file or its sidecar says so."""
    load: Mapping[str, Any] | None
    """How the file's tensors met the network."""
    examination: Examination
    levels: Mapping[str, LevelMeasures]
    """By level; empty where nothing could be embedded."""
    ladder: Mapping[str, Measured]
    """Means over the ladder's levels, with their intervals."""
    images: ImageMeasures | None
    """Of the photographs without augmentation."""
    confusions: Confusions | None
    confused_as_copies: tuple[float, ...] = ()
    """Per listed confusion: correlation of the two photographs' thumbnails, near 1 for near-duplicates."""
    statistics: StatisticsCheck | None = None
    """None for a network that has one kind of batch norm statistics only, or none."""
    maps: Mapping[str, Map] = field(default_factory=dict)
    distances: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict, repr=False)
    """By "LEVEL/positive", "LEVEL/negative", and the same with "raw_": one number per pair."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        pairs = self.confusions.pairs if self.confusions else ()
        return {
            "name": self.name,
            "path": self.path,
            "kind": self.kind,
            "arch": self.arch,
            "embed_dim": self.embed_dim,
            "num_parameters": self.num_parameters,
            "image_size": self.image_size,
            "trained_with": self.trained_with,
            "load": self.load,
            "batch_norm_statistics": self.statistics.to_dict() if self.statistics else None,
            "health": self.examination.to_dict(),
            "levels": {name: level.to_dict() for name, level in self.levels.items()},
            "ladder": {"metrics": {name: value.to_dict() for name, value in self.ladder.items()}},
            "overall": {name: value.to_dict() for name, value in self.images.metrics.items()} if self.images else {},
            "spectrum": [float(share) for share in self.images.spectrum[:256]] if self.images else [],
            "confused": {"pairs": self.confusions.num_pairs, "images": self.confusions.num_images}
            if self.confusions
            else None,
            "confusions": [
                asdict(pair) | {"level": LADDER, "pixel_correlation": correlation}
                for pair, correlation in zip(pairs, self.confused_as_copies, strict=True)
            ],
            "maps": {
                name: {"xy": np.round(m.xy, 4).tolist(), "image": m.image.tolist(), "level": m.level}
                for name, m in self.maps.items()
            },
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two checkpoints on the same views: a's metric minus b's, and its interval over resampled patients."""

    level: str
    metric: str
    a: str
    b: str
    difference: float
    interval: tuple[float, float]

    @property
    def distinguishable(self) -> bool:
        """Whether the interval leaves out 0. It says nothing of other training seeds."""
        return not self.interval[0] <= 0 <= self.interval[1]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"interval": list(self.interval), "distinguishable": self.distinguishable}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All checkpoints, on the same views of the same photographs."""

    checkpoints: tuple[CheckpointDiagnosis, ...]
    comparisons: tuple[Comparison, ...]
    levels: tuple[Level, ...]
    images: tuple[PanelImage, ...]
    near_duplicates: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    data: Mapping[str, Any]
    view_size: int
    num_views: int
    seed: int
    bootstrap: int
    device: str
    thumbnails: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    """JPEG bytes by row of `images`."""
    finished: str = field(default_factory=now)

    def __getitem__(self, name: str) -> CheckpointDiagnosis:
        """The checkpoint of that name."""
        found = next((c for c in self.checkpoints if c.name == name), None)
        if found is None:
            raise KeyError(f"{name!r}; expected one of {', '.join(c.name for c in self.checkpoints)}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """The content of diagnosis.json."""
        return {
            "finished": self.finished,
            "versions": versions(),
            "seed": self.seed,
            "bootstrap": self.bootstrap,
            "view_size": self.view_size,
            "num_images": len(self.images),
            "num_views": self.num_views,
            "device": self.device,
            "data": dict(self.data),
            "notes": list(self.notes),
            "levels": [asdict(level) for level in self.levels],
            "glossary": {name: asdict(info) for name, info in GLOSSARY.items()},
            "checkpoints": [checkpoint.to_dict() for checkpoint in self.checkpoints],
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "images": [asdict(image) for image in self.images],
            "near_duplicates": [dict(pair) for pair in self.near_duplicates],
        }

    def write(self, folder: Path | str) -> list[Path]:
        """Writes diagnosis.json, distances.npz, diagnosis.html and the figures.

        Raises:
            StudyError, CheckpointError: a file cannot be written; files written before are whole.
        """
        from augscale.reporting.diagnosis.report import write_diagnosis

        folder = Path(folder)
        values = self.to_dict()
        write_json(folder / "diagnosis.json", values)
        arrays = {f"{c.name}/{name}": array for c in self.checkpoints for name, array in c.distances.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        write_atomic(folder / "distances.npz", lambda file: _write(file, buffer.getvalue()))
        shown = write_diagnosis(folder, values, dict(self.thumbnails))
        return [folder / "diagnosis.json", folder / "distances.npz", *shown]


def compare(checkpoints: tuple[CheckpointDiagnosis, ...]) -> tuple[Comparison, ...]:
    """The difference over the ladder of every two checkpoints, paired resample by resample."""
    found = []
    for (a, b), metric in itertools.product(itertools.combinations(checkpoints, 2), COMPARED):
        one, other = a.ladder.get(metric), b.ladder.get(metric)
        interval = paired_difference(one, other) if one and other else None
        if interval is not None and one and other and one.value is not None and other.value is not None:
            difference = one.value - other.value
            found.append(
                Comparison(level=LADDER, metric=metric, a=a.name, b=b.name, difference=difference, interval=interval)
            )
    return tuple(found)


def disagreements(comparisons: Sequence[Comparison]) -> list[str]:
    """Sentences on pairs of checkpoints that the compared metrics put in opposite orders, both distinguishably."""
    by_pair: dict[tuple[str, str], dict[str, Comparison]] = {}
    for comparison in comparisons:
        by_pair.setdefault((comparison.a, comparison.b), {})[comparison.metric] = comparison
    notes = []
    for (a, b), found in by_pair.items():
        auroc, gap = found.get("pair_auroc"), found.get("dprime")
        if auroc and gap and auroc.distinguishable and gap.distinguishable and auroc.difference * gap.difference < 0:
            higher = a if auroc.difference > 0 else b
            notes.append(
                f"{a} and {b}: pair AUROC is higher for {higher}, d' for the other. A few photographs far from all "
                "others widen the spread that d' divides by; the AUROC counts order only"
            )
    return notes


def ladder_means(levels: Mapping[str, LevelMeasures], names: list[str]) -> dict[str, Measured]:
    """Mean over the ladder's levels of every metric, with its interval; a metric missing at a level is left out."""
    means: dict[str, Measured] = {}
    rungs = [levels[name].metrics for name in names if name in levels]
    for metric in rungs[0] if rungs else ():
        values = [rung[metric] for rung in rungs]
        numbers = [v.value for v in values if v.value is not None]
        if len(numbers) == len(values):
            means[metric] = measured(float(np.mean(numbers)), np.mean([v.replicates for v in values], axis=0))
    return means


def _write(file: Any, content: bytes) -> None:
    file.write(content)
