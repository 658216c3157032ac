"""TIFF files that Pillow misreads or cannot read, against what was written with tifffile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from augscale.data.formats import tiff
from augscale.data.formats.reading import file_kind
from augscale.data.image_records import UnusableImage
from augscale.data.images import decode_image, read_samples

SIDE = 32


def _grey() -> np.ndarray:
    """uint8, shape (SIDE, SIDE), from 0 to 255, without symmetry."""
    return np.linspace(0, 255, SIDE * SIDE).round().astype(np.uint8).reshape(SIDE, SIDE)


def _colour() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.stack([x * 8, y * 8, (x + y) * 4], axis=2).astype(np.uint8)


def _write(path: Path, values: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, values, **options)
    return path


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (_grey() * np.uint16(257), {}),
        (np.uint16(65535) - _grey() * np.uint16(257), {"photometric": "miniswhite"}),
        (np.uint16(4080) - _grey() * np.uint16(16), {"photometric": "miniswhite"}),
        (255 - _grey(), {"photometric": "miniswhite"}),
        (_grey() * np.uint16(257), {"byteorder": ">"}),
        ((_grey() * 10.0 - 1000).astype(np.int16), {}),
        ((_grey().astype(np.int16) - 128).astype(np.int8), {}),
        (_grey().astype(np.uint32) * 2**24, {}),
        (_grey().astype(np.int32) * 1000 - 50_000, {}),
        ((_grey() / 255).astype(np.float16), {}),
        ((_grey() / 255).astype(np.float32), {}),
        (_grey() / 255, {}),
        ((_grey() / 127.5 - 1).astype(np.float32), {}),
        ((_grey() * 3.0).astype(np.float32), {}),
        ((1 - _grey() / 255).astype(np.float32), {"photometric": "miniswhite"}),
        (_grey() * np.uint16(257), {"compression": "zstd"}),
    ],
    ids=lambda value: str(value.dtype) if isinstance(value, np.ndarray) else "-".join(map(str, value.values())),
)
def test_grey_of_every_type_comes_out_upright_and_in_full(
    tmp_path: Path, values: np.ndarray, options: dict[str, Any]
) -> None:
    path = _write(tmp_path / "a.tif", values, **options)
    pixels = decode_image(path, SIDE).pixels[..., 0].astype(int)
    assert np.abs(pixels - _grey()).max() <= 2
    samples = read_samples(path)
    assert (samples.kind if samples else None) == file_kind(path).kind


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (_colour(), {"planarconfig": "separate"}),
        (_colour() * np.uint16(257), {}),
        (_colour() * np.uint16(257), {"planarconfig": "separate"}),
        ((_colour() / 255).astype(np.float32), {}),
        ((_colour() / 255).astype(np.float32), {"planarconfig": "separate"}),
        (_colour(), {"compression": "jpeg2000"}),
    ],
)
def test_colour_of_every_layout_keeps_its_colours(tmp_path: Path, values: np.ndarray, options: dict[str, Any]) -> None:
    stored = np.ascontiguousarray(np.moveaxis(values, -1, 0)) if "planarconfig" in options else values
    path = _write(tmp_path / "a.tif", stored, photometric="rgb", **options)
    assert np.abs(decode_image(path, SIDE).pixels.astype(int) - _colour()).max() <= 1


def test_orientation_is_applied_to_what_tifffile_reads(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.tif", _grey()[::-1, ::-1] / 255, extratags=[(274, "H", 1, 3, True)])
    np.testing.assert_array_equal(decode_image(path, SIDE).pixels[..., 0], _grey())


def test_a_thumbnail_before_the_image_is_passed_over(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(_colour()[::2, ::2], photometric="rgb", subfiletype=1)
        file.write(_colour(), photometric="rgb")
    decoded = decode_image(tmp_path / "a.tif", SIDE)
    np.testing.assert_array_equal(decoded.pixels, _colour())
    assert decoded.note is None


@pytest.mark.parametrize(
    ("values", "options", "reason"),
    [
        (np.stack([_grey(), _grey()]), {"planarconfig": "separate"}, "2 separate planes of 8 bits, unsigned"),
        (np.dstack([_colour(), _grey(), _grey()]), {"planarconfig": "contig"}, "5 channels of 8 bits, unsigned"),
        (_grey().astype(np.complex64), {}, "64 bits, complex"),
    ],
)
def test_what_is_not_supported_is_called_by_its_name(
    tmp_path: Path, values: np.ndarray, options: dict[str, Any], reason: str
) -> None:
    path = _write(tmp_path / "a.tif", values, photometric="minisblack", **options)
    with pytest.raises(UnusableImage, match=f"a TIFF file of {reason}"):
        decode_image(path, SIDE)


def test_without_tifffile_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "a.tif", _grey() / 255)
    monkeypatch.setattr(tiff, "find_spec", lambda name: None)
    with pytest.raises(UnusableImage, match=r"a TIFF file of 64 bits, floating point.*augscale\[tiff\]"):
        decode_image(path, SIDE)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "rowsperstrip": 4}, {"tile": (16, 16)}])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_truncated_files_are_refused_not_filled_with_black(tmp_path: Path, share: float, options: dict) -> None:
    path = _write(tmp_path / "a.tif", np.random.default_rng(0).random((SIDE, SIDE)), **options)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UnusableImage):
        decode_image(path, SIDE)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits"])
@pytest.mark.parametrize("dtype", ["i2", "i4", "u4", "f4"])
def test_compressed_big_endian_samples_keep_the_order_of_their_bytes(
    tmp_path: Path, dtype: str, compression: str
) -> None:
    values = (np.arange(SIDE * SIDE).reshape(SIDE, SIDE) * 7 - 900 * (dtype != "u4")).astype(dtype)
    path = _write(tmp_path / "a.tif", values, byteorder=">", compression=compression)
    samples = read_samples(path)
    assert samples is not None
    assert samples.kind == file_kind(path).kind
    np.testing.assert_array_equal(samples.values, values)


def test_a_palette_of_8_bit_entries_keeps_its_colours(tmp_path: Path) -> None:
    palette = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
    path = _write(tmp_path / "a.tif", _grey(), photometric="palette", colormap=palette)
    np.testing.assert_array_equal(decode_image(path, SIDE).pixels, palette.T[_grey()])
    assert not file_kind(path).plain
    wide = _write(tmp_path / "b.tif", _grey(), photometric="palette", colormap=palette * 257)
    np.testing.assert_array_equal(decode_image(wide, SIDE).pixels, palette.T[_grey()])
    assert file_kind(wide).plain


def test_grey_that_does_not_say_what_black_is_is_not_turned_round(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.tif", _grey(), photometric="minisblack")
    content, tag = path.read_bytes(), (262).to_bytes(2, "little") + b"\3\0\1\0\0\0"
    assert content.count(tag) == 1
    path.write_bytes(content.replace(tag, (263).to_bytes(2, "little") + tag[2:]))  # another, harmless tag
    np.testing.assert_array_equal(decode_image(path, SIDE).pixels[..., 0], _grey())


def test_few_bits_fill_the_range(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.tif", _grey() >> 2, bitspersample=6)
    assert np.abs(decode_image(path, SIDE).pixels[..., 0].astype(int) - _grey()).max() <= 3
