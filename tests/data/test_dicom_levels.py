"""What DICOM values mean: generated headers against pydicom's own functions, and the cases that go wrong elsewhere."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import dicom_dataset, write_dicom
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from augscale.data.formats.dicom import dicom_kind, is_dicom, read_dicom
from augscale.data.grey_levels import GreyRange
from augscale.data.image_records import UnusableImage
from augscale.data.images import Ranges, decode_image

SIDE = 16
EXAMPLES = settings(
    max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
pytestmark = pytest.mark.filterwarnings("ignore:::pydicom")


def _ramp(low: float, high: float, dtype: type) -> np.ndarray:
    return np.linspace(low, high, SIDE * SIDE).round().astype(dtype).reshape(SIDE, SIDE)


def _grey(path: Path, ranges: Ranges | None = None) -> np.ndarray:
    pixels = decode_image(path, SIDE, ranges=ranges or Ranges()).pixels
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0].astype(int)


@st.composite
def _headers(draw: st.DrawFn) -> dict:
    allocated = draw(st.sampled_from([8, 16, 32]))
    bits = draw(st.integers(min_value=max(2, allocated // 4), max_value=allocated))
    header = {
        "allocated": allocated,
        "bits": bits,
        "high_bit": draw(st.integers(min_value=bits - 1, max_value=allocated - 1)),
        "signed": draw(st.booleans()),
        "photometric": draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"])),
        "seed": draw(st.integers(0, 2**16)),
        "syntax": draw(st.sampled_from([pydicom.uid.ExplicitVRLittleEndian, ImplicitVRLittleEndian])),
    }
    elements = {}
    if draw(st.booleans()):
        elements["RescaleSlope"] = draw(st.sampled_from([1, -1, 2, 0.5, -0.25]))
        elements["RescaleIntercept"] = draw(st.sampled_from([0, -1024, 255, 12.5]))
    if draw(st.booleans()):
        # In shares of what the bits stored can hold, so that values lie below, inside and above the window.
        slope, intercept = abs(elements.get("RescaleSlope", 1)), elements.get("RescaleIntercept", 0)
        center = draw(st.sampled_from([0.2, 0.5, 0.7])) - (0.5 if header["signed"] else 0)
        sign = 1 if elements.get("RescaleSlope", 1) > 0 else -1
        elements["WindowCenter"] = [round(sign * center * slope * 2**bits + intercept), 20]
        elements["WindowWidth"] = [max(3, round(draw(st.sampled_from([0.1, 0.4, 0.8])) * slope * 2**bits)), 10]
        if draw(st.booleans()):
            elements["VOILUTFunction"] = draw(st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]))
    return header | {"elements": elements}


def _stored(header: dict) -> tuple[np.ndarray, np.ndarray]:
    """Random values that fit the bits stored, and how they lie in the pixel data, the unused bits filled with noise."""
    rng = np.random.default_rng(header["seed"])
    bits, allocated = header["bits"], header["allocated"]
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if header["signed"] else (0, 2**bits)
    values = rng.integers(low, high, size=(SIDE, SIDE), dtype=np.int64)
    shift = header["high_bit"] + 1 - bits
    noise = rng.integers(0, 2**allocated, size=values.shape, dtype=np.uint64)
    mask = np.uint64(((1 << bits) - 1) << shift)
    raw = ((values.astype(np.uint64) << np.uint64(shift)) & mask) | (noise & ~mask)
    raw = raw & np.uint64(2**allocated - 1)
    unsigned = raw.astype(f"u{allocated // 8}")
    return values, unsigned.view(f"i{allocated // 8}") if header["signed"] else unsigned


@EXAMPLES
@given(header=_headers())
def test_generated_headers_agree_with_pydicoms_own_pipeline(tmp_path: Path, header: dict) -> None:
    values, raw = _stored(header)
    dataset = dicom_dataset(
        raw,
        photometric=header["photometric"],
        bits=header["bits"],
        high_bit=header["high_bit"],
        syntax=header["syntax"],
        **header["elements"],
    )
    path = tmp_path / "a.dcm"
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    modality = apply_modality_lut(values, dataset).astype(np.float64)
    samples, _ = read_dicom(path, 10**6)
    assert samples.kind == dicom_kind(path)
    assert samples.inverted == (header["photometric"] == "MONOCHROME1")
    if "WindowWidth" in header["elements"]:
        slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
        ends = (-(2 ** (header["bits"] - 1)), 2 ** (header["bits"] - 1) - 1) if header["signed"] else None
        bottom, top = (end * slope + intercept for end in ends or (0, 2 ** header["bits"] - 1))
        shown = (apply_voi_lut(modality, dataset) - bottom) / (top - bottom)
        tolerance = 1  # where a value lies half way between two grey levels
    else:
        np.testing.assert_array_equal(samples.values, modality)
        black, white = sorted(np.quantile(modality, [0.1, 0.8]))
        white = white if white > black else black + 1
        if samples.kind is None:
            assert samples.nominal is not None
            black, white = samples.nominal.low, samples.nominal.high
        ranges = Ranges(found={samples.kind or "": GreyRange(low=black, high=white)})
        shown, tolerance = np.clip((modality - black) / (white - black), 0, 1), 0
    expected = np.round(np.clip(shown, 0, 1) * 255)
    expected = 255 - expected if samples.inverted else expected
    found = _grey(path) if tolerance else _grey(path, ranges)
    assert np.abs(found - expected).max() <= max(tolerance, 1)
    assert np.mean(found != expected) < 0.05


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize(("bits", "top"), [(8, 255), (10, 1023), (12, 4095), (16, 65535), (16, 255)])
@pytest.mark.parametrize("first", [0, 100, -50])
def test_a_voi_lut_sequence_is_applied(tmp_path: Path, bits: int, top: int, first: int, as_bytes: bool) -> None:
    """Tables of 8-bit entries that are longer than 256 included, and 8-bit values declared as 16 bits."""
    table = (np.linspace(0, 1, 1000) ** 2 * top).round().astype(np.uint16)
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(table), first, bits])
    item.add_new("LUTData", "OW" if as_bytes else "US", table.astype("<u2").tobytes() if as_bytes else table.tolist())
    stored = _ramp(-200, 1200, np.int16)
    path = write_dicom(tmp_path / "a.dcm", stored, VOILUTSequence=[item], WindowCenter=5, WindowWidth=10)
    expected = np.round(table[np.clip(stored.astype(int) - first, 0, len(table) - 1)] * (255 / top))
    np.testing.assert_array_equal(_grey(path), expected)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_modality_lut_sequence_is_applied(tmp_path: Path, bits: int) -> None:
    top = 2**bits - 1
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [256, 0, bits])
    item.add_new("LUTData", "US", np.linspace(top, 0, 256).round().astype(int).tolist())
    item.ModalityLUTType = "US"
    path = write_dicom(tmp_path / "a.dcm", _ramp(0, 255, np.uint8), ModalityLUTSequence=[item])
    np.testing.assert_allclose(_grey(path), 255 - _ramp(0, 255, np.uint8).astype(int), atol=1)


def test_tables_of_enhanced_multi_frame_images_are_found(tmp_path: Path) -> None:
    transformation, voi, shared, frame = (pydicom.Dataset() for _ in range(4))
    transformation.RescaleSlope, transformation.RescaleIntercept, transformation.RescaleType = 2, -1000, "HU"
    voi.WindowCenter, voi.WindowWidth, voi.VOILUTFunction = 0, 1000, "LINEAR_EXACT"
    shared.PixelValueTransformationSequence, frame.FrameVOILUTSequence = [transformation], [voi]
    groups = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": [frame]}
    stored = _ramp(0, 1000, np.uint16)
    path = write_dicom(tmp_path / "a.dcm", stored, **groups)
    expected = np.clip((stored * 2.0 - 1000 + 500) / 1000, 0, 1) * 255
    assert np.abs(_grey(path) - expected).max() <= 1


@pytest.mark.parametrize(("center", "width"), [(0, 0), (0, -5), (0, ""), (32768, 65536), (32767.5, 65535)])
def test_a_window_that_shows_nothing_is_passed_over(tmp_path: Path, center: float, width: object) -> None:
    """Equipment that sets no window writes zeros, or a window over all that could be stored."""
    path = write_dicom(tmp_path / "a.dcm", _ramp(0, 800, np.uint16), WindowCenter=center, WindowWidth=width)
    assert _grey(path).max() == 255
    assert dicom_kind(path) == "DICOM OT, 16 bits"


@pytest.mark.parametrize(
    ("stored", "elements"),
    [
        (_ramp(0, 900, np.uint16), {}),
        (_ramp(1000, 1900, np.uint16), {}),
        (_ramp(-1000, 500, np.int16), {}),
        (_ramp(0, 255_000, np.uint32), {}),
        (_ramp(0, 900, np.uint16), {"RescaleSlope": 0.01, "RescaleIntercept": 0}),
        (_ramp(900, 0, np.uint16), {"RescaleSlope": -2, "RescaleIntercept": 500}),
        (_ramp(900, 0, np.uint16), {"photometric": "MONOCHROME1"}),
        (_ramp(0, 900, np.uint16), {"syntax": ExplicitVRBigEndian}),
        (_ramp(0, 900, np.uint16), {"syntax": DeflatedExplicitVRLittleEndian}),
    ],
)
def test_values_in_a_small_part_of_the_stored_range_are_neither_black_nor_inverted(
    tmp_path: Path, stored: np.ndarray, elements: dict
) -> None:
    pixels = _grey(write_dicom(tmp_path / "a.dcm", stored, **elements))
    assert np.abs(pixels - np.linspace(0, 255, SIDE * SIDE).reshape(SIDE, SIDE)).max() <= 4


def test_padding_does_not_widen_the_range(tmp_path: Path) -> None:
    stored = _ramp(0, 1000, np.int16)
    stored[:4] = -2000
    path = write_dicom(tmp_path / "a.dcm", stored, PixelPaddingValue=-2000)
    assert (_grey(path)[:4] == 0).all()
    assert _grey(path)[4:].min() < 70
    assert _grey(path)[4:].max() == 255


@pytest.mark.parametrize("entry_bits", [8, 16])
@pytest.mark.parametrize("entries", [200, 256, 1000])
def test_palettes_of_8_bit_values_keep_their_colours(tmp_path: Path, entry_bits: int, entries: int) -> None:
    """Also where a table of 8-bit entries is longer than 8 bits can count."""
    palette = np.random.default_rng(0).integers(0, 256, (entries, 3))
    palette[0] = 255
    elements: dict[str, object] = {}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [entries, 0, entry_bits]
        elements[f"{name}PaletteColorLookupTableData"] = palette[:, channel].astype(f"<u{entry_bits // 8}").tobytes()
    indices = np.random.default_rng(1).integers(0, entries, (SIDE, SIDE)).astype(np.uint16)
    path = write_dicom(tmp_path / "a.dcm", indices, photometric="PALETTE COLOR", **elements)
    np.testing.assert_array_equal(decode_image(path, SIDE).pixels, palette[indices])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_float_pixel_data_are_read(tmp_path: Path, dtype: str) -> None:
    dataset = dicom_dataset(np.zeros((SIDE, SIDE), dtype=np.uint32), RescaleIntercept=0, RescaleSlope=1)
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    values = np.linspace(0, 1, SIDE * SIDE).reshape(SIDE, SIDE)
    dataset.BitsAllocated = 8 * np.dtype(dtype).itemsize
    setattr(
        dataset, "FloatPixelData" if dtype == "f4" else "DoubleFloatPixelData", values.astype(f"<{dtype}").tobytes()
    )
    path = tmp_path / "a.dcm"
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    assert np.abs(_grey(path) - values * 255).max() <= 1
    assert dicom_kind(path) == read_dicom(path, 10**6)[0].kind


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, pydicom.uid.ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("name", ["noext", "scan.IMA", "a.jpg"])
def test_files_without_preamble_are_recognised_whatever_their_name(
    tmp_path: Path, syntax: pydicom.uid.UID, name: str
) -> None:
    dataset = dicom_dataset(_ramp(0, 4095, np.uint16), bits=12, syntax=syntax)
    with_preamble = write_dicom(tmp_path / "with.dcm", _ramp(0, 4095, np.uint16), bits=12, syntax=syntax)
    del dataset.file_meta
    path = tmp_path / name
    dataset.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    assert path.read_bytes()[:2] in (b"\x08\x00", b"\x00\x08")
    assert is_dicom(path)
    np.testing.assert_array_equal(_grey(path), _grey(with_preamble))


def test_a_given_range_takes_the_place_of_the_window(tmp_path: Path) -> None:
    stored = _ramp(0, 4095, np.uint16)
    path = write_dicom(
        tmp_path / "a.dcm", stored, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=80
    )
    found = _grey(path, Ranges(given=GreyRange(low=-1000, high=1000)))
    assert np.abs(found - np.clip((stored - 24.0) / 2000 * 255, 0, 255)).max() <= 1


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"photometric": "HSV"}, "Photometric Interpretation HSV"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope 0"),
        ({"bits": 12, "high_bit": 4}, "HighBit 4"),
    ],
)
def test_what_means_nothing_is_refused_by_its_name(tmp_path: Path, elements: dict, reason: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", _ramp(0, 4095, np.uint16), **elements)
    with pytest.raises(UnusableImage, match=reason):
        decode_image(path, SIDE)


def _lossless_jpeg(samples: np.ndarray) -> pydicom.Dataset:
    import imagecodecs
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGLosslessSV1

    dataset = dicom_dataset(samples, bits=12, syntax=JPEGLosslessSV1)
    dataset.PixelData = encapsulate([imagecodecs.ljpeg_encode(samples, bitspersample=12)])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    return dataset


def test_the_extra_decodes_what_hospitals_send(tmp_path: Path) -> None:
    """Lossless JPEG here; JPEG-LS, JPEG 2000 and RLE from the files that pydicom brings."""
    samples = _ramp(0, 4095, np.uint16)
    pydicom.dcmwrite(tmp_path / "a.dcm", _lossless_jpeg(samples), enforce_file_format=True)
    np.testing.assert_array_equal(_grey(tmp_path / "a.dcm"), np.round(samples * (255 / 4095)))
    folder = Path(pydicom.data.__file__).parent / "test_files"
    plain = decode_image(folder / "MR_small.dcm", 64).pixels
    for name in ("MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm"):
        np.testing.assert_array_equal(decode_image(folder / name, 64).pixels, plain, err_msg=name)


def test_a_missing_decoder_is_named_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pydicom.dcmwrite(tmp_path / "a.dcm", _lossless_jpeg(_ramp(0, 4095, np.uint16)), enforce_file_format=True)
    decoder = pydicom.pixels.get_decoder(pydicom.uid.JPEGLosslessSV1)
    monkeypatch.setattr(decoder, "_available", {})
    with warnings.catch_warnings(), pytest.raises(UnusableImage, match=r"JPEG Lossless.*augscale\[dicom\]"):
        decode_image(tmp_path / "a.dcm", SIDE)


def _compressed(path: Path, samples: np.ndarray, codestream: bytes, syntax: str, **settings: Any) -> Path:
    dataset = dicom_dataset(samples, syntax=pydicom.uid.UID(syntax), **settings)
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


@pytest.mark.parametrize("cut", [lambda data: data[: len(data) // 2], lambda data: data[: len(data) // 2] + bytes(400)])
@pytest.mark.parametrize("kind", ["JPEG", "JPEG-LS", "lossless JPEG", "JPEG 2000"])
def test_compressed_data_without_an_end_are_refused_not_filled_with_grey(tmp_path: Path, kind: str, cut: Any) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    values = np.random.default_rng(0).integers(0, 256, size=(64, 64), dtype=np.uint8)
    encode, syntax = {
        "JPEG": (imagecodecs.jpeg8_encode, pydicom.uid.JPEGBaseline8Bit),
        "JPEG-LS": (imagecodecs.jpegls_encode, pydicom.uid.JPEGLSLossless),
        "lossless JPEG": (imagecodecs.ljpeg_encode, pydicom.uid.JPEGLosslessSV1),
        "JPEG 2000": (partial(imagecodecs.jpeg2k_encode, codecformat="j2k"), pydicom.uid.JPEG2000Lossless),
    }[kind]
    whole = _compressed(tmp_path / "whole.dcm", values, encode(values), syntax)
    assert np.abs(_grey(whole)[1:-1].mean() - values.mean()) < 10
    damaged = _compressed(tmp_path / "cut.dcm", values, cut(encode(values)), syntax)
    with pytest.raises(UnusableImage, match=r"end before the picture does \(truncated\)"):
        decode_image(damaged, SIDE)


def test_compressed_values_beyond_the_bits_stored_are_refused_not_read_as_white(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    values = _ramp(0, 65520, np.uint16)
    stream = imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k")
    path = _compressed(tmp_path / "a.dcm", values, stream, pydicom.uid.JPEG2000Lossless, bits=12)
    with pytest.raises(UnusableImage, match="reach 65520, which Bits Stored 12 does not allow"):
        decode_image(path, SIDE)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "a DICOM segmentation"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2"}, "a DICOM dose grid"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.6", "NumberOfFrames": 4}, "a DICOM whole slide in 4 tiles"),
        ({"PresentationLUTShape": "INVERSE"}, "contradict each other"),
    ],
)
def test_what_is_no_photograph_is_refused_by_its_name(tmp_path: Path, elements: dict, reason: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", _ramp(0, 255, np.uint8), **elements)
    with pytest.raises(UnusableImage, match=reason):
        decode_image(path, SIDE)


def test_a_presentation_that_says_the_same_twice_is_read(tmp_path: Path) -> None:
    values = _ramp(0, 255, np.uint8)
    path = write_dicom(tmp_path / "a.dcm", values, photometric="MONOCHROME1", PresentationLUTShape="INVERSE")
    np.testing.assert_array_equal(_grey(path), 255 - values.astype(int))
