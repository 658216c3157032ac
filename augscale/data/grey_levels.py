"""The stored values that become black and white: one range for all files of a kind in a source, never one per file.

A file of more than 8 bits does not say which values are black and white: cameras store 10, 12 or 14 bits in 16, and
scanners use a small part of the range. Scaling each image by its own maximum would remove differences of exposure, so
the range is found over all files of a source, from the 0.1th and 99.9th percentile of their values:

- DICOM: the range that the stored bits can hold, if the values fill a quarter of it; else the percentiles.
- Other files: 0 to 1 (floating point), 0 to 255, 0 to 4095 or 0 to 65535, if the values fill a quarter of it; else, for
  whole numbers, 0 to the largest value of the fewest bits that hold them. If the values are negative or far from 0, or
  small fractions: the percentiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LOW_QUANTILE, HIGH_QUANTILE = 0.001, 0.999
_FILLED = 0.25
"""Share of a declared or usual range that the brightest values must exceed for the range to be used."""
_SPREAD = 0.125
"""Share of such a range that the values must extend over; below it fewer than 32 grey levels would remain."""
_USUAL_TOPS = (1.0, 255.0, 4095.0, 65535.0)
_QUANTILES = np.linspace(0, 1, 1001)
_MOST_VALUES_A_SIDE = 512
"""Every n-th row and column of larger images is measured."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class GreyRange:
    """Values, in the units of the file, that become 0 and 255; values outside are clipped."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """The stored values of a file, before they become 8 bits.

    Attributes:
        values: numbers of any type, shape (H, W) or (H, W, 3), all finite.
        kind: files of one kind in one source share a range, e.g. "DICOM CT"; None if the file itself defines black
            and white, which is then `nominal`.
        nominal: the range that the format declares, if any.
        counts: True if the range probably starts at 0 and ends at a usual maximum, such as 1, 255 or 4095.
        inverted: True if low values are bright (MONOCHROME1, MINISWHITE).
        padding: bool, shape (H, W): pixels outside the image, which are ignored when a range is found.
    """

    values: npt.NDArray[np.generic]
    kind: str | None
    nominal: GreyRange | None = None
    counts: bool = False
    inverted: bool = False
    padding: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FileQuantiles:
    """The basis for choosing a range: 1001 evenly spaced quantiles of one file's values, and facts about its format."""

    quantiles: npt.NDArray[np.float64]
    nominal: GreyRange | None
    counts: bool
    whole: bool
    """True for whole numbers."""


def file_quantiles(samples: Samples) -> FileQuantiles:
    """The quantiles of one file; each is a value that occurs in it."""
    values = samples.values
    steps = tuple(max(1, math.ceil(side / _MOST_VALUES_A_SIDE)) for side in values.shape[:2])
    seen = values[:: steps[0], :: steps[1]]
    if samples.padding is not None:
        inside = ~samples.padding[:: steps[0], :: steps[1]]
        seen = seen[inside] if inside.any() else seen
    ordered = np.sort(seen, axis=None)
    places = np.round(_QUANTILES * (ordered.size - 1)).astype(np.int64)
    return FileQuantiles(
        quantiles=ordered[places].astype(np.float64),
        nominal=samples.nominal,
        counts=samples.counts,
        whole=values.dtype.kind != "f",
    )


def choose_range(files: Sequence[FileQuantiles]) -> GreyRange:
    """The range of one or more files of one kind, see the module docstring; each file has the same weight."""
    pooled = np.concatenate([file.quantiles for file in files])
    low, high = (float(value) for value in np.quantile(pooled, (LOW_QUANTILE, HIGH_QUANTILE), method="nearest"))
    nominal = files[0].nominal
    if nominal is not None and all(file.nominal == nominal for file in files):
        if low == high or _fills(nominal, low, high):
            return nominal
    elif low >= 0 and all(file.counts for file in files):
        top = _counted_top(low, high, whole=all(file.whole for file in files))
        if top is not None:
            return GreyRange(low=0.0, high=top)
    return GreyRange(low=low, high=high if high > low else low + 1)


def to_8_bit(samples: Samples, grey_range: GreyRange) -> Pixels:
    """Scales and clips the values, and inverts them if low values are bright; uint8, of the shape of the values."""
    scaled = samples.values.astype(np.float64)
    scaled -= grey_range.low
    scaled *= 255.0 / (grey_range.high - grey_range.low)
    pixels = np.clip(np.round(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8)
    return 255 - pixels if samples.inverted else pixels


def full_scale(highest: float, declared: float) -> float:
    """The top of a lookup table's output: as declared; if the highest entry fills less than a quarter of that (8-bit
    values in 16-bit entries), 2**bits - 1 of the fewest bits that hold it."""
    return declared if highest > declared * _FILLED or highest <= 0 else _top_of_fewest_bits(highest)


def range_lines(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines to print, one for each entry of a manifest's `ranges`."""
    return [
        f"{found['source']} ({found['kind']}): {found['low']:.6g} is black and {found['high']:.6g} white "
        + ("(data.range)" if found["given"] else f"(found over {found['files']} files)")
        for found in facts
    ]


def _counted_top(low: float, high: float, *, whole: bool) -> float | None:
    """The likely full scale of a camera; None for values far from 0, or small fractions."""
    if whole and high <= 255:
        return 255.0  # 8-bit values in a wider file are taken as they are, like those of 8-bit files
    usual = next((top for top in _USUAL_TOPS[1 if whole else 0 :] if high <= top), None)
    if usual is not None and (high > usual * _FILLED or low == high):
        top = usual
    elif whole:
        top = _top_of_fewest_bits(high)
    else:
        return None
    return top if low == high or high - low >= top * _SPREAD else None


def _top_of_fewest_bits(highest: float) -> float:
    """2**bits - 1 of the fewest bits, at least 8, that hold the value."""
    return float(max(255, 2 ** math.floor(highest).bit_length() - 1))


def _fills(nominal: GreyRange, low: float, high: float) -> bool:
    width = nominal.high - nominal.low
    return high - nominal.low > width * _FILLED and high - low >= width * _SPREAD
