"""Predictions per image of one finished run, the input of every metric and comparison.

A run is kept as `NAME.csv`, which a person can open (`image_id,label,<class>...`, with a `patient` column after the
label where patients are known), and `NAME.json` with everything else. The JSON is written last and holds the CSV's
checksum, so a run counts as finished only if both files are whole; otherwise it counts as absent, with a note.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from augscale.errors import DataError
from augscale.evaluation.metrics import checked
from augscale.records.evaluation import FORMAT, PredictionFile
from augscale.runs.files import write_text_atomic
from augscale.statistics.arrays import Floats, Integers

_IN_JSON = (
    "protocol",
    "checkpoint",
    "trained_on",
    "tested_on",
    "seed",
    "classes",
    "selection",
    "seconds",
    "fingerprint",
)
"""Fields of `Predictions` that the JSON file holds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Class scores of one checkpoint under one protocol and seed on one test set.

    Raises:
        DataError: sizes do not fit, or scores are not finite probabilities.
    """

    protocol: str
    checkpoint: str
    trained_on: str
    """Dataset of the head's (or fine-tuning's) training images."""
    tested_on: str
    seed: int
    classes: tuple[str, ...]
    """Index = class number; class 0 is the normal one."""
    image_ids: tuple[str, ...]
    labels: Integers
    """int64, shape (N,)."""
    scores: Floats
    """float64, shape (N, K), rows sum to 1."""
    selection: Mapping[str, Any] = field(default_factory=dict)
    """Choices made on validation images (C, epoch, k, ...) and their validation score; plain JSON values."""
    seconds: float = 0.0
    groups: Integers | None = None
    """Patient of each image, int64, shape (N,); patients are then resampled instead of images. None where no two images
    share a patient."""
    fingerprint: str = ""
    """Hash of the weights, the data and the settings; the run is outdated if it changes."""

    def __post_init__(self) -> None:
        try:
            labels, scores = checked(self.labels, self.scores, self.classes)
        except DataError as error:
            raise DataError(f"{self.title}: {error}") from None
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "scores", scores)
        sizes = [len(self.image_ids)] + ([] if self.groups is None else [len(self.groups)])
        if any(size != len(labels) for size in sizes):
            raise DataError(f"{self.title}: {sizes} image ids and patients for {len(labels)} labels; expected as many")
        if self.groups is not None and len(np.unique(self.groups)) == len(labels):
            object.__setattr__(self, "groups", None)

    @property
    def title(self) -> str:
        """Name of this run in messages."""
        where = self.tested_on if self.trained_on == self.tested_on else f"{self.trained_on} to {self.tested_on}"
        return f"{self.checkpoint}, {self.protocol}, {where}, seed {self.seed}"

    @property
    def internal(self) -> bool:
        return self.trained_on == self.tested_on


def prediction_name(protocol: str, checkpoint: str, trained_on: str, tested_on: str, seed: int) -> str:
    """File name without suffix of a run: readable, and different for different runs whatever the names contain."""
    parts = [protocol, checkpoint, trained_on if trained_on == tested_on else f"{trained_on}-to-{tested_on}"]
    digest = hashlib.blake2b(json.dumps([protocol, checkpoint, trained_on, tested_on]).encode(), digest_size=4)
    words = "_".join(re.sub(r"[^A-Za-z0-9.+-]+", "-", part).strip("-.")[:40] or "x" for part in parts)
    return f"{words}_{digest.hexdigest()}_seed{seed}"


def write_predictions(folder: Path, predictions: Predictions) -> Path:
    """Writes one run; a crash at any moment leaves the run absent or whole.

    Args:
        folder: made where missing.
    Returns:
        The CSV's path.
    Raises:
        StudyError: the folder cannot be written or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    p = predictions
    path = folder / f"{prediction_name(p.protocol, p.checkpoint, p.trained_on, p.tested_on, p.seed)}.csv"
    text = _to_csv(p)
    details = PredictionFile(
        **{name: getattr(p, name) for name in _IN_JSON},
        images=len(p.labels),
        patients=p.groups is not None,
        csv_sha256=hashlib.sha256(text.encode()).hexdigest(),
    )
    path.with_suffix(".json").unlink(missing_ok=True)
    write_text_atomic(path, text)
    details.write(path.with_suffix(".json"))
    return path


def read_predictions(path: Path, *, fingerprint: str | None = None) -> tuple[Predictions | None, str]:
    """Reads a run back.

    Args:
        path: the CSV, as returned by `write_predictions`.
        fingerprint: the one that the run would have if it were made now; None accepts any.
    Returns:
        The run and "", or None and a note: "" where there is no such run, else one line that names the fault and says
        that the run is made again.
    """
    details_file = path.with_suffix(".json")
    if not path.exists() and not details_file.exists():
        return None, ""
    try:
        details = PredictionFile.read(details_file)
        text = path.read_bytes().decode("utf-8")
        if details.format != FORMAT:
            problem = f"format {details.format} is not {FORMAT}"
        elif hashlib.sha256(text.encode()).hexdigest() != details.csv_sha256:
            problem = f"differs from the checksum in {details_file.name}"
        elif fingerprint is not None and details.fingerprint != fingerprint:
            problem = "made from other weights, data or settings"
        else:
            return _from_csv(text, details), ""
    except (OSError, ValueError, KeyError, IndexError, DataError) as error:
        problem = f"cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        missing = next((file for file in (path, details_file) if not file.exists()), None)
        if missing is not None:
            problem = f"{missing.name} is missing, the run was cut short"
    return None, f"{path}: {problem}; this run is made again"


def _to_csv(p: Predictions) -> str:
    """Labels as class names; scores with enough digits to restore the same float64."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    patient = [] if p.groups is None else ["patient"]
    writer.writerow(["image_id", "label", *patient, *p.classes])
    for index, image_id in enumerate(p.image_ids):
        group = [] if p.groups is None else [int(p.groups[index])]
        scores = [repr(float(score)) for score in p.scores[index]]
        writer.writerow([image_id, p.classes[p.labels[index]], *group, *scores])
    return buffer.getvalue()


def _from_csv(text: str, details: PredictionFile) -> Predictions:
    number = {name: index for index, name in enumerate(details.classes)}
    rows: Sequence[Sequence[str]] = list(csv.reader(io.StringIO(text, newline="")))[1:]
    first = 3 if details.patients else 2
    scores = np.array([[float(s) for s in row[first:]] for row in rows], dtype=np.float64)
    return Predictions(
        **{name: getattr(details, name) for name in _IN_JSON},
        image_ids=tuple(row[0] for row in rows),
        labels=np.array([number[row[1]] for row in rows], dtype=np.int64),
        scores=scores.reshape(-1, len(details.classes)),
        groups=np.array([int(row[2]) for row in rows], dtype=np.int64) if details.patients else None,
    )
