"""Decoding: every format and mode against pixels made here, and every kind of damage against its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from augscale.data.image_records import UnusableImage
from augscale.data.images import decode_image, field_of_view, square

SIDE = 32

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # what Pillow says of damaged files


def _photo() -> np.ndarray:
    """A smooth colour image, (SIDE, SIDE, 3) uint8, without symmetry."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.stack([x * 7, y * 7, (x + y) * 3], axis=2).astype(np.uint8)


def _save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.jpg", {"quality": 100, "subsampling": 0}, 4),
        ("a.png", {}, 0),
        ("a.tif", {}, 0),
        ("a_lzw.tiff", {"compression": "tiff_lzw"}, 0),
        ("a.webp", {"lossless": True}, 0),
        ("a.bmp", {}, 0),
    ],
)
def test_every_format_gives_the_pixels_that_were_saved(
    tmp_path: Path, name: str, options: dict, tolerance: int
) -> None:
    path = _save(tmp_path / name, Image.fromarray(_photo()), **options)
    pixels = decode_image(path, SIDE).pixels
    assert pixels.shape == (SIDE, SIDE, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - _photo()).max() <= tolerance


def test_format_is_recognised_by_content_not_by_name(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    Image.fromarray(_photo()).save(path, format="PNG")
    np.testing.assert_array_equal(decode_image(path, SIDE).pixels, _photo())


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_gradient_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    samples = np.linspace(0, 65535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    path = _save(tmp_path / f"grey16.{suffix}", Image.fromarray(samples))
    expected = np.round(samples / 257.0).astype(np.uint8)
    pixels = decode_image(path, SIDE).pixels
    for channel in range(3):
        np.testing.assert_array_equal(pixels[:, :, channel], expected)
    assert len(np.unique(pixels)) == 256


def test_12_bit_samples_in_a_16_bit_file_use_the_full_range(tmp_path: Path) -> None:
    samples = np.linspace(0, 4095, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    pixels = decode_image(_save(tmp_path / "grey12.png", Image.fromarray(samples)), SIDE).pixels
    np.testing.assert_array_equal(pixels[:, :, 0], np.round(samples * (255 / 4095)).astype(np.uint8))


def test_a_dim_16_bit_image_stays_dim(tmp_path: Path) -> None:
    """Scaling by each image's own maximum would make all exposures alike."""
    samples = np.full((SIDE, SIDE), 65535 // 4, dtype=np.uint16)
    pixels = decode_image(_save(tmp_path / "dim.png", Image.fromarray(samples)), SIDE).pixels
    assert np.all(pixels == 64)


def _write_png_rgb16(path: Path, samples: np.ndarray) -> Path:
    """A 16-bit RGB PNG by hand, since Pillow writes none."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


def test_16_bit_colour_is_scaled_and_its_12_bit_form_refused_not_blackened(tmp_path: Path) -> None:
    samples = _photo().astype(np.uint16) * 257
    np.testing.assert_array_equal(decode_image(_write_png_rgb16(tmp_path / "c.png", samples), SIDE).pixels, _photo())
    with pytest.raises(UnusableImage, match="12 bits or fewer"):
        decode_image(_write_png_rgb16(tmp_path / "d.png", samples // 16), SIDE)


def test_float_tiff_in_0_to_1_is_scaled(tmp_path: Path) -> None:
    samples = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    pixels = decode_image(_save(tmp_path / "f.tif", Image.fromarray(samples)), SIDE).pixels
    np.testing.assert_array_equal(pixels[:, :, 1], np.round(samples.astype(np.float64) * 255).astype(np.uint8))


def test_float_tiff_with_nan_is_refused(tmp_path: Path) -> None:
    samples = np.full((SIDE, SIDE), np.nan, dtype=np.float32)
    with pytest.raises(UnusableImage, match="finite"):
        decode_image(_save(tmp_path / "nan.tif", Image.fromarray(samples)), SIDE)


def test_grey_is_repeated_over_the_channels(tmp_path: Path) -> None:
    grey = _photo()[:, :, 0]
    pixels = decode_image(_save(tmp_path / "grey.png", Image.fromarray(grey)), SIDE).pixels
    np.testing.assert_array_equal(pixels, np.repeat(grey[:, :, None], 3, axis=2))


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    bits = _photo()[:, :, 0] > 100
    pixels = decode_image(_save(tmp_path / "bits.png", Image.fromarray(bits)), SIDE).pixels
    np.testing.assert_array_equal(pixels[:, :, 2], bits * np.uint8(255))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_black(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(np.full((SIDE, SIDE, 3), 200, dtype=np.uint8)).convert(mode)
    alpha = np.zeros((SIDE, SIDE), dtype=np.uint8)
    alpha[:, SIDE // 2 :] = 255
    alpha[0, 0] = 128
    image.putalpha(Image.fromarray(alpha))
    pixels = decode_image(_save(tmp_path / "alpha.png", image), SIDE).pixels
    assert np.all(pixels[1:, : SIDE // 2] == 0)
    assert np.all(pixels[:, SIDE // 2 :] == 200)
    assert np.all(np.abs(pixels[0, 0].astype(int) - 100) <= 1)


@pytest.mark.parametrize(("mode", "suffix"), [("RGBA", "png"), ("LA", "png"), ("RGBA", "tif"), ("RGBA", "webp")])
def test_a_wholly_transparent_picture_is_refused_not_read_as_black(tmp_path: Path, mode: str, suffix: str) -> None:
    image = Image.fromarray(_photo()).convert(mode)
    image.putalpha(0)
    image.save(tmp_path / f"a.{suffix}", lossless=True, exact=True)
    with pytest.raises(UnusableImage, match="wholly transparent"):
        decode_image(tmp_path / f"a.{suffix}", SIDE)


def test_palette_gives_its_colours_and_its_transparent_entry_is_black(tmp_path: Path) -> None:
    indices = np.tile(np.arange(SIDE, dtype=np.uint8) % 2, (SIDE, 1))
    image = Image.fromarray(indices).convert("P")
    image.putpalette([250, 10, 20, 30, 240, 60])
    plain = decode_image(_save(tmp_path / "p.png", image), SIDE).pixels
    assert plain[0, 0].tolist() == [250, 10, 20]
    assert plain[0, 1].tolist() == [30, 240, 60]
    see_through = decode_image(_save(tmp_path / "pt.png", image, transparency=0), SIDE).pixels
    assert see_through[0, 0].tolist() == [0, 0, 0]
    assert see_through[0, 1].tolist() == [30, 240, 60]


def test_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    red = Image.new("RGB", (SIDE, SIDE), (220, 30, 30)).convert("CMYK")
    pixels = decode_image(_save(tmp_path / "cmyk.jpg", red, quality=95), SIDE).pixels
    assert np.abs(pixels.reshape(-1, 3).astype(int) - [220, 30, 30]).max() <= 8


def test_a_cmyk_jpeg_without_adobes_marker_is_refused_not_read_as_black(tmp_path: Path) -> None:
    path = tmp_path / "cmyk.jpg"
    Image.fromarray(_photo()).convert("CMYK").save(path)
    content = path.read_bytes()
    at = content.index(b"\xff\xee")
    path.write_bytes(content[:at] + content[at + 2 + int.from_bytes(content[at + 2 : at + 4], "big") :])
    with pytest.raises(UnusableImage, match="no Adobe marker"):
        decode_image(path, SIDE)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Oracle: the EXIF definition of the eight orientations, as array operations on what is stored."""
    upright = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    upright[:8, :8] = [255, 0, 0]
    upright[:8, 24:] = [0, 255, 0]
    upright[24:, :8] = [0, 0, 255]
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _save(tmp_path / f"o.{suffix}", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    pixels = decode_image(path, SIDE).pixels.astype(int)
    for corner in ((2, 2), (2, 29), (29, 2)):
        assert np.abs(pixels[corner] - upright[corner]).max() < 60


def test_16_bit_and_transparent_files_are_oriented_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    samples = np.zeros((SIDE, SIDE), dtype=np.uint16)
    samples[:8] = 65535
    for name, image in {
        "grey16.png": Image.fromarray(samples),
        "alpha.png": Image.fromarray((samples >> 8).astype(np.uint8)).convert("RGBA"),
    }.items():
        pixels = decode_image(_save(tmp_path / name, image, exif=exif), SIDE).pixels
        assert np.all(pixels[-8:] == 255), name
        assert np.all(pixels[:-8] == 0), name


def test_damaged_exif_does_not_lose_the_photograph(tmp_path: Path) -> None:
    path = _save(tmp_path / "e.png", Image.fromarray(_photo()), exif=b"Exif\0\0II*\0garbage")
    np.testing.assert_array_equal(decode_image(path, SIDE).pixels, _photo())


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "mpo"])
def test_of_several_frames_the_first_is_used_and_noted(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    options = {"lossless": True} if suffix == "webp" else {}
    path = _save(tmp_path / f"anim.{suffix}", frames[0], save_all=True, append_images=frames[1:], **options)
    decoded = decode_image(path, SIDE)
    assert decoded.note == "first of 3 frames used"
    assert np.abs(decoded.pixels - np.array([250, 0, 0])).max() <= (4 if suffix == "mpo" else 0)


def test_a_single_frame_carries_no_note(tmp_path: Path) -> None:
    assert decode_image(_save(tmp_path / "a.png", Image.fromarray(_photo())), SIDE).note is None


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = _save(tmp_path / f"cut.{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UnusableImage):
        decode_image(path, SIDE)


def test_random_damage_never_raises_anything_but_unusable(tmp_path: Path) -> None:
    """A run must not stop for one file, whatever the decoders raise inside."""
    rng = np.random.default_rng(1)
    for suffix in ("jpg", "png", "tif", "webp", "bmp"):
        path = _save(tmp_path / f"x.{suffix}", Image.fromarray(_photo()))
        good = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        for _ in range(60):
            bytes_ = good.copy()
            bytes_[rng.integers(0, len(good), size=4)] = rng.integers(0, 256, size=4)
            path.write_bytes(bytes_.tobytes())
            try:
                pixels = decode_image(path, SIDE).pixels
            except UnusableImage:
                continue
            assert pixels.shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "a web page"),
        (b"\n  <HTML>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "pointer of git-lfs"),
        (b"\xff\xd8\xff\xf7" + bytes(200), "JPEG-LS"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200), "a JPEG 2000 image; convert it to PNG"),
        (b"\0\0\0\x1cftypheic" + bytes(200), "a HEIC image; convert it"),
        (b"just some text that is no image at all", "not an image file"),
        (bytes(1000), "not an image file"),
    ],
)
def test_files_that_are_no_images_are_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "renamed.jpg"
    path.write_bytes(content)
    with pytest.raises(UnusableImage, match=reason):
        decode_image(path, SIDE)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableImage, match="No such file"):
        decode_image(tmp_path / "gone.png", SIDE)


def test_a_gif_is_refused_even_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "really_a_gif.png"
    Image.fromarray(_photo()).save(path, format="GIF")
    with pytest.raises(UnusableImage, match="not an image file"):
        decode_image(path, SIDE)


@pytest.mark.parametrize(("side", "reason"), [(11_000, "11000x11000 pixels"), (20_000, "100 million")])
def test_bombs_are_refused_without_decoding(tmp_path: Path, side: int, reason: str) -> None:
    path = _save(tmp_path / "bomb.png", Image.new("1", (side, side)), compress_level=1)
    with pytest.raises(UnusableImage, match=reason):
        decode_image(path, SIDE)


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (300, 7)])
def test_tiny_images_are_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = _save(tmp_path / "tiny.png", Image.new("RGB", shape))
    with pytest.raises(UnusableImage, match=f"too small \\({shape[0]}x{shape[1]}\\)"):
        decode_image(path, SIDE)


