"""Recognizes and decodes DICOM files with pydicom (the extra `dicom`), and refuses files that would be misread.

Grey images: after the modality LUT, the file's own window or VOI LUT is applied if there is one; otherwise the samples
need the range of their source (`grey_levels`). Color of 8 bits is taken as it is; palettes are applied, and YCbCr
becomes RGB.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from augscale.data.formats.dicom_levels import apply_palette, color_kind, grey_meaning, grey_samples, photometric
from augscale.data.grey_levels import GreyRange, Samples
from augscale.data.image_records import UnusableImage

if TYPE_CHECKING:
    from pydicom import Dataset

DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
_MAGIC, _MAGIC_AT = b"DICM", 128
_HEAD_BYTES = _MAGIC_AT + len(_MAGIC)
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PALETTE = "PALETTE COLOR"
_PIXEL_DATA = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""Group of the first data element in a file without preamble: 0002 or 0008 little-endian, or 0008 big-endian."""
_FIRST_VRS = (b"UL", b"CS", b"UI", b"SH", b"LO", b"DA", b"TM", b"OB")
_LONGEST_FIRST_VALUE = 256
_LONGEST_REASON = 300
_STORAGE = "1.2.840.10008.5.1.4.1.1"
_NO_IMAGES = {
    f"{_STORAGE}.66.4": "a DICOM segmentation, whose values are labels; not an image",
    f"{_STORAGE}.66.7": "a DICOM segmentation, whose values are labels; not an image",
    f"{_STORAGE}.481.2": "a DICOM dose grid; not an image",
}
_WHOLE_SLIDE = f"{_STORAGE}.77.1.6"
_BEGIN = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
"""First bytes of JPEG and JPEG-LS, and of JPEG 2000."""
_END = b"\xff\xd9"
"""Last bytes of all three; their data hold them nowhere else."""
_MANY = 0.01
"""Share of pixels that may exceed the stored bits: markers and padding."""


def can_read_dicom() -> bool:
    """True if pydicom is installed."""
    return find_spec("pydicom") is not None


def is_dicom(path: Path) -> bool:
    """True for DICOM by content, also without the preamble, as old equipment writes it; raises OSError."""
    with path.open("rb") as file:
        return looks_like_dicom(file.read(_HEAD_BYTES))


def looks_like_dicom(head: bytes) -> bool:
    """True if the first 132 bytes of a file are those of DICOM."""
    return head[_MAGIC_AT:] == _MAGIC or _begins_with_an_element(head)


def _begins_with_an_element(head: bytes) -> bool:
    """True if the file begins with a data element of DICOM without preamble: tag, then type or length."""
    if len(head) < 12 or head[:2] not in _FIRST_GROUPS:
        return False
    if head[4:6] in _FIRST_VRS:
        return True
    order = "little" if head[1] == 0 else "big"
    element = int.from_bytes(head[2:4], order)  # type: ignore[arg-type]
    length = int.from_bytes(head[4:8], order)  # type: ignore[arg-type]
    return element <= 0x20 and 0 < length <= _LONGEST_FIRST_VALUE and length % 2 == 0


def dicom_kind(path: Path, *, use_window: bool = True) -> str | None:
    """The kind of the samples (see `Samples`) from the header alone; raises UnusableImage like `read_dicom`."""
    try:
        header = _read_header(path, stop_before_pixels=True)
        name = photometric(header)
        if name in _GREY:
            return grey_meaning(header, use_window=use_window).kind
        return color_kind(header) if name in _COLOR else None
    except UnusableImage:
        raise
    except Exception as error:
        raise _cannot_be_decoded(error) from None


def read_dicom(path: Path, max_pixels: int, *, use_window: bool = True) -> tuple[Samples, int]:
    """Decodes the first frame.

    Args:
        path: a DICOM file.
        max_pixels: larger images are refused before they are decoded.
        use_window: apply the file's own window or VOI LUT if it has one; else give values after the modality LUT.
    Returns:
        Samples of shape (H, W) or (H, W, 3), and the number of frames in the file.
    Raises:
        UnusableImage: pydicom is missing, the file holds no image, or it cannot be decoded.
    """
    try:
        header = _read_header(path)
        if not any(name in header for name in _PIXEL_DATA):
            raise UnusableImage("a DICOM file without an image (its pixel data are missing or cut off)")
        if header.Rows * header.Columns > max_pixels:
            raise UnusableImage(f"{header.Columns}x{header.Rows} pixels; at most {max_pixels // 10**6} million")
        _refuse_cut_off(header)
        samples = _samples(header, use_window)
    except UnusableImage:
        raise
    except Exception as error:  # compressed files need further decoders, and damaged ones raise almost anything
        raise _cannot_be_decoded(error) from None
    if not np.isfinite(samples.values).all():
        raise UnusableImage("DICOM samples that are not finite numbers")
    return samples, int(header.get("NumberOfFrames", 1) or 1)


def _read_header(path: Path, *, stop_before_pixels: bool = False) -> Dataset:
    if not can_read_dicom():
        raise UnusableImage("a DICOM file; reading it needs `pip install augscale[dicom]`")
    import pydicom
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    header = pydicom.dcmread(path, force=True, stop_before_pixels=stop_before_pixels)
    if "Rows" not in header or "Columns" not in header:
        raise UnusableImage("a DICOM file without an image")
    if photometric(header) not in (*_GREY, *_COLOR, _PALETTE):
        raise UnusableImage(
            f"a DICOM file with Photometric Interpretation {photometric(header) or 'missing'}; "
            f"expected {', '.join((*_GREY, _PALETTE, *_COLOR))}"
        )
    _refuse_by_header(header)
    if "TransferSyntaxUID" not in header.file_meta:
        implicit, little = header.original_encoding
        plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        header.file_meta.TransferSyntaxUID = plain if little else ExplicitVRBigEndian
    return header


