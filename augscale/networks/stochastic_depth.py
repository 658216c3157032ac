"""Which images stochastic depth keeps, drawn so that it does not matter how a step's batch is cut into parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from augscale.system.devices import to_device


class DepthDraws:
    """The draws of one part of one step, in the order in which the network asks for them.

    Every draw is made for the whole batch, and the part's own are handed out. So parts that are worked on by several
    processes, threads, or one after the other drop what the undivided batch would drop.

    Args:
        seed: of the step, the same for all its parts.
        part: in [0, num_parts).
        num_parts: equal parts of the batch, images of a part side by side.
        images: in a part.
    """

    def __init__(self, seed: int, part: int, num_parts: int, images: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._part = part
        self._num_parts = num_parts
        self._images = images

    def kept(self, num_rows: int, probability: float) -> Tensor:
        """Rows to keep.

        Args:
            num_rows: views of the part's images, view-major: a multiple of `images`.
            probability: of each view to be kept.
        Returns:
            int64, rising, in [0, num_rows).
        """
        return self._draw(num_rows, probability).nonzero().squeeze(1)

    def factors(self, num_rows: int, probabilities: Sequence[float], scaled: bool, device: torch.device) -> Tensor:
        """What branches are multiplied by, where rows are not picked out: several draws, on the device in one go.

        Args:
            num_rows: as in `kept`.
            probabilities: of each draw.
            scaled: whether kept rows count 1 / probability, so that the mean stays.
            device: which is not waited for.
        Returns:
            float32, shape (len(probabilities), num_rows); 0 for dropped rows. Draws of probability 1 are not made.
        """
        rows = [
            torch.ones(num_rows) if p == 1 else self._draw(num_rows, p).div_(p if scaled else 1) for p in probabilities
        ]
        return to_device(torch.stack(rows).numpy(), device)

    def _draw(self, num_rows: int, probability: float) -> Tensor:
        """float32, shape (num_rows,), 0 and 1."""
        shape = num_rows // self._images, self._num_parts, self._images
        keep = torch.empty(shape).bernoulli_(probability, generator=self._generator)
        return keep[:, self._part].flatten()
