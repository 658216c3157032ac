"""Meaning of the stored values of a DICOM image: modality LUT, VOI LUT or window, palette, padding.

pydicom applies the tables (DICOM PS3.3 C.11.1, C.11.2 and C.7.9). Their entries are widened to 16 bits first, because
pydicom indexes a table of 8-bit entries with 8 bits, however long it is. In images of several frames, the shared
functional groups and those of the first frame are searched, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from augscale.data.grey_levels import GreyRange, Samples, full_scale
from augscale.data.image_records import UnusableImage

if TYPE_CHECKING:
    from pydicom import Dataset

Values = npt.NDArray[Any]

_NOMINAL_BITS = 8
"""Values of at most this many stored bits are taken as they are, like those of other 8-bit files."""
_OUTPUT_BITS = 16
"""Bits of a window's output; more than the 8 bits that it becomes."""


@dataclass(frozen=True, kw_only=True)
class GreyMeaning:
    """Meaning of the stored grey values of one file.

    Attributes:
        modality: Rescale Slope and Intercept, or a Modality LUT Sequence; empty if there is neither.
        voi: a window or a VOI LUT Sequence, with all that pydicom needs to apply it; None: a range is used instead.
        voi_top: highest output of `voi`; the lowest is 0.
        nominal: range of the values after the modality LUT that the stored bits can give; None for floating point.
        kind: see `Samples`; None if the file itself defines black and white.
        inverted: MONOCHROME1.
    """

    modality: Dataset
    voi: Dataset | None
    voi_top: float
    nominal: GreyRange | None
    kind: str | None
    inverted: bool


def grey_meaning(header: Dataset, *, use_window: bool = True) -> GreyMeaning:
    """Reads the tables of a grey image from its header; needs no pixels.

    Args:
        header: header of a MONOCHROME1 or MONOCHROME2 image.
        use_window: apply the file's own window or VOI LUT if it has one. Files of 8 bits without a modality LUT
            always apply it: they need no range.
    Raises:
        UnusableImage: a table is invalid.
    """
    modality = _modality(header)
    stored = _stored_range(header)
    nominal = _after_modality(stored, modality, header)
    few_bits = stored is not None and stored.low == 0 and stored.high < 2**_NOMINAL_BITS
    by_itself = use_window or (few_bits and not len(modality))
    voi, top = _voi(header, nominal) if by_itself else (None, 0.0)
    kind = None if voi is not None or (few_bits and by_itself) else _kind(header, stored, modality)
    if stored is not None and (stored.low < 0 or stored.high >= 2**_OUTPUT_BITS):
        nominal = None  # no equipment uses the whole range of signed or 32-bit values
    inverted = photometric(header) == "MONOCHROME1"
    return GreyMeaning(modality=modality, voi=voi, voi_top=top, nominal=nominal, kind=kind, inverted=inverted)


def grey_samples(stored: Values, header: Dataset, meaning: GreyMeaning) -> Samples:
    """Applies the modality LUT and the window or VOI LUT, if the file has them.

    Args:
        stored: stored values, shape (H, W).
        header: for the padding value.
        meaning: from `grey_meaning`.
    """
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    wide = stored if stored.dtype.kind == "f" else stored.astype(np.int64)
    values = apply_modality_lut(wide, meaning.modality)
    if meaning.voi is not None:
        if meaning.voi.get("VOILUTSequence"):
            values = np.rint(values).astype(np.int64)
        shown = apply_voi_lut(values, meaning.voi)
        return Samples(
            values=shown, kind=None, nominal=GreyRange(low=0.0, high=meaning.voi_top), inverted=meaning.inverted
        )
    return Samples(
        values=values,
        kind=meaning.kind,
        nominal=meaning.nominal,
        counts=stored.dtype.kind == "f",
        inverted=meaning.inverted,
        padding=_padding(stored, header),
    )


def color_kind(header: Dataset) -> str | None:
    """The kind of a color image, see `Samples`; None for 8 bits."""
    bits = int(header.BitsStored)
    return None if bits <= _NOMINAL_BITS else f"DICOM {_modality_name(header)} colour, {bits} bits"


