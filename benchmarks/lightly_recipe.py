"""DINO as a user writes it from lightly's documentation: its transform, loss and head around a timm backbone.

Needs `pip install lightly`, which is not among this project's dependencies.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms.dino_transform import DINOTransform
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from augscale.config import StudyConfig
from benchmarks.official_recipe import build_timm


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
    """One step at a time; the backbone sees view after view, as in lightly's example."""

    def __init__(self, files: list[Path], config: StudyConfig, device: str, num_workers: int) -> None:
        self.device, recipe, crops = device, config.pretrain, config.crops
        torch.manual_seed(0)
        self.student = build_timm(config).to(device)
        self.teacher = copy.deepcopy(self.student)
        dims = (self.student.num_features, recipe.head_hidden_dim, recipe.head_bottleneck_dim, recipe.out_dim)
        options = {"batch_norm": recipe.head_batch_norm, "norm_last_layer": recipe.norm_last_layer}
        self.student_head = DINOProjectionHead(*dims, freeze_last_layer=1, **options).to(device)
        self.teacher_head = DINOProjectionHead(*dims, **options).to(device)
        deactivate_requires_grad(self.teacher)
        deactivate_requires_grad(self.teacher_head)
        self.loss = DINOLoss(output_dim=recipe.out_dim, warmup_teacher_temp_epochs=5).to(device)
        self.optimizer = torch.optim.AdamW([*self.student.parameters(), *self.student_head.parameters()], lr=1e-4)
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
        update_momentum(self.student, self.teacher, m=0.996)
        update_momentum(self.student_head, self.teacher_head, m=0.996)
        views = [view.to(self.device, non_blocking=True) for view in batch]
        teacher = [self.teacher_head(self.teacher(view)) for view in views[:2]]
        student = [self.student_head(self.student(view)) for view in views]
        loss = self.loss(teacher, student, epoch=0)
        loss.backward()
        self.student_head.cancel_last_layer_gradients(current_epoch=1)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return waited
