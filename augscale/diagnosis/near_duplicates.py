"""Near-duplicate photographs, which would be the hardest negative pairs although they are not negatives.

The cache already keeps only one of several exact copies. Near-duplicates are the same photograph stored in different
sizes or compressions, or two exposures of one eye a moment apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augscale.data.thumbnails import MIN_CORRELATION, thumbnails_standardised
from augscale.scoring.distances import nearest_rows

_NEIGHBOURS = 4


@dataclass(frozen=True, kw_only=True)
class NearDuplicate:
    """Two rows of the images, a < b, and how alike they are."""

    a: int
    b: int
    correlation: float


def near_duplicates(
    images: npt.NDArray[np.uint8], rows: Sequence[int] | None = None, *, min_correlation: float = MIN_CORRELATION
) -> list[NearDuplicate]:
    """Pairs of photographs whose grey 32 x 32 thumbnails correlate almost perfectly, most alike first.

    Each photograph is compared with its four nearest ones, so not every pair of a larger cluster is listed. Cameras
    with a wide black surround make all photographs correlate; the threshold is set for retinas that fill the image.

    Args:
        images: uint8, shape (N, S, S, 3); may be memory-mapped.
        rows: list only pairs with at least one of these; None lists all.
        min_correlation: in [-1, 1].
    """
    if len(images) < 2:
        return []
    thumbs = thumbnails_standardised(images)
    queries = np.arange(len(images)) if rows is None else np.unique(np.asarray(rows, dtype=np.int64))
    found = nearest_rows(thumbs, thumbs[queries], min(_NEIGHBOURS + 1, len(images)))
    pairs: dict[tuple[int, int], float] = {}
    for query, neighbours in zip(queries.tolist(), found.tolist(), strict=True):
        for other in neighbours:
            if other != query:
                a, b = sorted((query, other))
                pairs[a, b] = float(thumbs[a].astype(np.float64) @ thumbs[b].astype(np.float64))
    listed = [NearDuplicate(a=a, b=b, correlation=r) for (a, b), r in pairs.items() if r >= min_correlation]
    return sorted(listed, key=lambda pair: (-pair.correlation, pair.a, pair.b))
