"""Antialiased drawing of many small shapes at once: strokes (tapering line segments) and blobs (uneven discs).

Each shape is evaluated only on the small window of pixels around it; shapes whose windows have the same size are
evaluated together. Layers are float64, shape (size, size), and keep the maximum of what is drawn on them, so that
the overlapping ends of the segments of one vessel do not add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from augscale.demo.draws import Floats

_HALF_PIXEL = 0.6  # half width of the smoothing box; a little above 0.5 hides the steps of slanted edges
_MIN_RADIUS_PX = 0.55  # smaller blobs are drawn at this radius and paler, so that their total absorption stays right
_NUM_LOBES = 3


@dataclass(frozen=True, kw_only=True)
class Strokes:
    """Line segments: start and end float64 (N, 2), radius (half width) and strength float64 (N,); one length unit."""

    start: Floats
    end: Floats
    radius: Floats
    strength: Floats

    def __len__(self) -> int:
        return len(self.radius)


@dataclass(frozen=True, kw_only=True)
class Blobs:
    """Uneven discs, all arrays float64 with one row per blob.

    center (N, 2); radius (N,), in the unit of center; aspect (N,), length over width; angle (N,), of the long axis,
    radians; lobes (N, 3), relative amplitude of the second to fourth harmonic of the outline; phases (N, 3),
    radians; softness (N,), width of the edge relative to the radius; strength (N,).
    """

    center: Floats
    radius: Floats
    aspect: Floats
    angle: Floats
    lobes: Floats
    phases: Floats
    softness: Floats
    strength: Floats

    def __len__(self) -> int:
        return len(self.radius)

    def where(self, keep: npt.NDArray[np.bool_]) -> Blobs:
        """The blobs for which `keep` (bool, shape (N,)) is true."""
        return Blobs(**{name: getattr(self, name)[keep] for name in self.__dataclass_fields__})

    @property
    def area(self) -> Floats:
        """Area of each blob in squared length units, float64 (N,)."""
        return np.pi * self.radius**2 * (1 + 0.5 * (self.lobes**2).sum(axis=1))


Shapes = TypeVar("Shapes", Strokes, Blobs)


def concatenate(parts: Sequence[Shapes]) -> Shapes:
    """The strokes or blobs of all parts, in order."""
    kind = type(parts[0])
    return kind(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in kind.__dataclass_fields__})


def _windows(
    center: Floats, half_extent: Floats, size: int
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Groups of shapes with windows of one size: (rows of the shapes (n,), columns x and rows y of pixels (n, k))."""
    half = np.maximum(np.ceil(half_extent), 1).astype(np.int64)
    inside = np.all((center > -half[:, None]) & (center < size - 1 + half[:, None]), axis=1)
    origin = np.rint(center).astype(np.int64)
    for extent in np.unique(half[inside]):
        rows = np.flatnonzero(inside & (half == extent))
        offset_y, offset_x = (grid.ravel() for grid in np.mgrid[-extent : extent + 1, -extent : extent + 1])
        yield rows, origin[rows, 0, None] + offset_x, origin[rows, 1, None] + offset_y


def _keep_maximum(layer: Floats, x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], value: Floats) -> None:
    size = layer.shape[0]
    keep = (value > 0) & (x >= 0) & (x < size) & (y >= 0) & (y < size)
    np.maximum.at(layer.reshape(-1), y[keep] * size + x[keep], value[keep])


def draw_strokes(layer: Floats, strokes: Strokes) -> None:
    """Raises `layer` to the strength of each stroke times the share of the pixel that it covers.

    Args:
        layer: float64, shape (size, size), contiguous, changed in place.
        strokes: in pixels, x to the right and y downwards.
    """
    middle = (strokes.start + strokes.end) / 2
    along = strokes.end - strokes.start
    squared_length = np.maximum((along**2).sum(axis=1), 1e-12)
    half_extent = strokes.radius + np.sqrt(squared_length) / 2 + _HALF_PIXEL
    for rows, x, y in _windows(middle, half_extent, layer.shape[0]):
        from_x, from_y = x - strokes.start[rows, 0, None], y - strokes.start[rows, 1, None]
        along_x, along_y = along[rows, 0, None], along[rows, 1, None]
        share = np.clip((from_x * along_x + from_y * along_y) / squared_length[rows, None], 0, 1)
        distance = np.sqrt((from_x - share * along_x) ** 2 + (from_y - share * along_y) ** 2)
        radius = strokes.radius[rows, None]
        covered = np.minimum(distance + _HALF_PIXEL, radius) - np.maximum(distance - _HALF_PIXEL, -radius)
        _keep_maximum(layer, x, y, strokes.strength[rows, None] * covered / (2 * _HALF_PIXEL))


def draw_blobs(layer: Floats, blobs: Blobs) -> None:
    """Raises `layer` to the strength of each blob times its coverage of the pixel.

    Args:
        layer: float64, shape (size, size), contiguous, changed in place.
        blobs: in pixels, x to the right and y downwards.
    """
    drawn = np.maximum(blobs.radius, _MIN_RADIUS_PX)
    strength = blobs.strength * (blobs.radius / drawn) ** 2
    stretch = np.sqrt(blobs.aspect)
    half_extent = drawn * stretch * (1 + np.abs(blobs.lobes).sum(axis=1) + blobs.softness) + 1
    orders = np.arange(2, 2 + _NUM_LOBES)
    for rows, x, y in _windows(blobs.center, half_extent, layer.shape[0]):
        from_x, from_y = x - blobs.center[rows, 0, None], y - blobs.center[rows, 1, None]
        cosine, sine = np.cos(blobs.angle[rows, None]), np.sin(blobs.angle[rows, None])
        long = (from_x * cosine + from_y * sine) / stretch[rows, None]
        short = (from_y * cosine - from_x * sine) * stretch[rows, None]
        distance = np.sqrt(long**2 + short**2)
        turn = np.arctan2(short, long)[:, :, None] * orders + blobs.phases[rows, None, :]
        outline = drawn[rows, None] * (1 + (np.cos(turn) * blobs.lobes[rows, None, :]).sum(axis=2))
        edge = np.maximum(blobs.softness[rows, None] * drawn[rows, None], 2 * _HALF_PIXEL)
        ramp = np.clip((outline - distance) / edge + 0.5, 0, 1)
        _keep_maximum(layer, x, y, strength[rows, None] * ramp * ramp * (3 - 2 * ramp))
