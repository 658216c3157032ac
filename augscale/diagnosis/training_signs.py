"""What a checkpoint file, or a log beside it, still tells about the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy.typing as npt

from augscale.augmentation.scales import STRONG, AugmentationScales
from augscale.diagnosis.checkpoint_doctor import TrainingSigns
from augscale.diagnosis.head_signs import head_information
from augscale.networks.checkpoints import LoadedCheckpoint

OFFICIAL_LOG = "log.txt"
"""Official DINO appends a JSON object per epoch to this file beside its checkpoints."""


def trained_scales(checkpoint: LoadedCheckpoint) -> AugmentationScales | None:
    """The scales that a checkpoint was trained with: from our sidecar, or official DINO's arguments, else None."""
    if checkpoint.sidecar.scales is not None:
        return AugmentationScales.model_validate(checkpoint.sidecar.scales)
    arguments = checkpoint.training.args
    crops = {name: arguments.get(name) for name in ("global_crops_scale", "local_crops_scale")}
    if not all(_is_area(value) for value in crops.values()):
        return None
    # Its jitter, blur and solarise are fixed in its code, and are those of strong.
    return AugmentationScales.model_validate(STRONG.model_dump() | crops)


def training_signs(checkpoint: LoadedCheckpoint, clean: npt.ArrayLike | None = None) -> TrainingSigns | None:
    """Loss and information at the end of training.

    From our sidecar; for other files the loss from official DINO's log beside the file, and the information from the
    projection head where the file holds one.

    Args:
        checkpoint: as loaded.
        clean: float, shape (n, D): its embeddings of photographs, for the head; None leaves the head out.
    """
    own = checkpoint.sidecar.training
    if own is not None:
        return TrainingSigns(loss=own.loss, out_dim=own.out_dim, information=own.information, source="sidecar")
    facts = checkpoint.training
    loss = _logged_loss(Path(checkpoint.path).with_name(OFFICIAL_LOG), facts.epoch)
    told = None if clean is None or not facts.head else head_information(facts.head, clean, facts.center, facts.args)
    if loss is None and told is None:
        return None
    sources = [OFFICIAL_LOG] * (loss is not None) + ["the file's head"] * (told is not None)
    return TrainingSigns(loss=loss, out_dim=facts.out_dim, information=told, source=", ".join(sources))


def _logged_loss(log: Path, epoch: int | None) -> float | None:
    """The loss of the checkpoint's epoch, or of the last one logged; official files hold the number of the next."""
    try:
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError):
        return None
    losses = [(line.get("epoch"), line.get("train_loss")) for line in lines if isinstance(line, dict)]
    usable = [(e, float(loss)) for e, loss in losses if isinstance(loss, (int, float))]
    before = [loss for e, loss in usable if epoch is None or (isinstance(e, int) and e < epoch)]
    return before[-1] if before else None


def _is_area(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(x, (int, float)) for x in value)
        and 0 < value[0] <= value[1] <= 1
    )
