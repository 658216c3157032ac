"""Ten steps of DINO on your images with lightly (`pip install lightly`, tried with 1.6).

    python examples/with_lightly.py best.toml IMAGES --steps 10

`augscale export CARD --to lightly` prints Python code that defines `transform`, a `DINOTransform`. This script runs
that code; in a project of your own, paste it.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import timm
import torch
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import augscale


class Views(Dataset[list[torch.Tensor]]):
    def __init__(self, files: list[Path], transform: Any) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        with Image.open(self.files[index]) as file:
            views: list[torch.Tensor] = self.transform(file.convert("RGB"))
        return views


def main() -> None:
    parser = argparse.ArgumentParser(description="Ten steps of DINO with lightly")
    parser.add_argument("card", help="scale card (best.toml), or a name such as weak")
    parser.add_argument("images", type=Path, help="folder of images")
    parser.add_argument("--model", default="resnet18", help="timm's name of the backbone")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=8)
    arguments = parser.parse_args()

    names: dict[str, Any] = {}
    exec(augscale.export_scales(augscale.load_scales(arguments.card), "lightly"), names)
    files = sorted(path for path in arguments.images.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    data = Views(files, names["transform"])
    loader = DataLoader(data, batch_size=arguments.batch_size, shuffle=True, drop_last=True)

    student = timm.create_model(arguments.model, num_classes=0)
    teacher = copy.deepcopy(student)
    student_head = DINOProjectionHead(student.num_features, 512, 64, 1024, freeze_last_layer=1)
    teacher_head = DINOProjectionHead(student.num_features, 512, 64, 1024)
    teacher_head.load_state_dict(student_head.state_dict())
    deactivate_requires_grad(teacher)
    deactivate_requires_grad(teacher_head)
    criterion = DINOLoss(output_dim=1024)
    optimizer = torch.optim.AdamW([*student.parameters(), *student_head.parameters()], lr=1e-4)
    step = 0
    while step < arguments.steps:
        for views in loader:
            update_momentum(student, teacher, m=0.996)
            update_momentum(student_head, teacher_head, m=0.996)
            with torch.no_grad():
                targets = [teacher_head(teacher(view)) for view in views[:2]]
            loss = criterion(targets, [student_head(student(view)) for view in views], epoch=0)
            optimizer.zero_grad()
            loss.backward()
            student_head.cancel_last_layer_gradients(current_epoch=0)
            optimizer.step()
            step += 1
            print(f"step {step}: loss {loss.item():.3f}")
            if step == arguments.steps:
                break


if __name__ == "__main__":
    main()
