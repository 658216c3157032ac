"""Files that were read right before ranges belonged to sources: their pixels and cache keys, bit for bit.

The numbers were made with the release before (commit 207df22), from files that this module writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_dicom
from PIL import Image

from augscale.config import DataConfig
from augscale.data.cache import build_cache
from augscale.data.images import decode_image

SIDE = 48


def _colour() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.int64)
    return np.stack([x * 5, y * 5, (x * y) % 251], axis=2).astype(np.uint8)


def _grey(top: int, dtype: type = np.uint16) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    return (np.hypot(x - 20, y - 30) / 45 * top).clip(0, top).astype(dtype)


def _pillow(array: np.ndarray, mode: str | None = None, **options: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        image = Image.fromarray(array)
        (image.convert(mode) if mode else image).save(path, **options)

    return write


def _dicom(array: np.ndarray, **settings: object) -> Callable[[Path], None]:
    return lambda path: write_dicom(path, array, **settings) and None


FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "rgb.png": (_pillow(_colour()), "9a8e52ee46785da0"),
    "rgb.tif": (_pillow(_colour(), compression="tiff_lzw"), "9a8e52ee46785da0"),
    "rgb.bmp": (_pillow(_colour()), "9a8e52ee46785da0"),
    "rgb.webp": (_pillow(_colour(), lossless=True), "9a8e52ee46785da0"),
    "grey.png": (_pillow(_grey(255, np.uint8)), "72e8b279e4b98619"),
    "rgba.png": (_pillow(_colour(), "RGBA"), "9a8e52ee46785da0"),
    "palette.png": (_pillow(_colour() // 64 * 64, "P"), "077ae5416a5c18a2"),
    "bits.png": (_pillow(_grey(255, np.uint8) > 90), "5865a180ead05319"),
    "grey16.png": (_pillow(_grey(65535)), "ee27009e68c2aec0"),
    "grey16.tif": (_pillow(_grey(65535)), "ee27009e68c2aec0"),
    "grey12.png": (_pillow(_grey(4095)), "2083b402900f4631"),
    "grey12.tif": (_pillow(_grey(4095)), "2083b402900f4631"),
    "dark12.png": (_pillow(_grey(1500)), "01f4d69ba6ba278a"),
    "dark16.png": (_pillow(_grey(20000)), "d8d0e91440d09654"),
    "grey8in16.png": (_pillow(_grey(255)), "72e8b279e4b98619"),
    "int32.tif": (_pillow(_grey(65535, np.int32)), "ee27009e68c2aec0"),
    "float01.tif": (_pillow((_grey(65535) / 65535).astype(np.float32)), "ee27009e68c2aec0"),
    "float255.tif": (_pillow(_grey(255).astype(np.float32)), "72e8b279e4b98619"),
    "rgb.dcm": (_dicom(_colour(), photometric="RGB"), "9a8e52ee46785da0"),
    "ybr.dcm": (_dicom(_colour(), photometric="YBR_FULL"), "b3961e84ab94ce11"),
    "grey8.dcm": (_dicom(_grey(255, np.uint8)), "72e8b279e4b98619"),
    "dark8.dcm": (_dicom(_grey(60, np.uint8)), "45d64dfe48923f82"),
    "mono1.dcm": (_dicom(_grey(255, np.uint8), photometric="MONOCHROME1"), "aca388adf81b0f0f"),
    "grey12.dcm": (_dicom(_grey(4095), bits=12), "2083b402900f4631"),
    "mono1_12.dcm": (_dicom(_grey(4095), bits=12, photometric="MONOCHROME1"), "e815eb5ab2012155"),
    "grey16.dcm": (_dicom(_grey(65535)), "ee27009e68c2aec0"),
    "ct12.dcm": (_dicom(_grey(4095), bits=12, RescaleSlope=1, RescaleIntercept=-1024), "2083b402900f4631"),
    "colour16.dcm": (_dicom(_colour().astype(np.uint16) * 257, photometric="RGB"), "9a8e52ee46785da0"),
}


def _bmp(number: int) -> bytes:
    """A bitmap of 16 x 16 pixels, written by hand: the same bytes with any version of Pillow."""
    pixels = bytes((number * 40 + position * 7) % 256 for position in range(16 * 16 * 3))
    head = (
        b"BM" + (54 + len(pixels)).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
        + (40).to_bytes(4, "little") + (16).to_bytes(4, "little") * 2 + b"\1\0\x18\0" + bytes(4)
        + len(pixels).to_bytes(4, "little") + bytes(16)
    )  # fmt: skip
    return head + pixels


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_before(tmp_path: Path, name: str) -> None:
    write, expected = FILES[name]
    write(tmp_path / name)
    pixels = decode_image(tmp_path / name, SIDE).pixels
    assert hashlib.blake2b(pixels.tobytes(), digest_size=8).hexdigest() == expected


def test_the_cache_of_8_bit_images_keeps_its_key(tmp_path: Path) -> None:
    folder = tmp_path / "eight"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.bmp").write_bytes(_bmp(number))
    cache = build_cache(DataConfig(sources=(str(folder),), cache_size=16), cache_root=tmp_path / "root")
    assert cache.directory.name == "c45b8b907490a1107aea8450606f924a"
    assert cache.fingerprint == "0e302893895246f087f9771b1428774f"
    pixels = np.ascontiguousarray(cache.images).tobytes()
    assert hashlib.blake2b(pixels, digest_size=8).hexdigest() == "b1075ef4332b3fd1"
