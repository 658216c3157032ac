"""DINO as a user writes it from lightly's documentation: its transform, loss and head around a timm backbone.

Needs `pip install lightly`, which is not among this project's dependencies.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightly.transforms.dino_transform import DINOTransform
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from augscale.config import StudyConfig
from benchmarks.lightly_methods import LightlyDINO


class _Files(Dataset[list[torch.Tensor]]):
    def __init__(self, files: list[Path], transform: Any) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        with Image.open(self.files[index]) as file:
            views: list[torch.Tensor] = self.transform(file.convert("RGB"))
        return views


class LightlyLoop:
    """One step at a time, from files to updated weights."""

    def __init__(self, files: list[Path], config: StudyConfig, device: str, num_workers: int) -> None:
        self.device, recipe, crops = device, config.pretrain, config.crops
        self.trainer = LightlyDINO(config, device)
        transform = DINOTransform(
            global_crop_size=crops.global_size, local_crop_size=crops.local_size, n_local_views=crops.n_local
        )
        self.loader = DataLoader(
            _Files(files, transform),
            batch_size=recipe.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=device.startswith("cuda"),
        )
        self._batches = self._forever()

    def _forever(self) -> Iterator[list[torch.Tensor]]:
        while True:
            yield from self.loader

    def step(self) -> float:
        """One update; returns the seconds that the loop waited for data."""
        start = time.perf_counter()
        batch = next(self._batches)
        waited = time.perf_counter() - start
        self.trainer.step([view.to(self.device, non_blocking=True) for view in batch])
        return waited
