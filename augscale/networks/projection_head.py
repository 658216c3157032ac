"""Heads of contrastive methods: a multilayer perceptron, with a predictor after it in MoCo v3's student."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """Embedding to projection: linear layers with ReLU between them (SimCLR, Chen et al. 2020a and 2020b; MoCo v3).

    With batch norm, every linear layer is followed by it and has no bias; the last one's has neither scale nor shift,
    as in MoCo v3. The initial weights are those of torch's linear layers.

    Args:
        embed_dim: D, size of the input.
        out_dim: size of the projection.
        hidden_dim: width of the hidden layers.
        layers: number of linear layers, at least 1.
        batch_norm: add batch norm after every layer.
        seed: seed of the initial weights.
    """

    def __init__(
        self, embed_dim: int, out_dim: int, *, hidden_dim: int, layers: int, batch_norm: bool, seed: int
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.mlp = nn.Sequential(*_layers(embed_dim, out_dim, hidden_dim, layers, batch_norm))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Projections.

        Args:
            embeddings: float, shape (N, D).
        Returns:
            float32, shape (N, out_dim), not normalized.
        """
        projected: Tensor = self.mlp(embeddings)
        return projected.float()


class PredictorHead(nn.Module):
    """A projector and, in a student, a predictor of the teacher's projection (MoCo v3, Chen, Xie & He 2021).

    Args:
        projector: embedding to projection.
        predictor: projection to projection; None in the teacher.
    """

    def __init__(self, projector: ProjectionHead, predictor: ProjectionHead | None) -> None:
        super().__init__()
        self.projector = projector
        self.predictor = predictor

    def forward(self, embeddings: Tensor) -> Tensor:
        """Predictions of the student, projections of the teacher; float32, shape (N, out_dim)."""
        projected: Tensor = self.projector(embeddings)
        if self.predictor is None:
            return projected
        predicted: Tensor = self.predictor(projected)
        return predicted


def _layers(in_dim: int, out_dim: int, hidden_dim: int, layers: int, batch_norm: bool) -> Iterator[nn.Module]:
    for number in range(layers):
        last = number == layers - 1
        width = out_dim if last else hidden_dim
        yield nn.Linear(in_dim, width, bias=not batch_norm)
        if batch_norm:
            yield nn.BatchNorm1d(width, affine=not last)
        if not last:
            yield nn.ReLU()
        in_dim = width
