"""References that trials have to beat: features computed without a network, in the form of encoders.

In a pilot on fundus photographs a linear probe on 16x16 pixels was better than most short pre-trainings, because
illumination, color and source predict much of such labels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from augscale.augmentation.views import IMAGENET_MEAN, IMAGENET_STD
from augscale.evaluation.interface import Encoder
from augscale.networks.backbones import Backbone

PIXELS = 16
BINS = 16


class RawPixels(nn.Module):
    """The view averaged down to 16x16 pixels, as a row of 768 numbers."""

    num_features = 3 * PIXELS * PIXELS

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, s, s), normalized, to (N, 768)."""
        return functional.adaptive_avg_pool2d(x, PIXELS).flatten(1)


class ColorStatistics(nn.Module):
    """Per channel a histogram of 16 bins over [0, 1], mean and standard deviation: 54 numbers without positions."""

    num_features = 3 * (BINS + 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, s, s), normalized, to (N, 54)."""
        mean = torch.tensor(IMAGENET_MEAN, device=x.device).view(3, 1, 1)
        std = torch.tensor(IMAGENET_STD, device=x.device).view(3, 1, 1)
        channels = (x.float() * std + mean).clamp(0, 1).flatten(2)
        bins = (channels * BINS).long().clamp(max=BINS - 1)
        counts = torch.zeros(*bins.shape[:2], BINS, device=x.device)
        counts.scatter_add_(2, bins, torch.ones_like(channels))
        moments = torch.stack([channels.mean(dim=2), channels.std(dim=2)], dim=2)
        return torch.cat([counts / channels.shape[2], moments], dim=2).flatten(1)


BASELINES: dict[str, type[nn.Module]] = {
    f"raw pixels {PIXELS}x{PIXELS}": RawPixels,
    "colour statistics": ColorStatistics,
}


def baseline_encoders(view_size: int) -> list[Encoder]:
    """One encoder per baseline; they see the same views as the networks."""
    return [
        Encoder(name=name, backbone=Backbone(kind()).eval(), arch=name, overrides={}, image_size=view_size)
        for name, kind in BASELINES.items()
    ]
