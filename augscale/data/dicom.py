"""DICOM files with pydicom (the extra `dicom`): recognised, decoded, and told what their values mean.

Grey: the file's own window or VOI LUT where it has one, after the modality LUT; else samples that need the range of
their source (`grey_levels`). Colour of 8 bits is taken as it is; palettes are applied, YCbCr becomes RGB.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from augscale.data.dicom_levels import (
    UnusableDicom,
    apply_palette,
    colour_kind,
    grey_meaning,
    grey_samples,
    photometric,
)
from augscale.data.dicom_refusals import is_compressed, refuse_by_header, refuse_cut_off, refuse_too_large
from augscale.data.grey_levels import GreyRange, Samples

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["DICOM_SUFFIXES", "UnusableDicom", "can_read_dicom", "dicom_kind", "is_dicom", "read_dicom"]

DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
_MAGIC, _MAGIC_AT = b"DICM", 128
_HEAD_BYTES = _MAGIC_AT + len(_MAGIC)
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PALETTE = "PALETTE COLOR"
_PIXEL_DATA = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""Of a file without preamble: 0002 or 0008, little endian, or 0008, big endian."""
_FIRST_VRS = (b"UL", b"CS", b"UI", b"SH", b"LO", b"DA", b"TM", b"OB")
_LONGEST_FIRST_VALUE = 256
_LONGEST_REASON = 300


def can_read_dicom() -> bool:
    """Whether pydicom is installed."""
    return find_spec("pydicom") is not None


def is_dicom(path: Path) -> bool:
    """Whether the file is DICOM by content, whatever its name; also without the preamble, as old equipment writes it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return looks_like_dicom(file.read(_HEAD_BYTES))


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file that begins like this is DICOM.

    Args:
        head: its first 132 bytes.
    """
    return head[_MAGIC_AT:] == _MAGIC or _begins_with_an_element(head)


def _begins_with_an_element(head: bytes) -> bool:
    """Whether a first data element of a DICOM file without preamble is there: tag, then type or length."""
    if len(head) < 12 or head[:2] not in _FIRST_GROUPS:
        return False
    if head[4:6] in _FIRST_VRS:
        return True
    order = "little" if head[1] == 0 else "big"
    element = int.from_bytes(head[2:4], order)  # type: ignore[arg-type]
    length = int.from_bytes(head[4:8], order)  # type: ignore[arg-type]
    return element <= 0x20 and 0 < length <= _LONGEST_FIRST_VALUE and length % 2 == 0


def dicom_kind(path: Path, *, use_window: bool = True) -> str | None:
    """The kind of the samples that `read_dicom` would give (see `Samples`), from the header alone.

    Raises:
        UnusableDicom: as `read_dicom`, as far as the header tells.
    """
    try:
        header = _read_header(path, stop_before_pixels=True)
        name = photometric(header)
        if name in _GREY:
            return grey_meaning(header, use_window=use_window).kind
        return colour_kind(header) if name in _COLOUR else None
    except UnusableDicom:
        raise
    except Exception as error:
        raise _cannot_be_decoded(error) from None


def read_dicom(path: Path, max_pixels: int, *, use_window: bool = True) -> tuple[Samples, int]:
    """Decodes the first frame.

    Args:
        path: a DICOM file.
        max_pixels: larger images are refused before they are decoded.
        use_window: take the file's own window or VOI LUT where it has one; else its values after the modality LUT.
    Returns:
        Samples of shape (H, W) or (H, W, 3), and the number of frames in the file.
    Raises:
        UnusableDicom: pydicom is missing, the file holds no image, or it cannot be decoded.
    """
    try:
        header = _read_header(path)
        if not any(name in header for name in _PIXEL_DATA):
            raise UnusableDicom("a DICOM file without an image (its pixel data are missing or cut off)")
        if header.Rows * header.Columns > max_pixels:
            raise UnusableDicom(f"{header.Columns}x{header.Rows} pixels; at most {max_pixels // 10**6} million")
        refuse_cut_off(header)
        samples = _samples(header, use_window)
    except UnusableDicom:
        raise
    except Exception as error:  # compressed files need further decoders, and damaged ones raise almost anything
        raise _cannot_be_decoded(error) from None
    if not np.isfinite(samples.values).all():
        raise UnusableDicom("DICOM samples that are not finite numbers")
    return samples, int(header.get("NumberOfFrames", 1) or 1)


def _read_header(path: Path, *, stop_before_pixels: bool = False) -> Dataset:
    if not can_read_dicom():
        raise UnusableDicom("a DICOM file; reading it needs `pip install augscale[dicom]`")
    import pydicom
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    header = pydicom.dcmread(path, force=True, stop_before_pixels=stop_before_pixels)
    if "Rows" not in header or "Columns" not in header:
        raise UnusableDicom("a DICOM file without an image")
    if photometric(header) not in (*_GREY, *_COLOUR, _PALETTE):
        raise UnusableDicom(
            f"a DICOM file with Photometric Interpretation {photometric(header) or 'missing'}; "
            f"expected {', '.join((*_GREY, _PALETTE, *_COLOUR))}"
        )
    refuse_by_header(header)
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
            raise UnusableDicom(f"a DICOM file with {name} and {stored.shape[-1]} samples per pixel; expected 1")
        return grey_samples(stored, header, meaning)
    if name == _PALETTE:
        colours, full = apply_palette(_stored_values(header), header)
        return Samples(values=colours, kind=None, nominal=GreyRange(low=0.0, high=full))
    stored = _stored_values(header)
    if stored.ndim != 3 or stored.shape[2] != 3 or header.get("PixelRepresentation"):
        raise UnusableDicom(f"a DICOM file with {name} that holds no three unsigned samples per pixel")
    full = 2.0 ** int(header.BitsStored) - 1
    return Samples(values=stored, kind=colour_kind(header), nominal=GreyRange(low=0.0, high=full))


def _stored_values(header: Dataset) -> npt.NDArray[Any]:
    """The first frame; colour as RGB. Where the stored bits are not the lowest ones, they are moved there."""
    from pydicom.pixels import pixel_array
    from pydicom.uid import RLELossless

    stored, high_bit = header.get("BitsStored"), header.get("HighBit")
    unused = 0 if stored is None or high_bit is None else int(high_bit) + 1 - int(stored)
    if (
        is_compressed(header) and header.file_meta.TransferSyntaxUID != RLELossless
    ):  # a codec's values have no unused bits
        decoded = np.asarray(pixel_array(header, index=0))
        refuse_too_large(decoded, header)
        return decoded
    if unused == 0:
        return np.asarray(pixel_array(header, index=0))
    if unused < 0 or high_bit >= header.BitsAllocated:
        raise UnusableDicom(f"a DICOM file with HighBit {high_bit} and BitsStored {stored}")
    raw = np.array(pixel_array(header, index=0, correct_unused_bits=False))
    raw <<= int(header.BitsAllocated) - 1 - int(high_bit)
    raw >>= int(header.BitsAllocated) - int(stored)
    return raw


def _cannot_be_decoded(error: Exception) -> UnusableDicom:
    reason = " ".join(str(error).split()) or type(error).__name__
    if "missing dependencies" in reason:
        reason = (
            reason.split(" because")[0].split(" as all")[0] + "; `pip install augscale[dicom]` brings what it needs"
        )
    shown = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
    return UnusableDicom(f"a DICOM file that cannot be decoded ({shown})")
