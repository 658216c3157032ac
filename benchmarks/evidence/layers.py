"""Embeddings of three layers in one pass: the backbone's output, an earlier stage, and the head's bottleneck."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from augscale.augmentation.views import normalize
from augscale.errors import ConfigError, DivergedError
from augscale.networks.backbones import Backbone
from augscale.networks.head import DINOHead
from augscale.networks.precision import resolve_precision
from augscale.networks.projection_head import PredictorHead, ProjectionHead

Floats32 = npt.NDArray[np.float32]

LAYERS = ("embedding", "earlier", "bottleneck")
BATCH_SIZE = 128


def embed_layers(
    backbone: Backbone, head: nn.Module, images: Tensor | npt.NDArray[np.uint8], *, precision: str = "bf16"
) -> dict[str, Floats32]:
    """Embeds images in evaluation mode.

    Args:
        backbone: the encoder; images are moved to its device.
        head: its projection head, of any method.
        images: normalised float views, shape (N, 3, S, S), or pixels, uint8, shape (N, S, S, 3).
        precision: "bf16" (autocast; fp32 on a device that is not faster in bf16, see `_autocast`) or "fp32".
    Returns:
        float32 by layer: "embedding" (N, D), the backbone's output; "earlier" (N, D'), the mean over places (a
        transformer's patch tokens) of the last stage but one; "bottleneck" (N, B), what the head's MLP gives before it
        is normalised (of contrastive methods: the projection).
    Raises:
        DivergedError: a value is not finite.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in LAYERS}
    mlp = _mlp(head)
    modes = backbone.training, head.training
    backbone.eval()
    head.eval()
    try:
        with torch.inference_mode(), _earlier_stage(backbone) as earlier:
            device = device_of(backbone)
            for batch in _batches(images):
                with _autocast(precision, device):
                    embedding = backbone(batch.to(device))
                    bottleneck = mlp(embedding)
                parts["embedding"].append(embedding.float().cpu())
                parts["earlier"].append(earlier.pop().cpu())
                parts["bottleneck"].append(bottleneck.float().cpu())
    finally:
        backbone.train(modes[0])
        head.train(modes[1])
    layers = {name: torch.cat(values).numpy() for name, values in parts.items()}
    for name, values in layers.items():
        bad = int((~np.isfinite(values)).any(axis=1).sum())
        if bad:
            raise DivergedError(f"{bad} of {len(values)} outputs of the layer {name} are not finite; expected numbers")
    return layers


def _mlp(head: nn.Module) -> nn.Module:
    """The part of a head that maps embeddings to what its loss, or its prototypes, normalise."""
    found = head.projector if isinstance(head, PredictorHead) else head
    assert isinstance(found, (DINOHead, ProjectionHead))
    return found.mlp


def embed_views(backbone: Backbone, views: Tensor, *, precision: str = "bf16") -> Floats32:
    """The backbone's output alone, float32, shape (N, D), for normalised views (N, 3, S, S)."""
    backbone.eval()
    device = device_of(backbone)
    with torch.inference_mode(), _autocast(precision, device):
        embedded: Floats32 = backbone(views.to(device)).float().cpu().numpy()
    return embedded


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _autocast(precision: str, device: torch.device) -> torch.autocast:
    """Autocast for "bf16" where the device is faster in it.

    A CPU that emulates bf16 embeds the panel ten times slower than in fp32, and fp32 is the more exact of the two.
    """
    faster = precision == "bf16" and resolve_precision("auto", device) == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=faster)


def chosen(layers: dict[str, Floats32], names: Iterable[str]) -> Floats32:
    """Layers side by side, shape (N, sum of widths)."""
    return np.concatenate([layers[name] for name in names], axis=1)


@contextmanager
def _earlier_stage(backbone: Backbone) -> Iterator[list[Tensor]]:
    """Collects the pooled output of the last stage or block but one, one entry per pass.

    Raises:
        ConfigError: the network has neither stages nor blocks.
    """
    model: Any = backbone.model
    found: list[Tensor] = []

    def keep_map(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(output.float().mean(dim=(2, 3)))

    def keep_tokens(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0][:, model.num_prefix_tokens :].float().mean(dim=1))

    stages = getattr(model, "stages", None)
    if hasattr(model, "layer3"):
        handle = model.layer3.register_forward_hook(keep_map)
    elif stages is not None and len(stages) > 1:
        handle = stages[-2].register_forward_hook(keep_map)
    elif hasattr(model, "conv_head"):
        # EfficientNets call their stages "blocks".
        handle = model.blocks[-2].register_forward_hook(keep_map)
    elif hasattr(model, "blocks"):
        # The last block itself may not be called as a module (`plain_vit`), its first norm always is.
        handle = model.blocks[-1].norm1.register_forward_pre_hook(keep_tokens)
    else:
        name = type(model).__name__
        raise ConfigError(f"{name} has no layer3, stages or blocks; expected a ResNet, ConvNeXt, EfficientNet or ViT")
    try:
        yield found
    finally:
        handle.remove()


def _batches(images: Tensor | npt.NDArray[np.uint8]) -> Iterator[Tensor]:
    for begin in range(0, len(images), BATCH_SIZE):
        batch = images[begin : begin + BATCH_SIZE]
        if isinstance(batch, Tensor):
            yield batch.float()
        else:
            yield normalised(batch)


def normalised(images: npt.NDArray[np.uint8]) -> Tensor:
    """Whole images as networks see them: uint8 (N, S, S, 3) to float32 (N, 3, S, S)."""
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    return normalize(pixels.permute(0, 3, 1, 2).float() / 255)
