"""The committed CSVs, read into arrays: runs, scores and outcomes with their draws."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from augscale.errors import DataError
from benchmarks.evidence.collect import RUN_COLUMNS
from benchmarks.evidence.scores import BETTER_LOW

Floats = npt.NDArray[np.float64]

LADDER = ("strong@0.25", "strong@0.5", "strong")
LADDER_LEVEL = "ladder"
"""Mean over the levels of the ladder."""
CROP_LADDER = ("crops@0.5", "crops")
CROP_LADDER_LEVEL = "crop ladder"
"""Mean over levels without changes of color."""
TRAINING_LEVEL = "training"
"""Level of what training itself says: loss and information."""
SCALES_LEVEL = "scales"
"""Level of what the scales themselves say, without a network: crop_area and jitter."""
MEAN = "mean of real"
"""The mean over the real datasets, in place of a dataset."""
CONTROLLED = ("synthetic_lesions", "aptos2019_grey")
"""Datasets that are no photographs as they are; left out of the mean."""
_DRAW_SCALE = 10_000


@dataclass(frozen=True, kw_only=True)
class Score:
    """Which number of a run is the score."""

    metric: str
    level: str = LADDER_LEVEL
    layer: str = "embedding"

    @property
    def label(self) -> str:
        """E.g. "pair_auroc, own views"."""
        known = {LADDER_LEVEL: "", TRAINING_LEVEL: "", SCALES_LEVEL: " of the scales", "own": ", own views"}
        place = known.get(self.level, f", {self.level}")
        return self.metric + place + ("" if self.layer == "embedding" else f" ({self.layer})")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run or baseline."""

    run: str
    name: str
    kind: str
    seed: int
    parts: tuple[str, ...]
    state: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Everything in the CSVs.

    fractions: the rungs, rising, 1 last. scores: by (run, fraction, layer, level) and metric. training: by (run,
    fraction) and "loss" or "information". outcomes: by (run, fraction, dataset, protocol): AUROC, AUPR. draws: by
    (run, dataset, protocol): AUROC, float64, shape (R,). scales: by name of the scales and field. labels: by (run,
    dataset, size, value), see `label_draws`: AUROC of each draw; empty where the study has none.
    """

    runs: dict[str, Run]
    fractions: tuple[float, ...]
    scores: dict[tuple[str, float, str, str], dict[str, float]]
    training: dict[tuple[str, float], dict[str, float]]
    outcomes: dict[tuple[str, float, str, str], tuple[float, float]]
    draws: dict[tuple[str, str, str], Floats]
    datasets: tuple[str, ...]
    scales: dict[str, dict[str, float]]
    labels: dict[tuple[str, str, int, str], Floats]

    @property
    def real_datasets(self) -> tuple[str, ...]:
        return tuple(name for name in self.datasets if name not in CONTROLLED)

    def of_part(self, part: str) -> list[Run]:
        """Complete training runs of a part, by name and seed."""
        found = [
            run for run in self.runs.values() if run.kind == "run" and part in run.parts and run.state == "complete"
        ]
        return sorted(found, key=lambda run: (run.name, run.seed))

    def baselines(self, kind: str) -> list[Run]:
        return sorted((run for run in self.runs.values() if run.kind == kind), key=lambda run: run.seed)

    def score(self, runs: Sequence[Run], score: Score, fraction: float = 1.0) -> Floats:
        """One value per run, turned so that higher is better; NaN where there is none."""
        sign = -1.0 if score.metric in BETTER_LOW else 1.0
        return sign * np.array([self._one_score(run.run, score, fraction) for run in runs])

    def auroc(self, runs: Sequence[Run], dataset: str, protocol: str, fraction: float | None = None) -> Floats:
        """AUROC of each run; NaN where there is none. MEAN averages over the real datasets.

        Args:
            fraction: None takes each run's last (0 for baselines).
        """
        if dataset == MEAN:
            return np.mean([self.auroc(runs, name, protocol, fraction) for name in self.real_datasets], axis=0)
        found = []
        for run in runs:
            at = fraction if fraction is not None else (1.0 if run.kind in ("run", "null") else 0.0)
            found.append(self.outcomes.get((run.run, at, dataset, protocol), (np.nan, np.nan))[0])
        return np.array(found)

    def auroc_draws(self, runs: Sequence[Run], dataset: str, protocol: str) -> Floats | None:
        """AUROC on resampled images, shape (R, runs); None where any run has none."""
        if dataset == MEAN:
            parts = [self.auroc_draws(runs, name, protocol) for name in self.real_datasets]
            known = [part for part in parts if part is not None]
            return np.mean(known, axis=0) if known and len(known) == len(parts) else None
        columns = [self.draws.get((run.run, dataset, protocol)) for run in runs]
        found = [column for column in columns if column is not None]
        return np.stack(found, axis=1) if found and len(found) == len(columns) else None

    def _one_score(self, run: str, score: Score, fraction: float) -> float:
        if score.level == SCALES_LEVEL:
            return _scales_alone(self.scales.get(self.runs[run].name, {}), score.metric)
        if score.level == TRAINING_LEVEL:
            return self.training.get((run, fraction), {}).get(score.metric, np.nan)
        levels = {LADDER_LEVEL: LADDER, CROP_LADDER_LEVEL: CROP_LADDER}.get(score.level, (score.level,))
        values = [
            self.scores.get((run, fraction, score.layer, level), {}).get(score.metric, np.nan) for level in levels
        ]
        return float(np.mean(values))


def read_evidence(folder: Path) -> Evidence:
    """Reads the CSVs of a folder.

    Raises:
        DataError: one is missing or lacks a column.
    """
    runs: dict[str, Run] = {}
    named_scales: dict[str, dict[str, float]] = {}
    training: dict[tuple[str, float], dict[str, float]] = {}
    for row in _rows(folder / "runs.csv", ("run", "name", "kind", "seed", "parts", "state", "fraction")):
        runs[row["run"]] = Run(
            run=row["run"],
            name=row["name"],
            kind=row["kind"],
            seed=int(row["seed"]),
            parts=tuple(row["parts"].split()),
            state=row["state"],
        )
        fields = list(row)[len(RUN_COLUMNS) + 1 :]  # after the column "seconds"
        if any(row[name] for name in fields):
            named_scales[row["name"]] = {name: _number(row[name]) for name in fields}
        if row["fraction"]:
            values = {name: _number(row[name]) for name in ("loss", "information")}
            training[row["run"], float(row["fraction"])] = values
    scores = {
        (row["run"], float(row["fraction"]), row["layer"], row["level"]): {
            name: _number(value) for name, value in row.items() if name not in ("run", "fraction", "layer", "level")
        }
        for row in _rows(folder / "scores.csv", ("run", "fraction", "layer", "level"))
    }
    outcomes: dict[tuple[str, float, str, str], tuple[float, float]] = {}
    columns = ("run", "dataset", "protocol", "auroc", "aupr")
    for name in ("outcomes.csv", "baselines.csv"):
        for row in _rows(folder / name, columns):
            key = row["run"], float(row.get("fraction", 0.0)), row["dataset"], row["protocol"]
            outcomes[key] = float(row["auroc"]), float(row["aupr"])
    return Evidence(
        runs=runs,
        fractions=tuple(sorted({fraction for _, fraction in training if fraction > 0})),
        scores=scores,
        training=training,
        outcomes=outcomes,
        draws=_draws(folder / "draws.csv"),
        scales=named_scales,
        labels=_labels(folder / "labels.csv"),
        datasets=tuple(dict.fromkeys(dataset for _, fraction, dataset, _ in outcomes if fraction in (0.0, 1.0))),
    )


def _draws(file: Path) -> dict[tuple[str, str, str], Floats]:
    found = {}
    for row in _rows(file, ("run", "dataset", "protocol")):
        numbers = [float(value) for name, value in row.items() if name.startswith("draw") and value]
        found[row["run"], row["dataset"], row["protocol"]] = np.array(numbers) / _DRAW_SCALE
    return found


def _labels(file: Path) -> dict[tuple[str, str, int, str], Floats]:
    if not file.exists():
        return {}
    found = {}
    for row in _rows(file, ("run", "dataset", "size", "value")):
        numbers = [float(value) for name, value in row.items() if name.startswith("draw") and value]
        found[row["run"], row["dataset"], int(row["size"]), row["value"]] = np.array(numbers) / _DRAW_SCALE
    return found


def _scales_alone(scales: dict[str, float], metric: str) -> float:
    """What a baseline without a network says of scales; NaN where they are not known.

    Args:
        scales: fields as columns of runs.csv.
        metric: "crop_area", the middle of the range of a global crop's area, or "jitter", strength times probability.
    """
    if not scales:
        return np.nan
    if metric == "crop_area":
        return (scales["global_crops_scale_0"] + scales["global_crops_scale_1"]) / 2
    return scales["brightness"] * scales["jitter_p"]


def _rows(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            reader = csv.DictReader(opened)
            rows = list(reader)
            header = reader.fieldnames or []
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); expected a CSV of `collect`") from None
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(f"{file}: no column {', '.join(missing)}; found {', '.join(header[:8])}")
    return rows


def _number(text: str) -> float:
    return float(text) if text else float("nan")
