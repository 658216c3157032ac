"""Facts on the training of a checkpoint, from its file or a log beside it: scales, loss, information of the head."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from augscale.augmentation.scales import STRONG, AugmentationScales
from augscale.diagnosis.examination import TrainingSigns
from augscale.networks.checkpoints import LoadedCheckpoint
from augscale.pretraining.dino import information, teacher_probabilities

OFFICIAL_LOG = "log.txt"
"""Official DINO appends a JSON object per epoch to this file beside its checkpoints."""
DEFAULT_TEACHER_TEMP = 0.04
_LAYER = re.compile(r"(?:.*\.)?mlp\.(\d+)\.(weight|bias|running_mean|running_var)$")
_LAST = re.compile(r"(?:.*\.)?last_layer\.(weight|weight_v|weight_g|parametrizations\.weight\.original[01])$")
_BATCH_NORM_EPS = 1e-5


def trained_scales(checkpoint: LoadedCheckpoint) -> AugmentationScales | None:
    """Scales that a checkpoint was trained with, from the sidecar or official DINO's arguments; None if unknown."""
    if checkpoint.sidecar.scales is not None:
        return AugmentationScales.model_validate(checkpoint.sidecar.scales)
    arguments = checkpoint.training.args
    crops = {name: arguments.get(name) for name in ("global_crops_scale", "local_crops_scale")}
    if not all(_is_area(value) for value in crops.values()):
        return None
    # Official DINO fixes jitter, blur and solarise in its code; they are those of strong.
    return AugmentationScales.model_validate(STRONG.model_dump() | crops)


def training_signs(checkpoint: LoadedCheckpoint, clean: npt.ArrayLike | None = None) -> TrainingSigns | None:
    """Loss and information at the end of training.

    Both come from the sidecar of augscale if there is one. For other files the loss comes from official DINO's log
    beside the file, and the information from the projection head if the file holds one.

    Args:
        checkpoint: the loaded checkpoint.
        clean: float, shape (n, D): its embeddings of photographs, for the head; None leaves the head out.
    """
    own = checkpoint.sidecar.training
    if own is not None:
        # A sidecar that names its method also states the chance loss, or None if the method has no single one.
        states_chance_loss = checkpoint.sidecar.method is not None
        return TrainingSigns(
            loss=own.loss,
            out_dim=None if states_chance_loss else own.out_dim,
            chance_loss=own.chance_loss,
            information=own.information,
            source="sidecar",
        )
    facts = checkpoint.training
    loss = _logged_loss(Path(checkpoint.path).with_name(OFFICIAL_LOG), facts.epoch)
    found = None if clean is None or not facts.head else head_information(facts.head, clean, facts.center, facts.args)
    if loss is None and found is None:
        return None
    sources = [OFFICIAL_LOG] * (loss is not None) + ["the file's head"] * (found is not None)
    return TrainingSigns(loss=loss, out_dim=facts.out_dim, information=found, source=", ".join(sources))


def _logged_loss(log: Path, epoch: int | None) -> float | None:
    """The last loss logged before `epoch`, which in official files is the next epoch; None: the last one in the log."""
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


def head_information(
    head: Mapping[str, Tensor], embeddings: npt.ArrayLike, center: Tensor | None, args: Mapping[str, Any]
) -> float | None:
    """Mutual information of image and sharpened head output, nats, see `dino.information`.

    Official DINO's head: linear layers with GELU (and batch norm in between), L2 normalization, a weight-normalized
    last layer (`DINOHead`).

    Args:
        head: the head's tensors under official names, with or without a prefix.
        embeddings: float, shape (n, D).
        center: shape (K,), subtracted before sharpening; None: the mean of the outputs, towards which the center moves.
        args: arguments of the training; only `teacher_temp` is used, if present.
    Returns:
        In [0, ln n], or None if the tensors are not such a head or do not fit the embeddings.
    """
    try:
        logits = _logits(head, torch.as_tensor(np.asarray(embeddings), dtype=torch.float32))
    except (KeyError, RuntimeError, IndexError):
        return None
    if center is None or center.shape[-1] != logits.shape[1]:
        center = logits.mean(dim=0)
    temp = args.get("teacher_temp")
    temp = float(temp) if isinstance(temp, (int, float)) and temp > 0 else DEFAULT_TEACHER_TEMP
    value = float(information(teacher_probabilities(logits, center.reshape(-1).float(), temp)))
    return value if np.isfinite(value) else None


def _logits(head: Mapping[str, Tensor], points: Tensor) -> Tensor:
    layers: dict[int, dict[str, Tensor]] = {}
    last: dict[str, Tensor] = {}
    for name, tensor in head.items():
        if "ibot" in name:
            continue  # the second head of iBOT and DINOv2, which reads patch tokens
        if match := _LAYER.match(name):
            layers.setdefault(int(match[1]), {})[match[2]] = tensor.float()
        elif match := _LAST.match(name):
            last[match[1].rsplit(".", 1)[-1]] = tensor.float()
    order = sorted(layers)
    for place, index in enumerate(order):
        layer = layers[index]
        if "running_mean" in layer:
            points = F.batch_norm(
                points, layer["running_mean"], layer["running_var"], layer["weight"], layer["bias"], eps=_BATCH_NORM_EPS
            )
        else:
            points = F.linear(points, layer["weight"], layer.get("bias"))
        # GELU follows every hidden layer, after its batch norm if there is one.
        next_is_norm = place + 1 < len(order) and "running_mean" in layers[order[place + 1]]
        if place + 1 < len(order) and not next_is_norm:
            points = F.gelu(points)
    points = F.normalize(points, dim=-1)
    gain = last.get("weight_g", last.get("original0"))
    direction = last[next((key for key in ("weight_v", "original1") if key in last), "weight")]
    weight = direction if gain is None else gain.reshape(-1, 1) * F.normalize(direction, dim=1)
    return F.linear(points, weight)