def test_oblong_images_are_centred_on_black_and_keep_their_shape() -> None:
    pixels = square(Image.new("RGB", (64, 32), (255, 255, 255)), 32)
    assert np.all(pixels[8:24] == 255)
    assert np.all(pixels[:8] == 0)
    assert np.all(pixels[24:] == 0)


def test_reduction_is_antialiased() -> None:
    stripes = np.zeros((256, 256, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    pixels = square(Image.fromarray(stripes), 32)
    assert np.abs(pixels[:, 4:-4].astype(int) - 127).max() <= 3


def test_a_large_jpeg_decoded_at_reduced_scale_looks_like_the_full_one(tmp_path: Path) -> None:
    y, x = np.mgrid[:1024, :1024] / 1024
    photo = (np.stack([np.sin(9 * x), np.cos(7 * y), np.sin(5 * (x + y))], axis=2) * 100 + 128).astype(np.uint8)
    path = _save(tmp_path / "large.jpg", Image.fromarray(photo), quality=95)
    pixels = decode_image(path, 64).pixels.astype(int)
    with Image.open(path) as image:
        reference = square(image.convert("RGB"), 64)
    assert np.abs(pixels - reference).mean() < 1.0


def test_field_of_view_is_the_box_of_the_disc() -> None:
    y, x = np.mgrid[:200, :300]
    disc = ((x - 160) ** 2 + (y - 90) ** 2 <= 70**2) * np.uint8(120)
    left, top, right, bottom = field_of_view(disc)
    assert abs(left - 90) <= 1
    assert abs(top - 20) <= 1
    assert abs(right - 231) <= 1
    assert abs(bottom - 161) <= 1


@pytest.mark.parametrize("speck", [None, (slice(10, 14), slice(50, 54))])
def test_field_of_view_is_the_whole_image_where_nothing_is_found(speck: tuple[slice, slice] | None) -> None:
    dark = np.full((100, 80), 5, dtype=np.uint8)
    if speck:
        dark[speck] = 255
    assert field_of_view(dark) == (0, 0, 80, 100)


def test_cropping_to_the_field_removes_the_surround(tmp_path: Path) -> None:
    canvas = np.full((200, 400, 3), 4, dtype=np.uint8)
    canvas[50:150, 100:200] = 180
    path = _save(tmp_path / "f.png", Image.fromarray(canvas))
    assert np.all(decode_image(path, 50, crop_to_field=True).pixels == 180)
    assert decode_image(path, 50).pixels.mean() < 60
