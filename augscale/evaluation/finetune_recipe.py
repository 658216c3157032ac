"""RETFound's recipe for fine-tuning, piece by piece: augmentation, parameter groups, learning rate, classifier.

From its repository (November 2025): `util/datasets.py`, `util/lr_decay.py`, `util/lr_sched.py`, `main_finetune.py`.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from timm.data import auto_augment, create_transform
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.utils.data import Dataset

from augscale.evaluation.protocol_config import FinetuneConfig
from augscale.networks.backbones import Backbone
from augscale.seeding import derive_seed
from augscale.statistics.arrays import Integers

_HEAD_STD = 2e-5
_STEM = ("cls_token", "reg_token", "pos_embed", "patch_embed", "norm_pre")


def train_transform(view_size: int) -> Callable[[Image.Image], Tensor]:
    """timm's training transform with RETFound's settings: PIL image in, normalized float32 (3, V, V) out.

    One error is corrected: at the largest magnitude of RandAugment timm asks Pillow to keep 0 bits, which Pillow
    refuses from version 12 on. Older versions gave a black image, and so does this transform.
    """
    transform = create_transform(
        view_size,
        is_training=True,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        re_prob=0.25,
        re_mode="pixel",
        re_count=1,
    )
    for step in transform.transforms:
        for operation in getattr(step, "ops", ()):
            if operation.aug_fn is auto_augment.posterize:
                operation.aug_fn = _posterize
    return transform


def _posterize(image: Image.Image, bits_to_keep: int, **unused: object) -> Image.Image:
    if bits_to_keep < 1:
        return Image.new(image.mode, image.size)
    return auto_augment.posterize(image, bits_to_keep)


class Classifier(nn.Module):
    """A backbone with a linear layer on its embedding.

    RETFound averages patch tokens; here the head reads the output of the backbone, for DINO's ViTs the class token,
    because pre-training trained that.
    """

    def __init__(self, backbone: Backbone, num_classes: int, seed: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.embed_dim, num_classes)
        generator = torch.Generator().manual_seed(seed)
        nn.init.trunc_normal_(self.head.weight, std=_HEAD_STD, generator=generator)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (N, K)."""
        logits: Tensor = self.head(self.backbone(x))
        return logits


def parameter_groups(classifier: Classifier, config: FinetuneConfig) -> list[dict[str, Any]]:
    """Parameter groups for AdamW, with "lr_scale" = layer_decay ** (number of layers above).

    Transformers are grouped as in RETFound: the stem is layer 0, block i is layer i + 1, the final norm and the head
    are on top. Other networks, such as ResNets, are grouped by timm, with the head one layer above. 1-D parameters, the
    class token and the position embedding have no weight decay.
    """
    model: Any = classifier.backbone.model
    if not (hasattr(model, "blocks") and hasattr(model, "patch_embed")):
        return _timm_groups(classifier, config)
    top = len(model.blocks) + 1
    undecayed = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
    groups: dict[tuple[int, float], dict[str, Any]] = {}
    for name, parameter in [*model.named_parameters(), *classifier.head.named_parameters(prefix="head")]:
        layer = _layer(name, top)
        decay = 0.0 if parameter.ndim <= 1 or name in undecayed else config.weight_decay
        scale = config.layer_decay ** (top - layer)
        group = groups.setdefault((layer, decay), {"lr_scale": scale, "weight_decay": decay, "params": []})
        group["params"].append(parameter)
    return list(groups.values())


def _layer(name: str, top: int) -> int:
    if name.startswith(_STEM):
        return 0
    block = re.match(r"blocks\.(\d+)\.", name)
    return int(block[1]) + 1 if block else top


def _timm_groups(classifier: Classifier, config: FinetuneConfig) -> list[dict[str, Any]]:
    found = param_groups_layer_decay(
        classifier.backbone.model, weight_decay=config.weight_decay, layer_decay=config.layer_decay
    )
    groups = [
        {
            "lr_scale": group["lr_scale"] * config.layer_decay,
            "weight_decay": group["weight_decay"],
            "params": group["params"],
        }
        for group in found
    ]
    weight, bias = classifier.head.parameters()
    groups.append({"lr_scale": 1.0, "weight_decay": config.weight_decay, "params": [weight]})
    groups.append({"lr_scale": 1.0, "weight_decay": 0.0, "params": [bias]})
    return groups


def learning_rate(progress: float, config: FinetuneConfig, batch_size: int) -> float:
    """Learning rate before the groups' scales: linear warm-up from 0, then half a cosine to min_lr.

    Args:
        progress: number of epochs done, including the fraction of the current one.
        batch_size: images per step.
    """
    peak = config.lr * batch_size / 256
    warmup = config.warmup_fraction * config.epochs
    if progress < warmup:
        return peak * progress / warmup
    if config.epochs == warmup:
        return peak
    done = (progress - warmup) / (config.epochs - warmup)
    return config.min_lr + (peak - config.min_lr) * 0.5 * (1 + math.cos(math.pi * done))


class AugmentedImages(Dataset[tuple[Tensor, int]]):
    """Training images of one epoch through timm's transform, whose draws are a function of (seed, epoch, image).

    Random resized crop (area 0.08 to 1, bicubic), flip, RandAugment (instead of color jitter), normalization, random
    erasing. timm draws from the global generators of `random`, numpy and torch: they are seeded for every image, so
    that neither the number of workers nor an interruption changes anything. The caller restores its own generators.

    Args:
        images: uint8, shape (M, S, S, 3). rows, labels: int64, shape (N,), pixels and class of each image.
        view_size: side of the views, pixels.
        seed: of the run.
    """

    def __init__(
        self, images: npt.NDArray[np.uint8], rows: Integers, labels: Integers, view_size: int, seed: int
    ) -> None:
        self.images = images
        self.rows = rows
        self.labels = labels
        self.seed = seed
        self.epoch = 0
        self._transform = train_transform(view_size)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        """The view, float32 (3, V, V), normalized, and the class of the image at this place."""
        seed = derive_seed(self.seed, "augmentation", self.epoch, place)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - it is this generator that timm draws from
        torch.default_generator.manual_seed(seed)
        image = Image.fromarray(self.images[self.rows[place]])
        return self._transform(image), int(self.labels[place])
