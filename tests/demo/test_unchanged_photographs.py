"""The pixels of the built-in photographs, and the names of their caches, are those of augscale 0.1.0."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from augscale.config import DataConfig
from augscale.data.cache import build_cache
from augscale.demo import render
from augscale.demo.render import RENDERER

# Every camera and every grade: image id, size in pixels, BLAKE2b-64 of the pixels.
PHOTOGRAPHS = (
    ("synthetic/p0011/left/0", 48, "9efa647d296fe4d3"),
    ("synthetic/p0000/right/0", 33, "e72d891b6844ea2c"),
    ("synthetic/p0004/left/0", 48, "3393fe5435b530a7"),
    ("synthetic/p0003/left/0", 64, "c4ae32c4ce8c1276"),
    ("synthetic/p0012/left/0", 40, "5231e8521bf87ee2"),
    ("synthetic/p0012/right/0", 96, "d8265288e1c865aa"),
    ("synthetic/p0002/right/0", 56, "a2ed644698670e7a"),
    ("synthetic/p0009/left/0", 48, "d03118235f89a417"),
)
RENDERER_OF_THESE_PIXELS = "86c24cdb517b39d8389d9627bda3f6b9"


@pytest.mark.parametrize(("image_id", "size", "expected"), PHOTOGRAPHS)
def test_pixels_change_only_with_a_new_renderer_version(image_id: str, size: int, expected: str) -> None:
    found = hashlib.blake2b(render(image_id, 0, size).tobytes(), digest_size=8).hexdigest()
    assert (found == expected) == (RENDERER == RENDERER_OF_THESE_PIXELS), (
        f"the pixels of {image_id} at {size} px have the hash {found}, expected {expected}; RENDERER is {RENDERER}: "
        "give RENDERER in augscale/demo/render.py another text if the change is meant, and enter text and hashes here"
    )


def test_a_run_that_was_begun_with_0_1_0_finds_its_photographs(tmp_path: Path) -> None:
    """`manifest.json` of a run holds the fingerprint; the folder's name is the cache key."""
    cache = build_cache(DataConfig(cache_size=16, synthetic_patients=4), cache_root=tmp_path)
    assert cache.fingerprint == "57a4558b876c269145a634e89659fee9"
    assert cache.directory.name == "321a0c48728e4a8c037ee06e8f471ca8"
