"""Preview: images in, contact sheet out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from augscale.cli.preview import MOST_DECODED, preview
from augscale.errors import ConfigError

STUDY = """
[data]
cache_size = 64
[crops]
global_size = 32
n_local = 2
local_size = 16
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    generator = np.random.default_rng(0)
    for number in range(7):
        pixels = generator.integers(0, 256, (80, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"photo{number}.png")
    return images


def test_preview_writes_a_sheet_of_the_chosen_images(tmp_path: Path, study: Path, folder: Path) -> None:
    arguments = {"study": study, "cache_root": tmp_path / "cache", "images": 3}
    result = preview(str(folder), ("strong", "weak", "strong@0.5"), out=tmp_path / "new" / "sheet.png", **arguments)
    with Image.open(result.path) as sheet:
        sheet.load()
        assert sheet.mode == "RGB"
    assert list(result.scales) == ["strong", "weak", "strong@0.5"]
    assert len(set(result.image_ids)) == 3
    assert all("photo" in image_id for image_id in result.image_ids)
    assert json.loads(json.dumps(result.to_dict()))["image_ids"] == list(result.image_ids)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.png"]

    again = preview(str(folder), ("strong", "weak", "strong@0.5"), out=tmp_path / "again.png", **arguments)
    assert again.image_ids == result.image_ids
    assert again.path.read_bytes() == result.path.read_bytes()
    other = preview(str(folder), ("strong",), out=tmp_path / "other.png", seed=1, **arguments)
    assert other.image_ids != result.image_ids


def test_fewer_images_than_asked_for_are_all_shown(tmp_path: Path, study: Path, folder: Path) -> None:
    result = preview([str(folder)], ["weak"], study=study, out=tmp_path / "s.png", cache_root=tmp_path / "c", images=50)
    assert len(result.image_ids) == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": ("stronk",)}, "unknown scales 'stronk' (did you mean strong?)"),
        ({"scales": ()}, "preview: no scales given"),
        ({"out": "sheet.txt"}, "sheet.txt: .txt is not an image format; expected .png, .jpg or .webp"),
        ({"images": 0}, "preview: images = 0, views per image = 6; expected at least 1 image and 2 views"),
    ],
)
def test_wrong_arguments_are_refused_before_images_are_read(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        preview("/no/such/folder", **changes)  # type: ignore[arg-type]
    assert str(error.value).startswith(message)


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path, study: Path, folder: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        preview(str(folder), study=study, out=tmp_path / "file" / "sheet.png", cache_root=tmp_path / "cache")


def test_of_a_large_folder_only_some_images_are_decoded(tmp_path: Path, study: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(MOST_DECODED + 20):
        Image.fromarray(np.full((24, 24, 3), number, np.uint8)).save(many / f"{number}.png")
    shown = [
        preview(str(many), study=study, out=tmp_path / "sheet.png", seed=seed, cache_root=tmp_path / "cache").image_ids
        for seed in (0, 1)
    ]
    assert shown[0] != shown[1]
    (stored,) = (tmp_path / "cache").glob("*/images.npy")
    assert len(np.load(stored, mmap_mode="r")) == MOST_DECODED


def test_descriptions_leave_out_local_crops_if_the_study_draws_none(tmp_path: Path, study: Path, folder: Path) -> None:
    found = {}
    for n_local in (2, 0):
        study.write_text(STUDY.replace("n_local = 2", f"n_local = {n_local}"))
        result = preview(str(folder), ("strong",), study=study, cache_root=tmp_path / "cache", out=tmp_path / "a.png")
        found[n_local] = " ".join(result.to_dict()["descriptions"]["strong"])
    assert "local crops 5 to 40 %" in found[2]
    assert "local" not in found[0]
