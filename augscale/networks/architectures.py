"""Finds the timm model that a state dict belongs to by the names and shapes of its tensors.

An architecture is a `BackboneConfig`: timm's name of a model, and the overrides that differ from timm's defaults.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from augscale.config import BackboneConfig
from augscale.errors import CheckpointError, ConfigError
from augscale.networks.foreign_names import untranslated_layout
from augscale.networks.tensor_files import State, listed, printable
from augscale.networks.timm_index import models_like, models_of, shapes_of, timm_model_of
from augscale.networks.vit_architectures import (
    count_blocks,
    depth,
    dinov3_architecture,
    is_dinov3,
    is_plain_vit,
    vit_architecture,
)

_RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
"""timm's name, by the numbers of blocks of the four stages and a flag for bottleneck blocks."""
_LISTED_FAMILY = 8


def parse_arch(arch: str, text: str) -> BackboneConfig:
    """An architecture given as "NAME" or "NAME,key=value,..."; values are parsed as JSON where possible.

    Raises:
        ConfigError: a part is not key=value, or a value has a type that no override takes; the message begins with
            `text`.
    """
    name, *assignments = [part.strip() for part in arch.split(",")]
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{text}: --arch {arch}: {assignment!r} is not key=value")
        try:
            overrides[key.strip()] = json.loads(value)
        except ValueError:
            overrides[key.strip()] = value.strip()
    try:
        return BackboneConfig(name=name, overrides=overrides)
    except ValidationError as error:
        raise ConfigError(f"{text}: {error.errors()[0]['msg']} in {overrides}") from None


def with_defaults(architecture: BackboneConfig, overrides: dict[str, Any]) -> BackboneConfig:
    """The architecture with further overrides; its own take precedence."""
    return architecture.model_copy(update={"overrides": overrides | architecture.overrides})


def check_sizes(architecture: BackboneConfig, state: State, path: Path) -> None:
    """Compares depth and width with the tensors before building anything: a sidecar may ask for a billion blocks."""
    weight = state.get("patch_embed.proj.weight")
    found = {"depth": depth(state) or None, "embed_dim": None if weight is None else weight.shape[0]}
    for setting, value in found.items():
        wanted = architecture.overrides.get(setting, value)
        if value is not None and wanted != value:
            raise CheckpointError(f"{path}: has {setting} {value}; {architecture.name} was to have {wanted}")


def infer_architecture(
    state: State,
    source: Path,
    settings: dict[str, Any] | None = None,
    *,
    named: Sequence[str] = (),
    num_heads: int | None = None,
) -> BackboneConfig:
    """The architecture that a state dict belongs to.

    Args:
        state: under timm's names, on any device.
        source: the file, for messages.
        settings: official DINO's command line if the file stores it; compared with the tensors.
        named: models that the file itself names; they decide if the tensors fit several models.
        num_heads: attention heads of a ViT, if the file states them; None: as in published families of its width.
    Raises:
        CheckpointError: no model of timm fits, several fit that compute different things, or a ViT's number of heads
            is unknown; the message suggests `--arch`.
    """
    if not is_plain_vit(state) and not _is_plain_resnet(state):
        known = timm_model_of(state, source, named)
        if known is not None:
            return BackboneConfig(name=known)
    if is_dinov3(state):
        return dinov3_architecture(state, source, num_heads)
    if "patch_embed.proj.weight" in state:
        found = vit_architecture(state, source, settings or {}, num_heads)
        # A timm model with exactly these tensors may have another number of heads than is usual for this width.
        known = timm_model_of(state, source, named) if found.overrides else None
        return found if known is None else BackboneConfig(name=known)
    if "conv1.weight" in state and "layer1.0.conv1.weight" in state:
        return _resnet(state, source)
    raise CheckpointError(f"{source}: {_unknown(state)}")


def _is_plain_resnet(state: State) -> bool:
    """True if all tensors are those of one of torchvision's five ResNets."""
    if not ("conv1.weight" in state and "layer1.0.conv1.weight" in state):
        return False
    return any(name in _RESNETS.values() for names in models_of(state) for name in names)


def _resnet(state: State, source: Path) -> BackboneConfig:
    blocks = tuple(count_blocks(state, rf"layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    bottleneck = "layer1.0.conv3.weight" in state
    name = _RESNETS.get((blocks, bottleneck))
    if name is None:
        known = ", ".join(_RESNETS.values())
        raise CheckpointError(
            f"{source}: a ResNet of {blocks} {'bottleneck' if bottleneck else 'basic'} blocks; expected {known}, "
            "or the name of another timm model with --arch NAME"
        )
    return BackboneConfig(name=name)


def _unknown(state: State) -> str:
    family = models_like(shapes_of(state))
    if family:
        return (
            f"has the tensors of {listed(family, _LISTED_FAMILY)} in other sizes; name the timm model with --arch NAME "
            "or --arch NAME,key=value,..."
        )
    layout = untranslated_layout(state)
    if layout is not None:
        return (
            f"{layout}, whose names are not translated; give timm's own weights of that network "
            "(timm:NAME, or a file under timm's names)"
        )
    return (
        "neither a ViT nor a ResNet nor another network under timm's names (tensors: "
        f"{', '.join(map(printable, list(state)[:3]))}, ...); expected DINO, DINOv2, DINOv3, MoCo, MAE, RETFound, "
        "I-JEPA or timm weights, or ViTs of Hugging Face or torchvision; name another timm model with --arch NAME"
    )
