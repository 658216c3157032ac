"""DICOM files that decode without a complaint and would be read wrongly: no photographs, cut-off data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from augscale.data.dicom_levels import UnusableDicom, photometric

if TYPE_CHECKING:
    from pydicom import Dataset

_STORAGE = "1.2.840.10008.5.1.4.1.1"
_NO_IMAGES = {
    f"{_STORAGE}.66.4": "a DICOM segmentation, whose values are labels; not an image",
    f"{_STORAGE}.66.7": "a DICOM segmentation, whose values are labels; not an image",
    f"{_STORAGE}.481.2": "a DICOM dose grid; not an image",
}
_WHOLE_SLIDE = f"{_STORAGE}.77.1.6"
_BEGIN = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
"""Of JPEG and JPEG-LS, and of JPEG 2000."""
_END = b"\xff\xd9"
"""Of all three; their data hold these two bytes nowhere else."""
_MANY = 0.01
"""Share of pixels that may be larger than the bits stored allow: markers and padding."""


def refuse_by_header(header: Dataset) -> None:
    """Refuses what is no image, one tile of a whole slide, and a presentation that contradicts itself.

    Raises:
        UnusableDicom: with what it is.
    """
    kind = str(header.get("SOPClassUID") or "").strip()
    if kind in _NO_IMAGES:
        raise UnusableDicom(_NO_IMAGES[kind])
    tiles = int(header.get("NumberOfFrames") or 1)
    if kind == _WHOLE_SLIDE and tiles > 1:
        raise UnusableDicom(f"a DICOM whole slide in {tiles} tiles; export tiles or an overview as PNG")
    shape = str(header.get("PresentationLUTShape") or "").strip().upper()
    if shape == "INVERSE" and photometric(header) == "MONOCHROME2":
        raise UnusableDicom(
            "a DICOM file whose Photometric Interpretation MONOCHROME2 (0 is black) and Presentation LUT Shape INVERSE "
            "contradict each other; correct one of them"
        )


def is_compressed(header: Dataset) -> bool:
    """Whether the pixel data are those of a codec; False of a transfer syntax that nobody knows."""
    syntax = header.file_meta.TransferSyntaxUID
    return bool(syntax.is_transfer_syntax and syntax.is_encapsulated)


def refuse_cut_off(header: Dataset) -> None:
    """Refuses a first frame whose JPEG, JPEG-LS or JPEG 2000 data have no end: decoders fill the rest with grey.

    Raises:
        UnusableDicom: the data are truncated.
    """
    from pydicom.encaps import get_frame

    data = header.get("PixelData")
    if not data or not is_compressed(header):
        return
    offsets = None
    if header.get("ExtendedOffsetTable") and header.get("ExtendedOffsetTableLengths"):
        offsets = (header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths)
    frames = int(header.get("NumberOfFrames") or 1)
    frame = get_frame(data, 0, number_of_frames=frames, extended_offsets=offsets)
    if frame.startswith(_BEGIN) and _END not in frame:
        raise UnusableDicom("a DICOM file whose compressed data end before the picture does (truncated)")


def refuse_too_large(decoded: npt.NDArray[Any], header: Dataset) -> None:
    """Refuses decompressed values that the bits stored cannot hold: where white is, nobody knows then.

    Args:
        decoded: of a codec, whole numbers.
        header: with Bits Stored.
    Raises:
        UnusableDicom: more than a few values are too large.
    """
    bits = int(header.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.get("PixelRepresentation") else (0, 2**bits - 1)
    outside = (decoded < low) | (decoded > high)
    if decoded.dtype.kind in "iu" and np.count_nonzero(outside) > _MANY * outside.size:
        raise UnusableDicom(
            f"a DICOM file whose compressed values reach {int(decoded.max())}, which Bits Stored {bits} does not allow"
        )