def apply_palette(indices: Values, header: Dataset) -> tuple[Values, float]:
    """Applies the palette.

    Args:
        indices: stored values, shape (H, W).
    Returns:
        Values, shape (H, W, 3), and the value of full brightness.
    """
    from pydicom.pixels import apply_color_lut

    entries, first, _ = (int(number) for number in header.RedPaletteColorLookupTableDescriptor)
    entries = entries or 2**16
    if header.PixelRepresentation and first >= 2**15:
        first -= 2**16  # written as unsigned
    palette, declared = _wide_palette(header, entries)
    table = apply_color_lut(np.arange(first, first + entries), palette)[:, :3]
    colors = table[np.clip(indices.astype(np.int64) - first, 0, len(table) - 1)]
    return colors, full_scale(float(table.max()), declared or float(np.iinfo(table.dtype).max))


def _wide_palette(header: Dataset, entries: int) -> tuple[Dataset, float | None]:
    """A palette of 8-bit entries with 16 bits each, and 255; any other palette as it is."""
    from pydicom import Dataset

    if len(header.get("RedPaletteColorLookupTableData") or bytes(2 * entries)) >= 2 * entries:
        return header, None
    palette = Dataset()
    _, first, _ = header.RedPaletteColorLookupTableDescriptor
    for color in ("Red", "Green", "Blue"):
        data = np.frombuffer(header[f"{color}PaletteColorLookupTableData"].value, dtype=np.uint8)[:entries]
        setattr(palette, f"{color}PaletteColorLookupTableDescriptor", [entries % 2**16, first, 16])
        setattr(palette, f"{color}PaletteColorLookupTableData", data.astype("u2").tobytes())
    return palette, 255.0


def photometric(header: Dataset) -> str:
    """Photometric Interpretation, in capitals."""
    return str(header.get("PhotometricInterpretation") or "").strip().upper()


def _tables(header: Dataset, group: str) -> Iterator[Dataset]:
    """Data sets that may hold a table: the image, the shared functional groups, those of the first frame."""
    yield header
    for sequence in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for frame in (header.get(sequence) or [])[:1]:
            yield from (frame.get(group) or [])[:1]


def _modality(header: Dataset) -> Dataset:
    from pydicom import Dataset

    modality = Dataset()
    if header.get("ModalityLUTSequence"):
        item, _, _ = _table(header.ModalityLUTSequence[0], header, signed=bool(header.get("PixelRepresentation")))
        modality.ModalityLUTSequence = [item]
        return modality
    for place in _tables(header, "PixelValueTransformationSequence"):
        slope, intercept = _number(place.get("RescaleSlope")), _number(place.get("RescaleIntercept"))
        if slope is not None and intercept is not None:
            if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
                raise UnusableImage(f"a DICOM file with RescaleSlope {slope:g} and RescaleIntercept {intercept:g}")
            if (slope, intercept) != (1, 0):
                modality.RescaleSlope, modality.RescaleIntercept = place.RescaleSlope, place.RescaleIntercept
            return modality
    return modality


def _voi(header: Dataset, stored: GreyRange | None) -> tuple[Dataset | None, float]:
    """The first VOI LUT or valid window, as a data set, and its highest output; the lowest is 0."""
    from pydicom import Dataset

    for place in _tables(header, "FrameVOILUTSequence"):
        voi = Dataset()
        voi.PhotometricInterpretation = "MONOCHROME2"
        voi.BitsStored, voi.PixelRepresentation = _OUTPUT_BITS, 0
        sequence = place.get("VOILUTSequence")
        if sequence and sequence[0].get("LUTDescriptor") and sequence[0].get("LUTData"):
            item, highest, declared = _table(sequence[0], header, signed=stored is None or stored.low < 0)
            voi.VOILUTSequence = [item]
            return voi, full_scale(highest, declared)
        center, width = _number(place.get("WindowCenter")), _number(place.get("WindowWidth"))
        function = str(place.get("VOILUTFunction") or "LINEAR").strip().upper()
        if center is not None and width is not None and _is_window(center, width, function, stored):
            voi.WindowCenter, voi.WindowWidth, voi.VOILUTFunction = center, width, function
            return voi, 2.0**_OUTPUT_BITS - 1
    return None, 0.0