def _samples(header: Dataset, use_window: bool) -> Samples:
    name = photometric(header)
    if name in _GREY:
        meaning = grey_meaning(header, use_window=use_window)
        stored = _stored_values(header)
        if stored.ndim != 2:
            raise UnusableImage(f"a DICOM file with {name} and {stored.shape[-1]} samples per pixel; expected 1")
        return grey_samples(stored, header, meaning)
    if name == _PALETTE:
        colors, full = apply_palette(_stored_values(header), header)
        return Samples(values=colors, kind=None, nominal=GreyRange(low=0.0, high=full))
    stored = _stored_values(header)
    if stored.ndim != 3 or stored.shape[2] != 3 or header.get("PixelRepresentation"):
        raise UnusableImage(f"a DICOM file with {name} without three unsigned samples per pixel")
    full = 2.0 ** int(header.BitsStored) - 1
    return Samples(values=stored, kind=color_kind(header), nominal=GreyRange(low=0.0, high=full))


def _stored_values(header: Dataset) -> npt.NDArray[Any]:
    """The first frame, color as RGB; stored bits that are not the lowest ones are moved there."""
    from pydicom.pixels import pixel_array
    from pydicom.uid import RLELossless

    stored, high_bit = header.get("BitsStored"), header.get("HighBit")
    unused = 0 if stored is None or high_bit is None else int(high_bit) + 1 - int(stored)
    # Decompressed values have no unused bits.
    compressed = _is_compressed(header) and header.file_meta.TransferSyntaxUID != RLELossless
    if compressed or unused == 0:
        decoded = np.asarray(pixel_array(header, index=0))
        if compressed:
            _refuse_too_large(decoded, header)
        return decoded
    if unused < 0 or high_bit >= header.BitsAllocated:
        raise UnusableImage(f"a DICOM file with HighBit {high_bit} and BitsStored {stored}")
    raw = np.array(pixel_array(header, index=0, correct_unused_bits=False))
    raw <<= int(header.BitsAllocated) - 1 - int(high_bit)
    raw >>= int(header.BitsAllocated) - int(stored)
    return raw


def _cannot_be_decoded(error: Exception) -> UnusableImage:
    reason = " ".join(str(error).split()) or type(error).__name__
    if "missing dependencies" in reason:
        reason = (
            reason.split(" because")[0].split(" as all")[0] + "; `pip install augscale[dicom]` brings what it needs"
        )
    shown = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
    return UnusableImage(f"a DICOM file that cannot be decoded ({shown})")


def _refuse_by_header(header: Dataset) -> None:
    """Refuses files that are not photographs, tiles of a whole slide, and contradictory presentations."""
    kind = str(header.get("SOPClassUID") or "").strip()
    if kind in _NO_IMAGES:
        raise UnusableImage(_NO_IMAGES[kind])
    tiles = int(header.get("NumberOfFrames") or 1)
    if kind == _WHOLE_SLIDE and tiles > 1:
        raise UnusableImage(f"a DICOM whole slide in {tiles} tiles; export tiles or an overview as PNG")
    shape = str(header.get("PresentationLUTShape") or "").strip().upper()
    if shape == "INVERSE" and photometric(header) == "MONOCHROME2":
        raise UnusableImage(
            "a DICOM file whose Photometric Interpretation MONOCHROME2 (0 is black) and Presentation LUT Shape INVERSE "
            "contradict each other; correct one of them"
        )


def _is_compressed(header: Dataset) -> bool:
    """True if the pixel data are compressed; False for an unknown transfer syntax."""
    syntax = header.file_meta.TransferSyntaxUID
    return bool(syntax.is_transfer_syntax and syntax.is_encapsulated)


def _refuse_cut_off(header: Dataset) -> None:
    """Refuses a first frame whose JPEG, JPEG-LS or JPEG 2000 data have no end: decoders fill the rest with grey."""
    from pydicom.encaps import get_frame

    data = header.get("PixelData")
    if not data or not _is_compressed(header):
        return
    offsets = None
    if header.get("ExtendedOffsetTable") and header.get("ExtendedOffsetTableLengths"):
        offsets = (header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths)
    frames = int(header.get("NumberOfFrames") or 1)
    frame = get_frame(data, 0, number_of_frames=frames, extended_offsets=offsets)
    if frame.startswith(_BEGIN) and _END not in frame:
        raise UnusableImage("a DICOM file whose compressed data end before the picture does (truncated)")


def _refuse_too_large(decoded: npt.NDArray[Any], header: Dataset) -> None:
    """Refuses decompressed values if more than a few exceed Bits Stored: the value of white is then unknown."""
    bits = int(header.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.get("PixelRepresentation") else (0, 2**bits - 1)
    outside = (decoded < low) | (decoded > high)
    if decoded.dtype.kind in "iu" and np.count_nonzero(outside) > _MANY * outside.size:
        raise UnusableImage(
            f"a DICOM file whose compressed values reach {int(decoded.max())}, which Bits Stored {bits} does not allow"
        )
