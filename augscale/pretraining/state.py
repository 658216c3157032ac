"""The resumable state of a training run: one file, written atomically, loaded as plain data, checked on reading."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augscale.augmentation.scales import AugmentationScales
from augscale.config import StudyConfig
from augscale.errors import CheckpointError
from augscale.runs.files import write_atomic
from augscale.settings import changes, flatten

_FORMAT = 3
_FORMAT_OF_DINO = 2
"""Until 2026-11 every run was one of DINO, and its center had an entry of its own."""


class UnusableState(CheckpointError):
    """A saved state that this run cannot continue from."""


@dataclass(kw_only=True)
class Progress:
    """Records of a run so far, as plain values."""

    loss_history: list[tuple[int, float]] = field(default_factory=list)
    """(updates done, loss) at every logged step."""
    loss: float | None = None
    information: float | None = None
    rung_told: int = 0
    """Step of the last rung whose callback has returned."""
    seconds_by_part: dict[str, float] = field(default_factory=dict)
    micro_batches: dict[str, Any] | None = None
    """See `MicroBatches.saved`; None in states of earlier versions."""


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Everything that the next step needs and that is not a function of (seed, step)."""

    fingerprint: dict[str, str]
    """Fingerprint of the run that saved the state, see `run_fingerprint`."""
    step: int
    """Optimizer updates done."""
    student: dict[str, Tensor]
    """Backbone and head."""
    teacher: dict[str, Tensor]
    """The student's tensors once more for a method without teacher."""
    loss_state: dict[str, Tensor]
    """`Method.state`."""
    optimizer: dict[str, Any]
    meta: dict[str, Any]
    """Fields of `Progress`."""


def run_fingerprint(
    study: StudyConfig,
    seed: int,
    scales: AugmentationScales,
    image_shape: tuple[int, ...],
    indices: npt.NDArray[np.int64],
    *,
    patients: npt.NDArray[np.int64] | None = None,
) -> dict[str, str]:
    """Facts that must be equal for a state to be continued, by name, so that an error can say which differ.

    Args:
        patients: of every image, if the method reads them.
    """
    rows = _hash(indices)
    facts = {} if patients is None else {"patients": _hash(patients[indices])}
    return facts | {
        "settings": json.dumps(_decisive_settings(study)),
        "seed": str(seed),
        "scales": json.dumps(scales.model_dump(mode="json")),
        "images": f"{'x'.join(map(str, image_shape))} {rows}",
    }


def _hash(values: npt.NDArray[np.int64]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(values, dtype=np.int64).tobytes(), digest_size=16).hexdigest()


def _decisive_settings(study: StudyConfig) -> dict[str, Any]:
    """The settings that the result depends on, by dotted key."""
    flat = flatten(study.model_dump(mode="json", include={"backbone", "crops", "pretrain"}))
    return {key: value for key, value in flat.items() if key not in StudyConfig.FREE}


def _differences(saved: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Entries of the fingerprint that differ, with the changed settings."""
    defaults = {"settings": _decisive_settings(StudyConfig()), "scales": AugmentationScales().model_dump(mode="json")}
    found = []
    for name, value in wanted.items():
        if name not in defaults:
            found += [name] if saved.get(name) != value else []
        elif changed := changes(json.loads(saved[name]), json.loads(value), defaults[name]):
            found.append(f"{name} ({changed})")
    return found


def save_state(path: Path, state: TrainingState) -> None:
    """Writes the state atomically.

    Raises:
        CheckpointError: it cannot be written; an older state is intact.
    """
    content = {"format": _FORMAT} | {field.name: getattr(state, field.name) for field in fields(state)}
    write_atomic(path, lambda file: torch.save(content, file))


def load_state(path: Path, fingerprint: dict[str, str], content: bytes | None = None) -> TrainingState:
    """Reads a state, on the CPU, and checks that it belongs to this run.

    Args:
        path: the file.
        fingerprint: fingerprint of the run that continues.
        content: bytes of the file, if already read; `path` then appears in messages only.
    Raises:
        UnusableState: the file is damaged, of another format, or of a run with other settings, seed, scales or images.
    """
    remedy = "remove it to start from the first step"
    try:
        source = path if content is None else io.BytesIO(content)
        values = torch.load(source, map_location="cpu", weights_only=True)
        version = values.pop("format")
        if version == _FORMAT_OF_DINO:
            version, values["loss_state"] = _FORMAT, {"center": values.pop("center")}
        state = TrainingState(**values)
    except Exception:
        raise UnusableState(f"{path}: damaged, or not a training state; {remedy}") from None
    if version != _FORMAT:
        raise UnusableState(f"{path}: has format {version}; expected {_FORMAT}; {remedy}")
    if other := _differences(state.fingerprint, fingerprint):
        raise UnusableState(f"{path}: was saved by a run with other {', '.join(other)}; {remedy}")
    return state
