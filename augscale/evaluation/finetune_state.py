"""The resumable state of a fine-tuning: one file per seed, written whole after every epoch, read as data only."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from augscale.errors import CheckpointError
from augscale.runs.files import write_atomic

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class FinetuneState:
    """Everything that the next epoch needs and that is not a function of (seed, epoch)."""

    key: str
    """Hash of what the run was started with."""
    epoch: int
    """Epochs done."""
    network: dict[str, Tensor] | None
    """Weights of backbone and head; None when all epochs are done, because only the best are needed then."""
    optimizer: dict[str, Any] | None
    best: dict[str, Tensor]
    """Weights after the best epoch."""
    meta: dict[str, Any]
    """Plain values: best epoch and its score, losses and scores of all epochs, seconds."""


def save_state(path: Path, state: FinetuneState) -> None:
    """Writes the state atomically.

    Raises:
        CheckpointError: it cannot be written; an older state is intact.
    """
    content = {"format": _FORMAT} | {field.name: getattr(state, field.name) for field in fields(state)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{path.parent}: cannot be made ({error.strerror})") from None
    write_atomic(path, lambda file: torch.save(content, file))


def load_state(path: Path, key: str) -> FinetuneState | None:
    """Reads a state, on the CPU; None where there is none.

    Raises:
        CheckpointError: damaged, or not of this run.
    """
    if not path.exists():
        return None
    remedy = "remove it to start from the first epoch"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        version = content.pop("format")
        state = FinetuneState(**content)
    except Exception:
        raise CheckpointError(f"{path}: damaged, or not the state of a fine-tuning; {remedy}") from None
    if version != _FORMAT or state.key != key:
        raise CheckpointError(f"{path}: was saved by a run with other settings, weights or images; {remedy}")
    return state
