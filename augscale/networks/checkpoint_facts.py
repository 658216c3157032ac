"""Facts about a checkpoint besides its weights: its training, its layout, and the config files in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from augscale.errors import CheckpointError
from augscale.networks.checkpoint_paths import HUB_CONFIG, HUB_INDEX, HUB_WEIGHTS
from augscale.networks.find_network import Network
from augscale.networks.tensor_files import State, plain_settings, printable, read_json_object

_PREPROCESSOR = "preprocessor_config.json"
_ACTIVATIONS = ("gelu", "gelu_python", "silu", "swish")
_ROPE_THETA = 100.0
_MOCO_NETWORKS = ("base_encoder.", "momentum_encoder.")
_MOCO_WIDTH, _MOCO_HEADS = 384, 12


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingFacts:
    """Facts about the training that a checkpoint stores besides the encoder."""

    out_dim: int | None = None
    """K, prototypes of the projection head; None if the file has no head."""
    center: Tensor | None = None
    """DINO's running mean of the teacher's outputs, float32, shape (K,)."""
    epoch: int | None = None
    head: State = field(default_factory=dict, repr=False)
    """Tensors of the projection head under the file's own names; {} without one."""
    args: dict[str, Any] = field(default_factory=dict)
    """The training's command line, plain JSON-ready values, e.g. arch, global_crops_scale, local_crops_scale."""
    non_finite: tuple[str, ...] = ()
    """Tensors of the network, its head or the center that hold NaN or infinity; normally ()."""


def training_facts(content: dict[Any, Any], network: Network) -> TrainingFacts:
    """The facts in a file; absent or malformed entries become None or empty."""
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


def non_finite_names(tensors: State) -> tuple[str, ...]:
    """Names of the tensors that hold NaN or infinity."""
    return tuple(
        name for name, value in tensors.items() if value.is_floating_point() and not torch.isfinite(value.float()).all()
    )


def layout_kind(content: dict[Any, Any], network: Network) -> str:
    """The layout of a file: "DINO", "DINOv2", "RETFound" or "timm state dict".

    Some files cannot be distinguished: every masked autoencoder in RETFound's layout is called RETFound, and an
    official DINO file with the backbone alone is called a timm state dict.
    """
    names = network.encoder.keys()
    in_model = network.entries[-1:] == ("model",)
    if any(key.startswith("decoder_") for key in names) or (in_model and "fc_norm.weight" in names):
        return "RETFound"
    if {"mask_token", "register_tokens", "blocks.0.mlp.w12.weight"} & names:
        return "DINOv2"
    if {"teacher", "student"} & {*network.entries, network.taken} or "dino_loss" in content:
        return "DINO"
    return "timm state dict"


def moco_heads(content: Mapping[Any, Any], state: State, path: Path) -> int | None:
    """Attention heads of a ViT that MoCo v3's own code wrote: 12 in its ViT-S, which has 6 everywhere else.

    None if MoCo v3 did not write the file, or the width determines the heads.

    Raises:
        CheckpointError: both numbers are possible.
    """
    patches, arch = state.get("patch_embed.proj.weight"), content.get("arch")
    entries = content.get("state_dict")
    names = [name for name in entries if type(name) is str] if isinstance(entries, dict) else []
    in_moco = any(name.removeprefix("module.").startswith(_MOCO_NETWORKS) for name in names)
    if not in_moco or patches is None or patches.shape[0] != _MOCO_WIDTH:
        return None
    if arch == "vit_small":
        return _MOCO_HEADS
    if type(arch) is str and timm.is_model(arch):
        return None
    raise CheckpointError(
        f"{path}: a ViT {_MOCO_WIDTH} wide in the layout of MoCo v3, whose own ViT-S has {_MOCO_HEADS} attention "
        f"heads, others 6; say which with --arch vit_small_patch16_224,num_heads={_MOCO_HEADS} or num_heads=6"
    )


@dataclass(frozen=True, kw_only=True)
class HubConfig:
    """Facts from the JSON files beside weights of Hugging Face or timm; all None if there are none."""

    arch: str | None = None
    """timm's name of the model."""
    num_heads: int | None = None
    norm_eps: float | None = None
    image_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def hub_config(path: Path) -> HubConfig:
    """Reads the JSON files beside a weights file.

    Raises:
        CheckpointError: a config cannot be read, or asks for a computation that timm's network does not do.
    """
    file = path.parent / HUB_CONFIG
    if path.name not in (*HUB_WEIGHTS, HUB_INDEX) or not file.is_file():
        return HubConfig()
    values = read_json_object(file)
    if isinstance(values.get("architecture"), str):
        return _of_timm(values)
    activation = values.get("hidden_act", _ACTIVATIONS[0])
    if activation not in _ACTIVATIONS:
        raise CheckpointError(f"{file}: hidden_act = {printable(str(activation))}; timm's networks compute gelu")
    theta = values.get("rope_theta", _ROPE_THETA)
    if values.get("model_type") == "dinov3_vit" and theta != _ROPE_THETA:
        raise CheckpointError(f"{file}: rope_theta = {theta}; timm's DINOv3 has 100")
    processor = path.parent / _PREPROCESSOR
    seen = read_json_object(processor) if processor.is_file() else {}
    eps = values.get("layer_norm_eps")
    return HubConfig(
        num_heads=_positive_int(values.get("num_attention_heads")),
        norm_eps=float(eps) if isinstance(eps, int | float) and not isinstance(eps, bool) and eps > 0 else None,
        image_size=_positive_int(values.get("image_size")),
        mean=_three(seen.get("image_mean")),
        std=_three(seen.get("image_std")),
    )


def named_models(content: Mapping[Any, Any], hub: HubConfig) -> list[str]:
    """Names of timm models that the file or its folder states; files of timm's training script do."""
    settings = plain_settings(content.get("args"))
    names = (hub.arch, content.get("arch"), settings.get("model"), settings.get("arch"))
    return [name for name in names if type(name) is str and timm.is_model(name)]


def _of_timm(values: dict[str, Any]) -> HubConfig:
    seen = values.get("pretrained_cfg")
    seen = seen if isinstance(seen, dict) else {}
    size = seen.get("input_size")
    return HubConfig(
        arch=values["architecture"],
        image_size=size[-1] if isinstance(size, list) and size and type(size[-1]) is int else None,
        mean=_three(seen.get("mean")),
        std=_three(seen.get("std")),
    )


def _positive_int(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _three(value: Any) -> tuple[float, ...] | None:
    good = isinstance(value, list) and len(value) == 3 and all(type(number) in (int, float) for number in value)
    return tuple(map(float, value)) if good else None
