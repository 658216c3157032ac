"""Block-wise masks of patch grids (BEiT, Bao et al. 2022; as iBOT and DINOv2 use them).

A share of the views is masked, each at its own ratio. A mask is a union of rectangles of random area and aspect, drawn
until the ratio is reached or no rectangle fits any more.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

MIN_PATCHES = 4
"""Smallest area of a rectangle, in patches."""
MAX_SHARE = 0.5
"""Largest number of patches that one rectangle adds, as a share of the grid."""
ASPECTS = (0.3, 1 / 0.3)
"""Range of height / width, log-uniform."""
_ATTEMPTS = 10
"""Rectangles that are tried before a mask is left as it is."""


def block_masks(
    num_views: int,
    grid: tuple[int, int],
    ratio: tuple[float, float],
    probability: float,
    generator: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """Masks of all views of a batch.

    The range of ratios is divided evenly among the masked views, and each draws its ratio from its own part, as in
    DINOv2's collate function. Which views are masked is random.

    Args:
        num_views: N.
        grid: height and width in patches.
        ratio: lowest and highest share of masked patches.
        probability: share of the views that are masked; their number is rounded down.
        generator: source of all draws.
    Returns:
        bool, shape (N, height, width), True where a patch is masked.
    """
    masks = np.zeros((num_views, *grid), dtype=np.bool_)
    masked = int(num_views * probability)
    bounds = np.linspace(*ratio, masked + 1)
    for row in range(masked):
        wanted = int(grid[0] * grid[1] * generator.uniform(bounds[row], bounds[row + 1]))
        masks[row] = block_mask(grid, wanted, generator)
    return masks[generator.permutation(num_views)]


def block_mask(grid: tuple[int, int], wanted: int, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """One mask.

    Args:
        grid: height and width in patches.
        wanted: number of patches to mask, never exceeded.
        generator: source of all draws.
    Returns:
        bool, shape (height, width).
    """
    mask = np.zeros(grid, dtype=np.bool_)
    largest = int(MAX_SHARE * mask.size)
    while (missing := wanted - int(mask.sum())) > 0:
        if not _add_rectangle(mask, min(missing, largest), generator):
            break
    return mask


def _add_rectangle(mask: npt.NDArray[np.bool_], most: int, generator: np.random.Generator) -> bool:
    """Masks one more rectangle that adds 1 to `most` patches, in place; False if none of the attempts does."""
    height, width = mask.shape
    low, high = (math.log(aspect) for aspect in ASPECTS)
    for _ in range(_ATTEMPTS):
        # The lower bound may be above the upper one: few patches are missing, and small rectangles then get smaller.
        area = MIN_PATCHES + (most - MIN_PATCHES) * generator.random()
        aspect = math.exp(generator.uniform(low, high))
        tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if tall >= height or wide >= width:
            continue
        top, left = generator.integers(0, height - tall + 1), generator.integers(0, width - wide + 1)
        window = mask[top : top + tall, left : left + wide]
        if 0 < window.size - int(window.sum()) <= most:
            window[:] = True
            return True
    return False
