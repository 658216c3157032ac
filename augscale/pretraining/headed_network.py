"""A backbone with its projection head, as every method trains it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from augscale.networks.backbones import Backbone
from augscale.networks.batch_norm import batch_norm_layers
from augscale.networks.stochastic_depth import DepthDraws


class HeadedNetwork(nn.Module):
    """A backbone with its projection head.

    Args:
        backbone: maps views to embeddings, shape (N, D).
        head: maps embeddings to the outputs that the loss reads, shape (N, K).
        frozen_batch_norm: the backbone's batch norm keeps its statistics in training mode too.
    """

    def __init__(self, backbone: Backbone, head: nn.Module, *, frozen_batch_norm: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.frozen_batch_norm = frozen_batch_norm

    def train(self, mode: bool = True) -> HeadedNetwork:
        """Sets the mode; frozen batch norm stays in evaluation mode."""
        super().train(mode)
        if self.frozen_batch_norm:
            for layer in batch_norm_layers(self.backbone).values():
                layer.eval()
        return self

    def body_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters below the heads, by name."""
        return {f"backbone.{name}": parameter for name, parameter in self.backbone.named_parameters()}

    def forward(self, *crops: Tensor, draws: DepthDraws | None = None) -> Tensor:
        """Head outputs of all crops.

        Args:
            crops: one batch per crop size, float, shape (N_i, 3, s_i, s_i); empty batches are skipped.
            draws: random numbers of stochastic depth, for backbones that accept them.
        Returns:
            float32, shape (sum of N_i, K), in the order given. The head sees all crops at once, as in the official
            DINO code, so its batch norm averages over all of them.
        """
        outputs: Tensor = self.head(torch.cat([self.backbone(batch, draws) for batch in crops if len(batch)]))
        return outputs
