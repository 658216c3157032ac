"""DINO's projection head (Caron et al. 2021, `DINOHead`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DINOHead(nn.Module):
    """Embedding to prototype scores: three-layer MLP, L2 normalization, weight-normalized linear layer without bias.

    One difference from the official head: the normalization and the last layer always run in fp32. Their outputs lie
    in [-1, 1] and are divided by temperatures of 0.04 to 0.1, so bf16's rounding would become an error of up to 0.1 in
    a log-probability.

    Args:
        embed_dim: D, size of the backbone's embedding.
        out_dim: K, number of prototypes.
        hidden_dim: width of the MLP.
        bottleneck_dim: width of the MLP's output.
        batch_norm: add batch norm to the two hidden layers.
        norm_last_layer: freeze the gain of every prototype at 1.
        seed: seed of the initial weights.
    """

    def __init__(
        self,
        embed_dim: int,
        out_dim: int,
        *,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        batch_norm: bool = False,
        norm_last_layer: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.mlp = nn.Sequential(
                *_hidden_layer(embed_dim, hidden_dim, batch_norm),
                *_hidden_layer(hidden_dim, hidden_dim, batch_norm),
                nn.Linear(hidden_dim, bottleneck_dim),
            )
            self.mlp.apply(_initialize)
            self.last_layer = WeightNormLinear(bottleneck_dim, out_dim, train_gain=not norm_last_layer)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Prototype scores.

        Args:
            embeddings: float, shape (N, D).
        Returns:
            float32, shape (N, K); cosines in [-1, 1] while the gains are 1.
        """
        bottleneck = self.mlp(embeddings)
        with torch.autocast(bottleneck.device.type, enabled=False):
            return self.last_layer(F.normalize(bottleneck.float(), dim=-1))


class WeightNormLinear(nn.Module):
    """y = gain * (direction / |direction|) x, one gain per output (Salimans & Kingma 2016).

    Direction and gain are separate parameters, so that the gain can be frozen. Initial directions are those of torch's
    linear layers, initial gains are 1, as in the official code.
    """

    def __init__(self, in_dim: int, out_dim: int, *, train_gain: bool) -> None:
        super().__init__()
        self.direction = nn.Parameter(nn.Linear(in_dim, out_dim, bias=False).weight.detach())
        self.gain = nn.Parameter(torch.ones(out_dim, 1), requires_grad=train_gain)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.gain * F.normalize(self.direction, dim=1))


def _hidden_layer(in_dim: int, out_dim: int, batch_norm: bool) -> list[nn.Module]:
    return [nn.Linear(in_dim, out_dim), *([nn.BatchNorm1d(out_dim)] if batch_norm else []), nn.GELU()]


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
