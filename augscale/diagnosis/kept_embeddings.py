"""Embeddings of a diagnosis on disk, so that no network is run twice on the same views.

Most often that is the network before training, which is measured beside every checkpoint of its architecture.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from augscale.diagnosis.photographs import Photographs
from augscale.errors import CheckpointError
from augscale.networks.backbones import Backbone
from augscale.networks.batch_norm import Statistics
from augscale.networks.kept_features import (
    FeatureFolder,
    array_digest,
    statistics_digest,
    structure_digest,
    weights_digest,
)

Embeddings = npt.NDArray[np.float32]


class KeptEmbeddings:
    """The embeddings of some photographs and of their views.

    Args:
        root: from `features_folder`; None keeps nothing.
        photographs: of any view size.
        device: "cpu", "cuda" or "cuda:N".
    """

    def __init__(self, root: Path | None, photographs: Photographs, device: str) -> None:
        self.root = root
        self.photographs = photographs
        self.device = torch.device(device)
        self._networks: dict[int, dict[str, str]] = {}

    def read(self, backbone: Backbone, statistics: Statistics, view_size: int, level: str | None) -> Embeddings | None:
        """The embeddings of an earlier call, None where there are none.

        Args:
            backbone: its weights must not change between calls.
            statistics: batch norm statistics in use.
            view_size: side of the views, pixels.
            level: None for the photographs without augmentation.
        Returns:
            float32, shape (n, D) without a level, else (n, V, D).
        """
        folder = self._folder(backbone, statistics, view_size, level)
        columns = None if folder is None else folder.read(0, len(self.photographs.pixels))
        return None if columns is None else columns["embedding"]

    def write(
        self, backbone: Backbone, statistics: Statistics, view_size: int, level: str | None, found: Embeddings
    ) -> None:
        """Keeps embeddings for a later `read`; without room on the disk nothing is kept."""
        folder = self._folder(backbone, statistics, view_size, level)
        if folder is not None:
            with suppress(CheckpointError):
                folder.write(0, {"embedding": found})

    def _folder(
        self, backbone: Backbone, statistics: Statistics, view_size: int, level: str | None
    ) -> FeatureFolder | None:
        if self.root is None:
            return None
        facts = {
            **self._network(backbone),
            "statistics": statistics_digest(statistics),
            "photographs": self._shown,
            "view_size": view_size,
            "views": None if level is None else self.photographs.recipe(level),
        }
        try:
            return FeatureFolder(self.root, facts, self.device, {"level": level, "count": len(self.photographs.pixels)})
        except CheckpointError:
            return None

    def _network(self, backbone: Backbone) -> dict[str, str]:
        if id(backbone) not in self._networks:
            self._networks[id(backbone)] = {
                "weights": weights_digest(backbone.model),
                "structure": structure_digest(backbone),
            }
        return self._networks[id(backbone)]

    @cached_property
    def _shown(self) -> list[Any]:
        return [array_digest(self.photographs.pixels), array_digest(self.photographs.keys)]
