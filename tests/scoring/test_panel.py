"""The probe panel depends on images and settings only, and shows what it says."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from augscale.augmentation.views import IMAGENET_MEAN, IMAGENET_STD
from augscale.config import CropsConfig, ProbeConfig
from augscale.data.image_records import ImageRecord
from augscale.errors import ConfigError, DataError
from augscale.scoring import panel as panel_module
from augscale.scoring.panel import ProbePanel, build_panel

SIZE = 24
CROPS = CropsConfig(global_size=16, n_local=2, local_size=8)
PROBE = ProbeConfig(images=4, views=3, levels=("none", "strong@0.5", "strong"), seed=3)
HELD_OUT = np.array([1, 4, 5, 8])


def _records(n: int) -> list[ImageRecord]:
    return [
        ImageRecord(image_id=f"folder/{row:02}.png", path=None, patient_id=str(row // 2), source="folder")
        for row in range(n)
    ]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (10, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def panel(images: np.ndarray) -> ProbePanel:
    return build_panel(images, HELD_OUT, _records(10), PROBE, CROPS)


def test_shapes_types_and_sizes(panel: ProbePanel) -> None:
    assert panel.views.shape == (3, 4, 3, 3, 16, 16)
    assert panel.clean.shape == (4, 3, 16, 16)
    assert panel.views.dtype == panel.clean.dtype == torch.float32
    assert (panel.num_images, panel.num_views, panel.view_size) == (4, 3, 16)
    assert panel.level_names == ("none", "strong@0.5", "strong")
    assert panel.image_rows.tolist() == HELD_OUT.tolist()


def test_images_of_one_patient_share_a_group(panel: ProbePanel) -> None:
    # Rows 4 and 5 are both of patient 2; 1 and 8 of others.
    first, second, third, fourth = panel.groups.tolist()
    assert second == third
    assert len({first, second, fourth}) == 3


def test_no_trial_can_influence_the_panel(images: np.ndarray, panel: ProbePanel) -> None:
    assert list(inspect.signature(build_panel).parameters) == ["images", "indices", "records", "probe", "crops"]
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002  (global state must not matter)
    again = build_panel(images, HELD_OUT, _records(10), PROBE, CROPS)
    assert torch.equal(again.views, panel.views)
    assert torch.equal(again.clean, panel.clean)
    assert again.fingerprint == panel.fingerprint


def test_views_belong_to_images_not_to_positions(images: np.ndarray, panel: ProbePanel) -> None:
    order = np.random.default_rng(5).permutation(10)
    place = np.argsort(order)
    records = _records(10)
    moved = build_panel(images[order], place[HELD_OUT][::-1], [records[i] for i in order], PROBE, CROPS)
    assert torch.equal(moved.views.flip(1), panel.views)
    assert torch.equal(moved.clean.flip(0), panel.clean)


def test_views_do_not_depend_on_the_chunk(
    images: np.ndarray, panel: ProbePanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panel_module, "_CHUNK_IMAGES", 3)
    again = build_panel(images, HELD_OUT, _records(10), PROBE, CROPS)
    torch.testing.assert_close(again.views, panel.views, atol=1e-6, rtol=0)
    assert again.fingerprint == panel.fingerprint


def test_the_same_content_gets_the_same_views_under_another_name(images: np.ndarray) -> None:
    renamed = [
        ImageRecord(image_id=f"{name}/{row}", path=None, source=name, content=f"hash{row}")
        for name in ("here", "there")
        for row in range(10)
    ]
    here, there = (build_panel(images, HELD_OUT, part, PROBE, CROPS) for part in (renamed[:10], renamed[10:]))
    assert torch.equal(here.views, there.views)
    assert here.fingerprint == there.fingerprint


@pytest.mark.parametrize(
    "change",
    [{"seed": 4}, {"views": 2}, {"levels": ("none", "strong@0.5", "weak")}],
    ids=["seed", "views", "levels"],
)
def test_settings_change_the_fingerprint(images: np.ndarray, panel: ProbePanel, change: dict[str, object]) -> None:
    other = build_panel(images, HELD_OUT, _records(10), PROBE.model_copy(update=change), CROPS)
    assert other.fingerprint != panel.fingerprint


def test_pixels_change_the_fingerprint(images: np.ndarray, panel: ProbePanel) -> None:
    changed = images.copy()
    changed[4, 0, 0, 0] ^= 1
    assert build_panel(changed, HELD_OUT, _records(10), PROBE, CROPS).fingerprint != panel.fingerprint


def test_the_seed_changes_the_views(images: np.ndarray, panel: ProbePanel) -> None:
    other = build_panel(images, HELD_OUT, _records(10), PROBE.model_copy(update={"seed": 4}), CROPS)
    assert not torch.equal(other.views[2], panel.views[2])
    assert torch.equal(other.clean, panel.clean)


def test_views_of_an_image_differ_from_each_other_and_between_levels(panel: ProbePanel) -> None:
    strong = panel.views[2]
    for v, w in ((0, 1), (0, 2), (1, 2)):
        assert ((strong[:, v] - strong[:, w]).abs().amax(dim=(1, 2, 3)) > 0.1).all()
    assert not torch.equal(panel.views[1], panel.views[2])


def test_levels_have_draws_of_their_own(images: np.ndarray) -> None:
    # The same scales under two names.
    probe = PROBE.model_copy(update={"levels": ("strong", "official-dino")})
    shown = build_panel(images, HELD_OUT, _records(10), probe, CROPS)
    assert not torch.equal(shown.views[0], shown.views[1])


def test_without_augmentation_a_view_is_the_whole_image(images: np.ndarray) -> None:
    crops = CROPS.model_copy(update={"global_size": SIZE})
    shown = build_panel(images, HELD_OUT, _records(10), PROBE, crops)
    pixels = images[HELD_OUT].transpose(0, 3, 1, 2) / 255
    expected = (pixels - np.array(IMAGENET_MEAN)[:, None, None]) / np.array(IMAGENET_STD)[:, None, None]
    np.testing.assert_allclose(shown.clean, expected, atol=1e-5)
    for view in range(3):
        np.testing.assert_allclose(shown.views[0, :, view], expected, atol=1e-4)


def test_large_panels_are_kept_in_half_precision(
    images: np.ndarray, panel: ProbePanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panel_module, "FLOAT32_BYTES", 1000)
    half = build_panel(images, HELD_OUT, _records(10), PROBE, CROPS)
    assert half.views.dtype == half.clean.dtype == torch.float16
    assert (half.views.float() - panel.views).abs().max() <= 0.001


def test_levels_grow_from_mild_to_strong_on_photographs(fundus_dir: Path) -> None:
    files = sorted(fundus_dir.rglob("*.jpg"))[:8]
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB").resize((48, 48))) for file in files])
    records = [ImageRecord(image_id=file.name, path=file, source="fundus") for file in files]
    probe = ProbeConfig(views=2, levels=("none", "strong@0.25", "strong@0.5", "strong"))
    shown = build_panel(pixels, np.arange(8), records, probe, CropsConfig(global_size=32))
    change = (shown.views - shown.clean[None, :, None]).square().mean(dim=(1, 2, 3, 4, 5)).tolist()
    assert change == sorted(change)
    assert change[0] < 0.2 * change[-1]


def test_a_level_named_twice_is_refused(images: np.ndarray) -> None:
    probe = PROBE.model_copy(update={"levels": ("weak", "weak")})
    with pytest.raises(ConfigError, match="a level is named twice"):
        build_panel(images, HELD_OUT, _records(10), probe, CROPS)


@pytest.mark.parametrize(
    ("rows", "num_records", "message"),
    [
        ([0, 10], 10, r"rows \[0, 10\]; expected at least one row within \[0, 9\]"),
        ([], 10, "rows none"),
        ([0, 1], 9, "9 records for 10 images"),
    ],
)
def test_wrong_rows_are_refused(images: np.ndarray, rows: list[int], num_records: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        build_panel(images, np.array(rows, dtype=np.int64), _records(num_records), PROBE, CROPS)
