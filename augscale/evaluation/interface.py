"""Types shared by the protocols: the network, the dataset, and the trained classifier."""

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
from augscale.networks.kept_features import structure_digest
from augscale.statistics.arrays import Floats, Integers

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""
_DIGEST_BYTES = 16


class Labelled(typing.Protocol):
    """The part of a dataset that the protocols read (`LabelledImages` has it all); N listed images."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...  # the position is the class number
    @property
    def images(self) -> npt.NDArray[np.uint8]: ...  # (M, S, S, 3)
    @property
    def rows(self) -> Integers: ...  # (N,), row of `images` of each listed image
    @property
    def labels(self) -> Integers: ...  # (N,), class numbers
    @property
    def groups(self) -> Integers: ...  # (N,), patients
    @property
    def fingerprint(self) -> str: ...  # of the pixels
    def part(self, split: str) -> Integers: ...  # listed images of "train", "val" or "test"


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """A frozen network under test.

    Attributes:
        name: of the checkpoint, for messages.
        arch, overrides: what the network was built from, see `BackboneConfig`; fine-tuning builds its copy with them.
        image_size: side of the views that its position embedding is for, pixels.
        common_statistics: compute frozen features with batch norm statistics gathered on the training images instead
            of the network's own; see `batch_norm`.
    """

    name: str
    backbone: Backbone
    arch: str
    overrides: dict[str, Any]
    image_size: int
    common_statistics: bool = False

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the architecture, of every weight, and of `common_statistics`.

        With common statistics the network's own are left out. Computed once: the weights must not change afterwards.
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

    @functools.cached_property
    def structure(self) -> str:
        """See `kept_features.structure_digest`. Computed once: the network's settings must not change afterwards."""
        return structure_digest(self.backbone)


class Fitted(typing.Protocol):
    """A network with a trained classifier."""

    @property
    def selection(self) -> dict[str, Any]:
        """Choices made on validation, with the validation score; JSON-ready."""
        ...

    def predict(self, on: Labelled, split: str) -> Floats:
        """Class probabilities.

        Args:
            on: the dataset trained on or another; its labels are not used.
            split: "train", "val" or "test"; only its images are read.
        Returns:
            float64, shape (N_split, K), rows sum to 1; K classes of the dataset trained on, in the order of
            `on.part(split)`.
        """
        ...


class Protocol(typing.Protocol):
    """A way to train a classifier on a network."""

    name: str
    seeds_matter: bool
    """False: every seed gives the same classifier, so one run suffices."""

    def fit(self, network: Encoder, train_on: Labelled, *, seed: int) -> Fitted:
        """Trains on the split "train" and chooses on "val".

        Raises:
            DataError: no training images, or all of one class.
        """
        ...


def check_trainable(protocol: str, dataset: Labelled) -> None:
    """Checks that a classifier can be trained.

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
    """Hash of the pixels, the labels and the split, which a trained classifier depends on."""
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
