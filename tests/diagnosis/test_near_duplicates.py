"""Near-duplicates: re-compressed copies are found, different photographs are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from augscale.data.thumbnails import thumbnails_standardised
from augscale.demo import render
from augscale.demo.patients import synthetic_records
from augscale.diagnosis.near_duplicates import near_duplicates


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    return np.stack([render(record.image_id, 0, 96) for record in synthetic_records(6, 0)[:12]])


def _recompressed(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((80, 80)).save(buffer, format="JPEG", quality=60)
    return np.asarray(Image.open(buffer).resize((96, 96)))


def test_a_recompressed_copy_is_found_and_different_photographs_are_not(photographs):
    images = np.concatenate([photographs, _recompressed(photographs[4])[None]])
    assert [(pair.a, pair.b) for pair in near_duplicates(images)] == [(4, 12)]


def test_correlations_are_those_of_numpy(photographs):
    thumbs = thumbnails_standardised(photographs)
    grey = [
        np.asarray(Image.fromarray(p).convert("L").resize((32, 32), Image.Resampling.BOX)).ravel() for p in photographs
    ]
    np.testing.assert_allclose(thumbs @ thumbs.T, np.corrcoef(np.stack(grey).astype(float)), atol=1e-5)


def test_only_pairs_of_the_rows_asked_for_are_listed(photographs):
    images = np.concatenate([photographs, photographs[:2]])
    assert {(pair.a, pair.b) for pair in near_duplicates(images)} == {(0, 12), (1, 13)}
    assert {(pair.a, pair.b) for pair in near_duplicates(images, [13])} == {(1, 13)}


def test_images_of_one_colour_and_a_single_image_have_none():
    assert near_duplicates(np.zeros((3, 40, 40, 3), dtype=np.uint8)) == []
    assert near_duplicates(np.zeros((1, 40, 40, 3), dtype=np.uint8)) == []
