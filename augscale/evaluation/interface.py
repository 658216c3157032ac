"""What every protocol has in common: the network it gets, what it needs of a dataset, and what it gives back."""

from __future__ import annotations

import functools
import hashlib
import json
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from augscale.errors import DataError
from augscale.networks.backbones import Backbone
from augscale.networks.batch_norm import RUNNING_BUFFERS

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is to do."""
_DIGEST_BYTES = 16


class Labelled(typing.Protocol):
    """What the protocols read of a dataset (`LabelledImages` has it all); N listed images."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]:
        """The position is the class number."""
        ...

    @property
    def images(self) -> npt.NDArray[np.uint8]:
        """(M, S, S, 3)."""
        ...

    @property
    def rows(self) -> Integers:
        """(N,): which of the M pixels each listed image has."""
        ...

    @property
    def labels(self) -> Integers:
        """(N,): class numbers."""
        ...

    @property
    def groups(self) -> Integers:
        """(N,): patients."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of the pixels."""
        ...

    def part(self, split: str) -> Integers:
        """Which listed images are "train", "val" or "test"."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """A frozen network under test.

    Attributes:
        name: of the checkpoint, for messages.
        arch, overrides: what the network was built from, see `BackboneConfig`; fine-tuning builds its copy with them.
        image_size: side of the views that its position embedding is for, pixels.
        common_statistics: whether frozen features are computed with batch norm statistics of the training images that
            they are for, gathered anew, instead of the network's own; see `batch_norm`.
    """

    name: str
    backbone: Backbone
    arch: str
    overrides: dict[str, Any]
    image_size: int
    common_statistics: bool = False

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the architecture, of every weight, and of which batch norm statistics are used.

        With common statistics the network's own play no part. The weights must not change once it has been asked for.
        """
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        facts: list[Any] = [self.arch, self.overrides, self.image_size]
        if self.common_statistics:
            facts.append("common statistics")
        digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
        for name, value in sorted(self.backbone.model.state_dict().items()):
            if self.common_statistics and name.endswith(RUNNING_BUFFERS):
                continue
            array = value.detach().cpu().contiguous()
            digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
            digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


class Fitted(typing.Protocol):
    """A network with a trained classifier."""

    @property
    def selection(self) -> dict[str, Any]:
        """What was chosen on validation, with its validation score; JSON-ready."""
        ...

    def predict(self, on: Labelled, split: str) -> Floats:
        """Class probabilities.

        Args:
            on: the dataset trained on or another; its own labels are not looked at.
            split: "train", "val" or "test"; only its images are read.
        Returns:
            float64, shape (N_split, K), rows sum to 1; K classes of the dataset trained on, in the order of
            `on.part(split)`.
        """
        ...


class Protocol(typing.Protocol):
    """A way to measure what a network is worth."""

    name: str
    seeds_matter: bool
    """False: every seed gives the same, so one run is all there is."""

    def fit(self, network: Encoder, train_on: Labelled, *, seed: int) -> Fitted:
        """Trains on the split "train" and chooses on "val".

        Raises:
            DataError: no training images, or all of one class.
        """
        ...


def check_trainable(protocol: str, dataset: Labelled) -> None:
    """Refuses what no classifier can be trained on.

    Raises:
        DataError: no training images, or all of one class.
    """
    present = np.unique(dataset.labels[dataset.part("train")])
    if len(present) == 0:
        raise DataError(f"{dataset.name}: no image in the split train; {protocol} needs some of at least 2 classes")
    if len(present) == 1:
        only = dataset.classes[int(present[0])]
        raise DataError(f"{dataset.name}: all training images are of class {only}; {protocol} needs at least 2 classes")


def dataset_digest(dataset: Labelled) -> str:
    """Hash of the pixels, the labels and the split: what a trained classifier depends on."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    digest.update(json.dumps([dataset.fingerprint, dataset.classes]).encode())
    for split in ("train", "val"):
        part = dataset.part(split)
        for values in (dataset.rows[part], dataset.labels[part], dataset.groups[part]):
            digest.update(np.ascontiguousarray(values, dtype=np.int64).tobytes())
        digest.update(split.encode())
    return digest.hexdigest()


def softmax(logits: npt.NDArray[Any]) -> Floats:
    """Probabilities along the last axis, float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    result: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return result
