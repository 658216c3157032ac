"""Predictions per image of one finished run: what every metric and comparison is computed from.

A run is kept as `NAME.csv`, which a person can open (`image_id,label,<class>...`, with a `patient` column after the
label where patients are known), and `NAME.json` with everything else. The JSON is written last and holds the CSV's
checksum, so a run counts as finished only when both are whole; anything else is treated as absent, with a note.
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
from augscale.evaluation.metrics import Floats, Integers, checked
from augscale.runs.files import write_json, write_text_atomic

FORMAT = 1


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
    """What was chosen on validation images (C, epoch, k, ...) and its validation score; plain JSON values."""
    seconds: float = 0.0
    groups: Integers | None = None
    """Patient of each image, int64, shape (N,), where two images share one: then patients are resampled, not images.
    None otherwise, also where every image was given a patient of its own."""
    fingerprint: str = ""
    """Of everything that the result depends on (weights, data, settings): another one makes the run outdated."""

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
        """How messages call this run."""
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
    details = {
        "format": FORMAT,
        "protocol": p.protocol,
        "checkpoint": p.checkpoint,
        "trained_on": p.trained_on,
        "tested_on": p.tested_on,
        "seed": p.seed,
        "classes": list(p.classes),
        "images": len(p.labels),
        "patients": p.groups is not None,
        "selection": dict(p.selection),
        "seconds": p.seconds,
        "fingerprint": p.fingerprint,
        "csv_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    path.with_suffix(".json").unlink(missing_ok=True)
    write_text_atomic(path, text)
    write_json(path.with_suffix(".json"), details)
    return path


def read_predictions(path: Path, *, fingerprint: str | None = None) -> tuple[Predictions | None, str]:
    """Reads a run back.

    Args:
        path: the CSV, as returned by `write_predictions`.
        fingerprint: what the run would have if made now; None accepts any.
    Returns:
        The run and "", or None and why: "" where there is simply none, else one line that says what is wrong and that
        the run is to be made again.
    """
    details_file = path.with_suffix(".json")
    if not path.exists() and not details_file.exists():
        return None, ""
    try:
        details = json.loads(details_file.read_text(encoding="utf-8"))
        text = path.read_bytes().decode("utf-8")
        if details["format"] != FORMAT:
            return None, f"{path}: format {details['format']} is not {FORMAT}; this run is made again"
        if hashlib.sha256(text.encode()).hexdigest() != details["csv_sha256"]:
            return None, f"{path}: differs from the checksum in {details_file.name}; this run is made again"
        if fingerprint is not None and details["fingerprint"] != fingerprint:
            return None, f"{path}: made from other weights, data or settings; this run is made again"
        return _from_csv(text, details), ""
    except FileNotFoundError as error:
        return None, f"{error.filename}: missing, the run was cut short; this run is made again"
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, DataError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return None, f"{path}: cannot be read ({reason}); this run is made again"


def read_all(folder: Path) -> tuple[tuple[Predictions, ...], tuple[str, ...]]:
    """Every whole run of a folder, in order of file names, and a note for each that is not."""
    found, notes = [], []
    names = {path.with_suffix(".csv") for pattern in ("*_seed*.csv", "*_seed*.json") for path in folder.glob(pattern)}
    for path in sorted(names):
        predictions, note = read_predictions(path)
        if predictions is not None:
            found.append(predictions)
        elif note:
            notes.append(note)
    return tuple(found), tuple(notes)


def _to_csv(p: Predictions) -> str:
    """Labels as class names; scores with as many digits as give the same float64 back."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    patient = [] if p.groups is None else ["patient"]
    writer.writerow(["image_id", "label", *patient, *p.classes])
    for index, image_id in enumerate(p.image_ids):
        group = [] if p.groups is None else [int(p.groups[index])]
        scores = [repr(float(score)) for score in p.scores[index]]
        writer.writerow([image_id, p.classes[p.labels[index]], *group, *scores])
    return buffer.getvalue()


def _from_csv(text: str, details: Mapping[str, Any]) -> Predictions:
    classes = tuple(details["classes"])
    number = {name: index for index, name in enumerate(classes)}
    rows: Sequence[Sequence[str]] = list(csv.reader(io.StringIO(text, newline="")))[1:]
    first = 3 if details["patients"] else 2
    return Predictions(
        protocol=details["protocol"],
        checkpoint=details["checkpoint"],
        trained_on=details["trained_on"],
        tested_on=details["tested_on"],
        seed=details["seed"],
        classes=classes,
        image_ids=tuple(row[0] for row in rows),
        labels=np.array([number[row[1]] for row in rows], dtype=np.int64),
        scores=np.array([[float(s) for s in row[first:]] for row in rows], dtype=np.float64).reshape(-1, len(classes)),
        selection=details["selection"],
        seconds=details["seconds"],
        groups=np.array([int(row[2]) for row in rows], dtype=np.int64) if details["patients"] else None,
        fingerprint=details["fingerprint"],
    )
