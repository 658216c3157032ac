"""Writes DICOM files from arrays, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def dicom_dataset(
    samples: np.ndarray,
    *,
    photometric: str = "MONOCHROME2",
    bits: int | None = None,
    high_bit: int | None = None,
    syntax: UID = ExplicitVRLittleEndian,
    **elements: Any,
) -> pydicom.Dataset:
    """A data set with pixel data as they are in the array, shape (H, W) or (H, W, 3), and further elements by name."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality = "OT"
    dataset.Rows, dataset.Columns = samples.shape[:2]
    dataset.SamplesPerPixel = 3 if samples.ndim == 3 else 1
    if samples.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = 8 * samples.dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1 if high_bit is None else high_bit
    dataset.PixelRepresentation = int(samples.dtype.kind == "i")
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.PixelData = samples.astype(samples.dtype.newbyteorder("<" if syntax.is_little_endian else ">")).tobytes()
    dataset["PixelData"].VR = "OB" if dataset.BitsAllocated == 8 else "OW"
    return dataset


def write_dicom(path: Path, samples: np.ndarray, **settings: Any) -> Path:
    """Writes `dicom_dataset(samples, **settings)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dicom_dataset(samples, **settings), enforce_file_format=True)
    return path
