"""The official DINO recipe as its users run it: per-image torchvision transforms in DataLoader workers, then a plain
training step. Same timm backbone, head, loss, crops and schedules as ours; only the way to the views and the step's
arithmetic (fp32 on a CPU, fp16 autocast on a GPU, per-parameter loops for clipping and EMA) are the official script's.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image, ImageFilter, ImageOps
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from augscale.config import StudyConfig
from augscale.networks.head import DINOHead


class GaussianBlur:
    """PIL blur with probability p and radius U(0.1, 2)."""

    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, image: Image.Image) -> Image.Image:
        if torch.rand(1).item() > self.p:
            return image
        return image.filter(ImageFilter.GaussianBlur(radius=0.1 + 1.9 * torch.rand(1).item()))


class Solarize:
    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, image: Image.Image) -> Image.Image:
        return ImageOps.solarize(image) if torch.rand(1).item() < self.p else image


class OfficialViews(Dataset):
    """Decodes a file and makes its views one after the other with PIL, as DataAugmentationDINO does."""

    def __init__(self, files: list[Path], config: StudyConfig) -> None:
        crops = config.crops
        color = [
            T.RandomHorizontalFlip(0.5),
            T.RandomApply([T.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            T.RandomGrayscale(0.2),
        ]
        tensor = [T.ToTensor(), T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]

        def crop(size: int, scale: tuple[float, float]) -> T.RandomResizedCrop:
            return T.RandomResizedCrop(size, scale=scale, interpolation=T.InterpolationMode.BICUBIC)

        first = T.Compose([crop(crops.global_size, (0.4, 1.0)), *color, GaussianBlur(1.0), *tensor])
        second = T.Compose([crop(crops.global_size, (0.4, 1.0)), *color, GaussianBlur(0.1), Solarize(0.2), *tensor])
        local = T.Compose([crop(crops.local_size, (0.05, 0.4)), *color, GaussianBlur(0.5), *tensor])
        self.files = files
        self.transforms = [first, second] + [local] * crops.n_local

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        with Image.open(self.files[index]) as file:
            image = file.convert("RGB")
        return [transform(image) for transform in self.transforms]


def timm_options(config: StudyConfig) -> dict[str, Any]:
    """What timm's `create_model` is given besides the name."""
    options = {"num_classes": 0, "drop_path_rate": config.backbone.drop_path} | dict(config.backbone.overrides)
    if config.backbone.name.startswith("vit"):
        options |= {"img_size": config.crops.global_size, "dynamic_img_size": True}
    return options


def build_timm(config: StudyConfig) -> torch.nn.Module:
    """The study's backbone as timm makes it, with timm's own forward pass."""
    return timm.create_model(config.backbone.name, **timm_options(config))


class OfficialLoop:
    """The training loop of the official script on one device."""

    def __init__(self, files: list[Path], config: StudyConfig, device: str, num_workers: int) -> None:
        self.config, self.device = config, device
        pretrain = config.pretrain
        torch.manual_seed(0)
        dims = {
            "out_dim": pretrain.out_dim,
            "hidden_dim": pretrain.head_hidden_dim,
            "bottleneck_dim": pretrain.head_bottleneck_dim,
            "batch_norm": pretrain.head_batch_norm,
            "norm_last_layer": pretrain.norm_last_layer,
        }
        backbone = build_timm(config)
        head = DINOHead(backbone.num_features, **dims)
        self.student = torch.nn.ModuleDict({"backbone": backbone, "head": head}).to(device)
        self.teacher = copy.deepcopy(self.student)
        self.center = torch.zeros(1, pretrain.out_dim, device=device)
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=1e-4)
        self.scaler = torch.amp.GradScaler("cuda", enabled=device.startswith("cuda"))
        self.loader = DataLoader(
            OfficialViews(files, config),
            batch_size=pretrain.batch_size,
            shuffle=True,
            num_workers=num_workers,
            drop_last=True,
            pin_memory=device.startswith("cuda"),
            persistent_workers=num_workers > 0,
        )
        self._batches = self._forever()

    def _forever(self) -> Iterator[list[torch.Tensor]]:
        while True:
            yield from self.loader

    def _forward(self, network: torch.nn.ModuleDict, views: list[torch.Tensor]) -> torch.Tensor:
        """Equal sizes in one batch each, the head once on all (the official MultiCropWrapper)."""
        by_size: dict[int, list[torch.Tensor]] = {}
        for view in views:
            by_size.setdefault(view.shape[-1], []).append(view)
        embeddings = [network["backbone"](torch.cat(group)) for group in by_size.values()]
        return network["head"](torch.cat(embeddings))

    def _loss(self, student: torch.Tensor, teacher: torch.Tensor, num_views: int) -> torch.Tensor:
        student_views = (student.float() / self.config.pretrain.student_temp).chunk(num_views)
        sharpened = (teacher.float() - self.center) / self.config.pretrain.teacher_temp
        targets = sharpened.softmax(-1).detach().chunk(2)
        total, terms = torch.zeros((), device=student.device), 0
        for i, target in enumerate(targets):
            for v, logits in enumerate(student_views):
                if v != i:
                    total = total + torch.sum(-target * logits.log_softmax(-1), dim=-1).mean()
                    terms += 1
        return total / terms

    def step(self) -> float:
        """One update; returns the seconds that the loop waited for data."""
        start = time.perf_counter()
        views = [view.to(self.device, non_blocking=True) for view in next(self._batches)]
        waited = time.perf_counter() - start
        with torch.autocast("cuda", torch.float16, enabled=self.device.startswith("cuda")):
            with torch.no_grad():
                teacher = self._forward(self.teacher, views[:2])
            loss = self._loss(self._forward(self.student, views), teacher, len(views))
        loss.item()
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        for parameter in self.student.parameters():
            if parameter.grad is not None:
                coefficient = self.config.pretrain.clip_grad / (parameter.grad.norm(2) + 1e-6)
                if coefficient < 1:
                    parameter.grad.mul_(coefficient)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            for student, averaged in zip(self.student.parameters(), self.teacher.parameters(), strict=True):
                averaged.mul_(0.996).add_(0.004 * student)
            momentum = self.config.pretrain.center_momentum
            self.center = self.center * momentum + teacher.float().mean(0, keepdim=True) * (1 - momentum)
        return waited
