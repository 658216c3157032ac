"""Draws the images that stochastic depth keeps, independent of how a step's batch is cut into parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from augscale.system.devices import to_device


class DepthDraws:
    """The draws of one part of one step, in the order in which the network asks for them.

    Every draw is made for the whole batch, and the numbers of this part are returned. So parts in several processes or
    threads, or one after the other, drop the same images as the undivided batch.

    Args:
        seed: seed of the step, the same for all its parts.
        part: number of this part, in [0, num_parts).
        num_parts: number of equal parts of the batch; a part is a run of consecutive images.
        images: images in a part.
    """

    def __init__(self, seed: int, part: int, num_parts: int, images: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._part = part
        self._num_parts = num_parts
        self._images = images

    def kept(self, num_rows: int, probability: float) -> Tensor:
        """Rows to keep.

        Args:
            num_rows: views of the part's images, ordered by view first: a multiple of `images`.
            probability: that a view is kept.
        Returns:
            int64, rising, in [0, num_rows).
        """
        return self._draw(num_rows, probability).nonzero().squeeze(1)

    def factors(self, num_rows: int, probabilities: Sequence[float], scaled: bool, device: torch.device) -> Tensor:
        """Factors that branches are multiplied by: several draws, copied to the device at once.

        Args:
            num_rows: as in `kept`.
            probabilities: one per draw; for probability 1 nothing is drawn.
            scaled: make the factor of kept rows 1 / probability, which preserves the mean.
            device: the copy is asynchronous.
        Returns:
            float32, shape (len(probabilities), num_rows); 0 for dropped rows.
        """
        rows = [
            torch.ones(num_rows) if p == 1 else self._draw(num_rows, p).div_(p if scaled else 1) for p in probabilities
        ]
        return to_device(torch.stack(rows).numpy(), device)

    def _draw(self, num_rows: int, probability: float) -> Tensor:
        """float32, shape (num_rows,), values 0 and 1."""
        shape = num_rows // self._images, self._num_parts, self._images
        keep = torch.empty(shape).bernoulli_(probability, generator=self._generator)
        return keep[:, self._part].flatten()
