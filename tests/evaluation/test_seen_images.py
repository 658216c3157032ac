"""Test images that a network has met before are counted, and nothing else is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from augscale.config import DataConfig
from augscale.data.cache import build_cache
from augscale.evaluation.datasets import open_dataset
from augscale.evaluation.seen_images import cached_contents, seen_contents, seen_notes


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Twelve labelled images, four of them for testing."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["file,label,split"]
    for index in range(12):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / f"{index:02d}.png")
        lines.append(f"{index:02d}.png,{'ab'[index % 2]},{('train', 'val', 'test')[index // 4]}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def test_images_of_the_search_and_of_the_full_run_around_a_checkpoint_are_counted(photographs, tmp_path):
    labelled = open_dataset(photographs, size=24, cache_root=tmp_path / "cache")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name, copy in (("08.png", "a.png"), ("11.png", "b.png"), ("00.png", "c.png")):
        shutil.copy(photographs / name, elsewhere / copy)
    folders = {}
    for name, sources in (("search", ["11.png", "01.png"]), ("full", ["08.png", "00.png"])):
        config = DataConfig(sources=tuple(str(photographs / file) for file in sources), cache_size=16)
        folders[name] = build_cache(config, cache_root=tmp_path / "cache").directory
    run = tmp_path / "run"
    full = run / "promote" / "weak"
    full.mkdir(parents=True)
    (run / "manifest.json").write_text(json.dumps({"cache": str(folders["search"])}))
    assert seen_notes([seen_contents(full / "last.safetensors")], [labelled])[0].startswith("photographs: 1 of 4 test")
    (full / "manifest.json").write_text(json.dumps({"cache": str(folders["full"])}))
    (note,) = seen_notes([seen_contents(full / "last.safetensors"), frozenset()], [labelled])
    assert note.startswith("photographs: 2 of 4 test images were pre-trained on")


def test_unknown_images_and_caches_that_are_gone_are_no_reason_for_a_note(photographs, tmp_path):
    labelled = open_dataset(photographs, size=24, cache_root=tmp_path / "cache")
    assert cached_contents(tmp_path / "gone") == frozenset()
    assert seen_contents(tmp_path / "nowhere" / "x.pth") == frozenset()
    assert seen_notes([frozenset({"other"})], [labelled]) == []
