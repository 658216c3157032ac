"""DICOM files against the pixels that were put into them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from augscale.config import DataConfig
from augscale.data.cache import build_cache
from augscale.data.image_records import UnusableImage
from augscale.data.images import decode_image

SIDE = 16


def _write(path: Path, samples: np.ndarray, photometric: str, bits: int, frames: int = 1) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    colour = samples.ndim > 2 and samples.shape[-1] == 3
    dataset.Rows, dataset.Columns = samples.shape[-3:-1] if colour else samples.shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = 8 * samples.dtype.itemsize
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, 0
    if frames > 1:
        dataset.NumberOfFrames = frames
    dataset.PixelData = samples.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def _grey(bits: int) -> np.ndarray:
    return np.linspace(0, 2**bits - 1, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)


def test_rgb_gives_the_pixels_that_were_saved(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_image(_write(tmp_path / "a.dcm", photo, "RGB", 8), SIDE).pixels, photo)


@pytest.mark.parametrize("bits", [12, 16])
def test_grey_is_scaled_by_the_bits_stored_not_clipped(tmp_path, bits):
    samples = _grey(bits)
    pixels = decode_image(_write(tmp_path / "a.dcm", samples, "MONOCHROME2", bits), SIDE).pixels
    expected = np.round(samples * (255 / (2**bits - 1))).astype(np.uint8)
    np.testing.assert_array_equal(pixels, np.repeat(expected[..., None], 3, axis=2))


def test_monochrome1_is_turned_round(tmp_path):
    samples = _grey(12)
    light = decode_image(_write(tmp_path / "a.dcm", samples, "MONOCHROME2", 12), SIDE).pixels.astype(int)
    dark = decode_image(_write(tmp_path / "b.dcm", samples, "MONOCHROME1", 12), SIDE).pixels.astype(int)
    assert np.abs(light + dark - 255).max() <= 1


def test_the_first_of_several_frames_is_used_and_noted(tmp_path):
    frames = np.stack([np.full((SIDE, SIDE), value, dtype=np.uint8) for value in (10, 200)])
    decoded = decode_image(_write(tmp_path / "a.dcm", frames, "MONOCHROME2", 8, frames=2), SIDE)
    assert (decoded.pixels == 10).all()
    assert decoded.note == "first of 2 frames used"


def test_it_is_recognised_by_content(tmp_path):
    path = _write(tmp_path / "a.png", np.full((SIDE, SIDE), 99, dtype=np.uint8), "MONOCHROME2", 8)
    assert (decode_image(path, SIDE).pixels == 99).all()


def test_what_cannot_be_used_is_refused_with_the_reason(tmp_path, monkeypatch):
    path = _write(tmp_path / "a.dcm", np.full((SIDE, SIDE), 99, dtype=np.uint8), "MONOCHROME2", 8)
    (tmp_path / "cut.dcm").write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UnusableImage, match="cannot be decoded"):
        decode_image(tmp_path / "cut.dcm", SIDE)
    empty = pydicom.dcmread(path)
    del empty.PixelData
    empty.save_as(tmp_path / "report.dcm")
    with pytest.raises(UnusableImage, match="without an image"):
        decode_image(tmp_path / "report.dcm", SIDE)
    monkeypatch.setattr("augscale.data.formats.dicom.can_read_dicom", lambda: False)
    with pytest.raises(UnusableImage, match=r"augscale\[dicom\]"):
        decode_image(path, SIDE)


def test_a_folder_of_dicom_files_becomes_a_cache(tmp_path):
    for index in range(3):
        photo = np.full((SIDE, SIDE, 3), 40 * index, dtype=np.uint8)
        _write(tmp_path / f"{index}.dcm", photo, "RGB", 8)
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"nonsense")
    config = DataConfig(sources=(str(tmp_path),), cache_size=SIDE, max_bad=0.5)
    cache = build_cache(config, cache_root=tmp_path / "cache")
    assert len(cache) == 3
    assert [bad.path.name for bad in cache.bad] == ["broken.dcm"]
