"""DICOM files to 8-bit RGB, with pydicom (the extra `dicom`)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from augscale.errors import DataError

DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
_MAGIC, _MAGIC_AT = b"DICM", 128


class UnusableDicom(DataError):
    """The file cannot be used; the message is the reason alone."""


def can_read_dicom() -> bool:
    """Whether pydicom is installed."""
    return find_spec("pydicom") is not None


def is_dicom(path: Path) -> bool:
    """Whether the file says that it is DICOM, whatever its name."""
    with path.open("rb") as file:
        return file.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC


def read_dicom(path: Path, max_pixels: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Decodes the first frame.

    Grey samples are scaled by the full range of the bits stored, never clipped or windowed, and MONOCHROME1 is turned
    round so that bright is high. YCbCr becomes RGB, palettes are applied.

    Args:
        path: a DICOM file.
        max_pixels: larger images are refused before they are decoded.
    Returns:
        uint8, shape (H, W, 3), and the number of frames in the file.
    Raises:
        UnusableDicom: pydicom is missing, the file holds no image, or it cannot be decoded.
    """
    if not can_read_dicom():
        raise UnusableDicom("a DICOM file; reading it needs `pip install augscale[dicom]`")
    import pydicom
    from pydicom.pixels import apply_color_lut, pixel_array

    try:
        header = pydicom.dcmread(path)
        if "Rows" not in header or "PixelData" not in header:
            raise UnusableDicom("a DICOM file without an image")
        if header.Rows * header.Columns > max_pixels:
            raise UnusableDicom(f"{header.Columns}x{header.Rows} pixels; at most {max_pixels // 10**6} million")
        samples = pixel_array(header, index=0)
        if header.PhotometricInterpretation == "PALETTE COLOR":
            samples = apply_color_lut(samples, header)
            full = float(np.iinfo(samples.dtype).max)
        else:
            full = float(2 ** int(header.BitsStored) - 1)
    except UnusableDicom:
        raise
    except Exception as error:  # compressed files need further decoders, and damaged ones raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnusableDicom(f"a DICOM file that cannot be decoded ({reason})") from None
    values = samples.astype(np.float64)
    if values.min() < 0 or values.max() > full:
        raise UnusableDicom(f"DICOM samples from {values.min():g} to {values.max():g}; expected 0 to {full:g}")
    if header.PhotometricInterpretation == "MONOCHROME1":
        values = full - values
    pixels = np.round(values * (255 / full)).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3]), int(header.get("NumberOfFrames", 1) or 1)
