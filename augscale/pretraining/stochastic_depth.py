"""Which images stochastic depth keeps, drawn so that it does not matter how a step's batch is cut into parts."""

from __future__ import annotations

import torch
from torch import Tensor


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
        shape = num_rows // self._images, self._num_parts, self._images
        keep = torch.empty(shape).bernoulli_(probability, generator=self._generator)
        return keep[:, self._part].flatten().nonzero().squeeze(1)
