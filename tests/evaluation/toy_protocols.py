"""A labelled dataset of noise with a hint of its class, and networks of milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.config import BackboneConfig
from augscale.evaluation.interface import Encoder
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.networks.backbones import build_backbone

VIT = {"patch_size": 8, "embed_dim": 24, "depth": 6, "num_heads": 2}
RESNET = {"channels": [8, 8, 16, 16], "stem_width": 8}
VIEW_SIZE = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class ToyDataset:
    """What protocols read of a dataset."""

    name: str
    classes: tuple[str, ...]
    images: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    split: tuple[str, ...]
    groups: npt.NDArray[np.int64]
    fingerprint: str

    def part(self, split: str) -> npt.NDArray[np.int64]:
        return np.flatnonzero(np.array(self.split) == split)

    def only(self, keep: Sequence[int]) -> ToyDataset:
        """Some of the listed images; the pixels stay."""
        keep = np.asarray(keep)
        return replace(
            self,
            rows=self.rows[keep],
            labels=self.labels[keep],
            groups=self.groups[keep],
            split=tuple(self.split[i] for i in keep),
        )


def toy_dataset(train: int = 30, val: int = 15, test: int = 15, *, classes: int = 3, side: int = 40) -> ToyDataset:
    """Classes in turn; the channel that is a little brighter says the class. The last listed image repeats the first
    one's pixels."""
    count = train + val + test
    labels = np.arange(count) % classes
    generator = np.random.default_rng(5)
    images = generator.integers(0, 160, (count - 1, side, side, 3), dtype=np.uint8)
    brightness = generator.integers(0, 60, (count - 1, 3), dtype=np.uint8)
    brightness[np.arange(count - 1), labels[:-1] % 3] += 30
    images += brightness[:, None, None]
    return ToyDataset(
        name="toy",
        classes=tuple(f"grade{i}" for i in range(classes)),
        images=images,
        rows=np.concatenate([np.arange(count - 1), [0]]),
        labels=labels,
        split=("train",) * train + ("val",) * val + ("test",) * test,
        groups=np.arange(count) // 2,
        fingerprint="toy",
    )


def toy_encoder(
    name: str = "vit_tiny_patch16_224", overrides: dict[str, Any] | None = None, *, seed: int = 0, size: int = VIEW_SIZE
) -> Encoder:
    overrides = VIT if overrides is None else overrides
    backbone = build_backbone(BackboneConfig(name=name, overrides=overrides), size, seed=seed).eval()
    return Encoder(name=f"toy{seed}", backbone=backbone, arch=name, overrides=overrides, image_size=size)


def toy_config(**sections: Any) -> ProtocolConfig:
    return ProtocolConfig.model_validate({"view_size": VIEW_SIZE, "seeds": 2} | sections)
