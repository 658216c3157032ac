"""A search of images of more than 8 bits says which range was found, keeps it, and refuses another on resuming."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from augscale.config import StudyConfig, load_study
from augscale.errors import ConfigError
from augscale.runs.files import read_json
from augscale.runs.folders import RunFolder
from augscale.searching.display import SearchDisplay
from augscale.searching.introduction import say_what_runs
from augscale.searching.prepare import prepare_run


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """30 images of 16 bits that hold 14."""
    monkeypatch.setenv("AUGSCALE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(30):
        Image.fromarray(rng.integers(0, 16_000, (32, 32), dtype=np.uint16)).save(folder / f"{number}.png")
    return folder


def _prepare(out: Path, photos: Path, **settings: object) -> tuple[RunFolder, StudyConfig, str]:
    run = RunFolder(out)
    config = load_study("smoke", {"data.sources": [str(photos)]} | settings)
    manifest = prepare_run(run, config, storage=None, parameters=1, device_label="cpu")
    text = io.StringIO()
    say_what_runs(SearchDisplay(Console(file=text, width=300), quiet=False), config, manifest, run)
    return run, config, text.getvalue()


def test_a_range_that_was_found_is_said_and_kept_in_the_manifest(tmp_path: Path, photos: Path) -> None:
    run, _, said = _prepare(tmp_path / "run", photos)
    line = "grey levels of photos (grey of more than 8 bits): 0 is black and 16383 white (found over 30 files)"
    assert f"{line}; data.range = [LOW, HIGH] sets it" in said
    manifest = read_json(run.manifest_file)
    assert manifest is not None
    assert manifest["data"]["ranges"] == [
        {
            "source": "photos",
            "kind": "grey of more than 8 bits",
            "low": 0.0,
            "high": 16383.0,
            "files": 30,
            "given": False,
        }
    ]


def test_a_range_that_was_given_is_kept_but_not_announced(tmp_path: Path, photos: Path) -> None:
    run, _, said = _prepare(tmp_path / "run", photos, **{"data.range": [0, 20_000]})
    assert "grey levels" not in said
    manifest = read_json(run.manifest_file)
    assert manifest is not None
    assert [(found["high"], found["given"]) for found in manifest["data"]["ranges"]] == [(20_000.0, True)]
    with pytest.raises(ConfigError, match=r"data\.range"):
        _prepare(tmp_path / "run", photos)
