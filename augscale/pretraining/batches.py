"""Batches of images on the device, as a function of seed and step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augscale.errors import DataError
from augscale.seeding import derive_seed
from augscale.system.devices import to_device

_SHARE_OF_FREE_MEMORY = 0.5
"""Images stay on a GPU if they fit into this share of its free memory; the rest is for training."""
_UPLOAD_ROWS = 1024


@dataclass(frozen=True)
class Shard:
    """Slice `index` of `count` equal slices of a step's batch."""

    index: int
    count: int

    def split(self, num: int) -> list[Shard]:
        return [Shard(self.index * num + i, self.count * num) for i in range(num)]


class Batches:
    """Batches as a pure function of (seed, step). Every epoch has a new order; its incomplete last batch is dropped.

    Args:
        images: uint8, shape (N, S, S, 3), e.g. memory-mapped.
        indices: int64, rows to train on.
        batch_size: B.
        seed: seed of the image order.
        device: device that batches are put on.
        memory_limit: GPU memory that may be used, in bytes; None: all that is free.
        patients: int64, shape (N,), number of every image's patient, for `draw_partners`; None: unknown.
    Raises:
        DataError: there are fewer rows than the batch size.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        indices: npt.NDArray[np.int64],
        batch_size: int,
        seed: int,
        device: torch.device,
        memory_limit: int | None = None,
        patients: npt.NDArray[np.int64] | None = None,
    ) -> None:
        if len(indices) < batch_size:
            raise DataError(
                f"pretrain.batch_size = {batch_size} is above the {len(indices)} images to train on; "
                "expected at most as many, so that no image is in a batch twice"
            )
        self.images = images
        self.indices = np.asarray(indices, dtype=np.int64)
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        self.patients = patients
        self._order: tuple[int, npt.NDArray[np.int64]] | None = None
        self._resident = _upload(images, self.indices, device, memory_limit)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.indices) // self.batch_size

    def draw(self, step: int, shard: int = 0, num_shards: int = 1) -> tuple[Tensor, npt.NDArray[np.int64]]:
        """The batch of one step, or one of its equal shards.

        Args:
            step: counted from 0.
            shard: in [0, num_shards).
            num_shards: divides the batch size. The images of a step do not depend on it.
        Returns:
            uint8 images, shape (B / num_shards, S, S, 3), on the device; and their sample ids, int64,
            shape (B / num_shards,), epoch * N + row, which are unique in the run.
        """
        epoch, positions = self._positions(step, shard, num_shards)
        rows = self.indices[positions]
        return self._gather(positions, rows), epoch * len(self.images) + rows

    def draw_partners(self, step: int, shard: int = 0, num_shards: int = 1) -> Tensor:
        """For every image of `draw`, another image of its patient, or itself if there is none.

        Partners are drawn anew in every epoch, from the images to train on, as a function of (seed, epoch).

        Returns:
            uint8, shape (B / num_shards, S, S, 3), on the device.
        """
        assert self.patients is not None, "natural positives without patients are refused before"
        epoch, positions = self._positions(step, shard, num_shards)
        generator = np.random.default_rng(derive_seed(self.seed, "partners", epoch))
        found = partners(self.patients[self.indices], generator)[positions]
        return self._gather(found, self.indices[found])

    def rows(self, step: int) -> npt.NDArray[np.int64]:
        """Rows of `images` in the whole batch of one step; int64, shape (B,)."""
        return self.indices[self._positions(step, 0, 1)[1]]

    def _positions(self, step: int, shard: int, num_shards: int) -> tuple[int, npt.NDArray[np.int64]]:
        """Epoch of a step, and positions of a shard's images in `indices`."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        size = self.batch_size // num_shards
        begin = batch * self.batch_size + shard * size
        return epoch, self._epoch_order(epoch)[begin : begin + size]

    def _epoch_order(self, epoch: int) -> npt.NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            generator = np.random.default_rng(derive_seed(self.seed, "epoch", epoch))
            self._order = epoch, generator.permutation(len(self.indices))
        return self._order[1]

    def _gather(self, positions: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> Tensor:
        if self._resident is not None:
            return self._resident[to_device(positions, self.device)]
        return to_device(self.images[rows], self.device)


def partners(patients: npt.NDArray[np.int64], generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """For every image a random other one of the same patient, or itself if there is none.

    Args:
        patients: int64, shape (N,), number of every image's patient.
        generator: source of the draws.
    Returns:
        int64, shape (N,), positions in `patients`.
    """
    order = np.argsort(patients, kind="stable")
    _, starts, inverse, sizes = np.unique(patients[order], return_index=True, return_inverse=True, return_counts=True)
    start, size = starts[inverse], sizes[inverse]
    rank = np.arange(len(patients)) - start
    steps = 1 + (generator.random(len(patients)) * (size - 1)).astype(np.int64)
    found = np.empty(len(patients), dtype=np.int64)
    found[order] = order[start + np.where(size > 1, (rank + steps) % size, 0)]
    return found


def _upload(
    images: npt.NDArray[np.uint8], indices: npt.NDArray[np.int64], device: torch.device, memory_limit: int | None
) -> Tensor | None:
    """Copy of the training rows on the GPU; None on a CPU or if they do not fit."""
    if device.type != "cuda":
        return None
    free_bytes, _ = torch.cuda.mem_get_info(device)
    if memory_limit is not None:
        free_bytes = min(free_bytes, memory_limit)
    shape = (len(indices), *images.shape[1:])
    if int(np.prod(shape, dtype=np.int64)) > _SHARE_OF_FREE_MEMORY * free_bytes:
        return None
    resident = torch.empty(shape, dtype=torch.uint8, device=device)
    for begin in range(0, len(indices), _UPLOAD_ROWS):
        rows = indices[begin : begin + _UPLOAD_ROWS]
        resident[begin : begin + _UPLOAD_ROWS] = torch.from_numpy(np.ascontiguousarray(images[rows])).to(device)
    return resident