def _is_window(center: float, width: float, function: str, stored: GreyRange | None) -> bool:
    """True for a valid window: equipment that sets none writes zeros, or the whole range that can be stored."""
    least = 1 if function == "LINEAR" else 0
    if not (math.isfinite(center) and math.isfinite(width) and width >= least and width > 0):
        return False
    if stored is None or function == "SIGMOID":
        return True
    return center - width / 2 > stored.low + 1 or center + width / 2 < stored.high - 1


def _table(item: Dataset, header: Dataset, *, signed: bool) -> tuple[Dataset, float, float]:
    """A lookup table with 16 bits an entry, its highest entry, and the highest that its descriptor allows."""
    from pydicom import Dataset
    from pydicom.dataelem import DataElement

    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries = entries or 2**16
    if signed and first >= 2**15:
        first -= 2**16  # written as unsigned
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if header.original_encoding[1] is not False else ">"
        table = np.frombuffer(data, dtype=np.uint8 if len(data) < 2 * entries else f"{order}u2")
    else:
        table = np.atleast_1d(np.asarray(data, dtype=np.uint16))
        if len(table) < entries <= 2 * len(table):  # two 8-bit entries to a word
            table = table.astype("<u2").view(np.uint8)
    if len(table) < entries or not 1 <= bits <= 16:
        raise UnusableImage(f"a DICOM file whose LUT has {len(table)} entries of {bits} bits; it declares {entries}")
    table = table[:entries]
    wide = Dataset()
    wide.add(DataElement("LUTDescriptor", "SS" if first < 0 else "US", [entries % 2**16, first, 16]))
    wide.add(DataElement("LUTData", "US", [int(value) for value in table]))
    return wide, float(table.max()), float(2**bits - 1)


def _stored_range(header: Dataset) -> GreyRange | None:
    if "BitsStored" not in header:  # floating point
        return None
    bits = int(header.BitsStored)
    if header.get("PixelRepresentation"):
        return GreyRange(low=-(2.0 ** (bits - 1)), high=2.0 ** (bits - 1) - 1)
    return GreyRange(low=0.0, high=2.0**bits - 1)


def _after_modality(stored: GreyRange | None, modality: Dataset, header: Dataset) -> GreyRange | None:
    if stored is None:
        return None
    if modality.get("ModalityLUTSequence"):
        table = modality.ModalityLUTSequence[0].LUTData
        bits = int(header.ModalityLUTSequence[0].LUTDescriptor[2])
        return GreyRange(low=0.0, high=full_scale(float(max(table)), float(2**bits - 1)))
    slope, intercept = float(modality.get("RescaleSlope", 1)), float(modality.get("RescaleIntercept", 0))
    ends = sorted((stored.low * slope + intercept, stored.high * slope + intercept))
    return GreyRange(low=ends[0], high=ends[1])


def _kind(header: Dataset, stored: GreyRange | None, modality: Dataset) -> str:
    """Values after a modality LUT have common units; without one they are comparable between equal bit depths."""
    name = f"DICOM {_modality_name(header)}"
    if len(modality) or (stored is not None and stored.low < 0):
        return name
    allocated = int(header.BitsAllocated)
    return f"{name}, {allocated if allocated > 16 or stored is None else int(header.BitsStored)} bits"


def _modality_name(header: Dataset) -> str:
    return str(header.get("Modality") or "").strip().upper() or "images"


def _padding(stored: Values, header: Dataset) -> npt.NDArray[np.bool_] | None:
    value = _number(header.get("PixelPaddingValue"))
    if value is None:
        return None
    if header.get("PixelRepresentation") and value >= 2 ** (int(header.BitsStored) - 1):
        value -= 2 ** int(header.BitsAllocated)
    limit = _number(header.get("PixelPaddingRangeLimit"))
    low, high = sorted((value, value if limit is None else limit))
    return np.asarray((stored >= low) & (stored <= high))


def _number(value: Any) -> float | None:
    """A number, or the first of several; None if there is none."""
    if value is not None and not isinstance(value, (str, bytes, int, float)) and hasattr(value, "__len__"):
        value = value[0] if len(value) else None
    try:
        return None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        return None
