"""What a checkpoint knows about its training besides the encoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from augscale.networks.layouts import Network
from augscale.networks.tensor_files import plain_settings


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingFacts:
    """What a checkpoint knows about its training besides the encoder."""

    out_dim: int | None = None
    """K, prototypes of the projection head; None where the file has no head."""
    center: Tensor | None = None
    """float32, shape (K,): DINO's running mean of the teacher's outputs."""
    epoch: int | None = None
    head: dict[str, Tensor] = field(default_factory=dict, repr=False)
    """Tensors of the projection head under the file's own names; {} without one."""
    args: dict[str, Any] = field(default_factory=dict)
    """The training's command line, plain JSON-ready values, e.g. arch, global_crops_scale, local_crops_scale."""
    non_finite: tuple[str, ...] = ()
    """Tensors of the network, its head or the center that hold NaN or infinity; () is healthy."""


def layout_kind(content: dict[Any, Any], network: Network) -> str:
    """ "DINO", "DINOv2", "RETFound" or "timm state dict", by what the file holds.

    A masked autoencoder in RETFound's layout is called so whoever trained it, and an official DINO file of the
    backbone alone is a timm state dict: nothing in these files tells them apart.
    """
    names = network.encoder
    if any(key.startswith("decoder_") for key in names) or (network.entry == "model" and "fc_norm.weight" in names):
        return "RETFound"
    if {"mask_token", "register_tokens", "blocks.0.mlp.w12.weight"} & names.keys():
        return "DINOv2"
    if network.role is not None or "dino_loss" in content:
        return "DINO"
    return "timm state dict"


def training_facts(content: dict[Any, Any], network: Network) -> TrainingFacts:
    """What a checkpoint knows about its training; absent or malformed entries are None or empty."""
    epoch = content.get("epoch")
    center = {} if network.center is None else {"center": network.center}
    return TrainingFacts(
        out_dim=network.out_dim,
        center=network.center,
        epoch=epoch if type(epoch) is int else None,
        head=network.head,
        args=plain_settings(content.get("args")),
        non_finite=non_finite_names(network.encoder | network.head | center),
    )


def non_finite_names(tensors: dict[str, Tensor]) -> tuple[str, ...]:
    """Names of the tensors that hold NaN or infinity."""
    return tuple(
        name for name, value in tensors.items() if value.is_floating_point() and not torch.isfinite(value.float()).all()
    )
