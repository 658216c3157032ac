"""What a projection head that lies in a checkpoint still says about images: is the loss stuck, do outputs differ?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from augscale.pretraining.dino import information, teacher_probabilities

DEFAULT_TEACHER_TEMP = 0.04
_LAYER = re.compile(r"(?:.*\.)?mlp\.(\d+)\.(weight|bias|running_mean|running_var)$")
_LAST = re.compile(r"(?:.*\.)?last_layer\.(weight|weight_v|weight_g|parametrizations\.weight\.original[01])$")
_BATCH_NORM_EPS = 1e-5


def head_information(
    head: Mapping[str, Tensor], embeddings: npt.ArrayLike, center: Tensor | None, args: Mapping[str, Any]
) -> float | None:
    """Nats that the head's sharpened outputs say about the image, see `dino.information`.

    Official DINO's head: linear layers with GELU (and batch norm in between), L2 normalisation, a weight-normalised
    last layer (`DINOHead`).

    Args:
        head: the head's tensors under official names, with or without a prefix.
        embeddings: float, shape (n, D).
        center: shape (K,), subtracted before sharpening; None subtracts the outputs' own mean, towards which it moves.
        args: the training's arguments; `teacher_temp` is used where it is there.
    Returns:
        In [0, ln n], or None where the tensors are not such a head or do not fit the embeddings.
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
        # GELU follows every hidden layer, after its batch norm where there is one.
        next_is_norm = place + 1 < len(order) and "running_mean" in layers[order[place + 1]]
        if place + 1 < len(order) and not next_is_norm:
            points = F.gelu(points)
    points = F.normalize(points, dim=-1)
    gain = last.get("weight_g", last.get("original0"))
    direction = last[next((key for key in ("weight_v", "original1") if key in last), "weight")]
    weight = direction if gain is None else gain.reshape(-1, 1) * F.normalize(direction, dim=1)
    return F.linear(points, weight)
