"""Ten steps of DINO on your images with torchvision's transforms and networks.

    python examples/with_torchvision.py best.toml IMAGES --steps 10

`augscale export CARD --to torchvision` prints Python code that defines `global1`, `global2` and `local`: from a PIL
image to a normalized tensor. This script runs that code; in a project of your own, save it as a module and import it.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18

import augscale

OUT_DIM, NUM_LOCAL = 1024, 2
STUDENT_TEMP, TEACHER_TEMP = 0.1, 0.04
TEACHER_MOMENTUM, CENTER_MOMENTUM = 0.996, 0.9


class Views(Dataset[list[Tensor]]):
    """Two global views and some local views of each image."""

    def __init__(self, files: list[Path], transforms: dict[str, Any]) -> None:
        self.files = files
        self.transforms = [transforms["global1"], transforms["global2"], *[transforms["local"]] * NUM_LOCAL]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> list[Tensor]:
        with Image.open(self.files[index]) as file:
            image = file.convert("RGB")
        return [transform(image) for transform in self.transforms]


def network() -> nn.Module:
    backbone = resnet18()
    backbone.fc = nn.Sequential(nn.Linear(512, 256), nn.GELU(), nn.Linear(256, OUT_DIM))
    return backbone


def dino_loss(student: list[Tensor], teacher: list[Tensor], center: Tensor) -> Tensor:
    """Mean cross-entropy of every student view with every teacher view of the same image, except the same view."""
    targets = [((view - center) / TEACHER_TEMP).softmax(dim=-1) for view in teacher]
    logs = [(view / STUDENT_TEMP).log_softmax(dim=-1) for view in student]
    terms = [-(t * s).sum(dim=-1).mean() for i, t in enumerate(targets) for j, s in enumerate(logs) if i != j]
    return torch.stack(terms).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description="Ten steps of DINO with torchvision")
    parser.add_argument("card", help="scale card (best.toml), or a name such as weak")
    parser.add_argument("images", type=Path, help="folder of images")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=8)
    arguments = parser.parse_args()

    transforms: dict[str, Any] = {}
    exec(augscale.export_scales(augscale.load_scales(arguments.card), "torchvision"), transforms)
    files = sorted(path for path in arguments.images.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    loader = DataLoader(Views(files, transforms), batch_size=arguments.batch_size, shuffle=True, drop_last=True)

    student = network()
    teacher = copy.deepcopy(student).requires_grad_(False)
    center = torch.zeros(OUT_DIM)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4)
    step = 0
    while step < arguments.steps:
        for views in loader:
            with torch.no_grad():
                targets = [teacher(view) for view in views[:2]]
            loss = dino_loss([student(view) for view in views], targets, center)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for ours, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
                    ours.lerp_(theirs, 1 - TEACHER_MOMENTUM)
                center.lerp_(torch.cat(targets).mean(dim=0), 1 - CENTER_MOMENTUM)
            step += 1
            print(f"step {step}: loss {loss.item():.3f}")
            if step == arguments.steps:
                break


if __name__ == "__main__":
    main()
