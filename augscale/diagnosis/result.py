"""`augscale.Diagnosis`: the record of `diagnosis.json` with its arrays, and the files that it is written to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field

from augscale.diagnosis.measure import ImageMeasures, LevelMeasures
from augscale.records.diagnosis import CheckpointRecord, DiagnosisRecord, Examination, LadderMeans
from augscale.records.metrics import METRICS, MetricInfo
from augscale.runs.files import write_atomic
from augscale.runs.folders import now, versions
from augscale.statistics.panel_bootstrap import Measured

DISTANCES = "distances.npz"


class CheckpointDiagnosis(CheckpointRecord):
    """One checkpoint, with replicates and distances that diagnosis.json leaves out."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    levels: Mapping[str, LevelMeasures] = {}
    ladder: LadderMeans[Measured] = Field(default={})
    images: ImageMeasures | None = Field(default=None, exclude=True)
    """Metrics of the photographs without augmentation."""
    distances: Mapping[str, npt.NDArray[np.float32]] = Field(default={}, exclude=True, repr=False)
    """One distance per pair, by "LEVEL/positive", "LEVEL/negative", and the same with "raw_"."""

    @property
    def examination(self) -> Examination:
        """The verdict with evidence and advice; `health` in diagnosis.json."""
        return self.health


class Diagnosis(DiagnosisRecord):
    """All checkpoints, on the same views of the same photographs."""

    finished: str = Field(default_factory=now)
    versions: Mapping[str, str] = Field(default_factory=versions)
    glossary: Mapping[str, MetricInfo] = METRICS
    checkpoints: tuple[CheckpointDiagnosis, ...]
    thumbnails: Mapping[int, bytes] = Field(default={}, exclude=True, repr=False)
    """JPEG bytes by row of `images`."""

    def __getitem__(self, name: str) -> CheckpointDiagnosis:
        """The checkpoint of that name."""
        found = next((c for c in self.checkpoints if c.name == name), None)
        if found is None:
            raise KeyError(f"{name!r}; expected one of {', '.join(c.name for c in self.checkpoints)}")
        return found

    def _repr_html_(self) -> str:
        from augscale.reporting.shared.notebook import estimate, notebook_html

        names = ("pair_auroc", "dprime")
        rows = []
        for checkpoint in self.checkpoints:
            metrics = [checkpoint.ladder.get(name) for name in names]
            values = [estimate(metric.value, metric.interval) if metric else "" for metric in metrics]
            rows.append((checkpoint.name, checkpoint.examination.verdict, *values))
        columns = ("checkpoint", "health", *(self.glossary[name].label for name in names))
        return notebook_html(f"{len(rows)} networks on the same views", columns, rows)

    def write(self, path: Path | str, *, figures: bool = False) -> list[Path]:  # type: ignore[override]
        """Writes diagnosis.json, distances.npz and diagnosis.html into a folder.

        Args:
            figures: also write the figures as PNG files for a paper.
        Raises:
            StudyError, CheckpointError: a file cannot be written; files written before are whole.
        """
        from augscale.reporting.diagnosis.page import write_diagnosis

        folder = Path(path)
        super().write(folder / "diagnosis.json")
        arrays = {f"{c.name}/{name}": array for c in self.checkpoints for name, array in c.distances.items()}
        # Compressing takes fifty times as long as writing and saves a fifth of the file.
        write_atomic(folder / DISTANCES, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
        written = write_diagnosis(folder, self, self.thumbnails, figures=figures)
        return [folder / "diagnosis.json", folder / DISTANCES, *written]
