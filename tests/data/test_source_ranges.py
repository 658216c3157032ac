"""A range of grey levels belongs to a source: found once over its files, or given, and known to the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_dicom
from PIL import Image

from augscale.cli.options import parse_range
from augscale.cli.preview import preview
from augscale.config import DataConfig, load_study
from augscale.data import cache_keys, source_ranges
from augscale.data.cache import ImageCache, build_cache, open_cache
from augscale.data.source_ranges import SourceRange
from augscale.errors import ConfigError
from augscale.evaluation.datasets import open_dataset

SIDE = 16


def _ramp(top: float, low: float = 0, seed: int = 0) -> np.ndarray:
    """Values from low to top, in an order of its own for each seed, so that no two files are equal."""
    values = np.linspace(low, top, SIDE * SIDE).round().astype(np.uint16)
    return np.random.default_rng(seed).permutation(values).reshape(SIDE, SIDE)


def _save(path: Path, samples: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(samples).save(path)
    return path


def _exposures(folder: Path, tops: list[int]) -> Path:
    for number, top in enumerate(tops):
        _save(folder / f"{number}.png", _ramp(top, seed=number))
    return folder


def _build(root: Path, *sources: Path, **settings: object) -> ImageCache:
    config = DataConfig(sources=tuple(map(str, sources)), cache_size=SIDE, **settings)  # type: ignore[arg-type]
    return build_cache(config, cache_root=root)


def _brightest(cache: ImageCache) -> dict[str, int]:
    return {record.image_id.split("/")[-1]: int(cache.images[row].max()) for row, record in enumerate(cache.records)}


def _ranges(cache: ImageCache) -> list[tuple[str, str, float, float]]:
    return [(found.source, found.kind, found.low, found.high) for found in cache.levels.ranges]


def test_exposures_of_one_camera_keep_their_ratio(tmp_path: Path) -> None:
    """Guessed per file, a maximum of 4000 gave 249 and one of 4200 gave 16."""
    cache = _build(tmp_path / "root", _exposures(tmp_path / "set", [4000, 4200, 2100, 8191]))
    assert _brightest(cache) == {"0.png": 125, "1.png": 131, "2.png": 65, "3.png": 255}
    assert cache.levels.ranges == (
        SourceRange(source="set", kind="grey of more than 8 bits", low=0, high=8191, files=4),
    )


@pytest.mark.parametrize(("top", "high"), [(1020, 1023), (16000, 16383), (4000, 4095), (200, 255), (60000, 65535)])
def test_the_bits_of_the_camera_are_found(tmp_path: Path, top: int, high: int) -> None:
    cache = _build(tmp_path / "root", _exposures(tmp_path / "set", [top, top // 2, top // 3]))
    assert _ranges(cache) == [("set", "grey of more than 8 bits", 0.0, float(high))]


def test_values_far_from_zero_keep_their_contrast(tmp_path: Path) -> None:
    """CT written as 16 bits with an offset would be an even grey."""
    for number in range(3):
        _save(tmp_path / "set" / f"{number}.png", _ramp(34_000, low=31_000, seed=number))
    cache = _build(tmp_path / "root", tmp_path / "set")
    assert cache.images.min() == 0
    assert cache.images.max() == 255


def test_a_few_hot_pixels_do_not_darken_a_source(tmp_path: Path) -> None:
    for number in range(4):
        samples = np.kron(_ramp(3000, seed=number), np.ones((8, 8), dtype=np.uint16))
        samples[0, :10] = 65535
        _save(tmp_path / "set" / f"{number}.png", samples)
    assert _ranges(_build(tmp_path / "root", tmp_path / "set"))[0][2:] == (0.0, 4095.0)


def test_splits_subsets_and_the_evaluation_share_the_range_of_their_source(tmp_path: Path) -> None:
    tops = {"train": [9000, 900], "val": [700, 600], "test": [500, 400]}
    for split, numbers in tops.items():
        for label in ("a", "b"):
            for number, top in enumerate(numbers):
                _save(tmp_path / "set" / split / label / f"{number}.png", _ramp(top, seed=top + ord(label)))
    whole = _build(tmp_path / "root", tmp_path / "set")
    assert _ranges(whole)[0][2:] == (0.0, 16383.0)
    assert _ranges(_build(tmp_path / "root", tmp_path / "set", splits=("test",))) == _ranges(whole)
    assert _ranges(_build(tmp_path / "root", tmp_path / "set", max_images=2)) == _ranges(whole)
    labelled = open_dataset(tmp_path / "set", size=SIDE, cache_root=tmp_path / "root", allow_bad=True)
    assert {int(labelled.images[row].max()) for row in labelled.rows[labelled.part("test")]} == {8, 6}
    assert any("0 is black and 16383 white" in note for note in labelled.notes)


def test_tables_below_a_source_do_not_split_its_range(tmp_path: Path) -> None:
    for part, top in (("left", 8000), ("right", 500)):
        _save(tmp_path / "set" / part / "a.png", _ramp(top))
        (tmp_path / "set" / part / "labels.csv").write_text("file,label\na.png,x\n")
    assert len(_build(tmp_path / "root", tmp_path / "set").levels.ranges) == 1


def test_each_source_and_kind_has_its_own(tmp_path: Path) -> None:
    _exposures(tmp_path / "one", [1000, 900])
    _exposures(tmp_path / "two", [60_000, 50_000])
    write_dicom(tmp_path / "two" / "ct.dcm", _ramp(5000), Modality="CT", RescaleSlope=1, RescaleIntercept=-1000)
    cache = _build(tmp_path / "root", tmp_path / "one", tmp_path / "two")
    assert [found[:2] for found in _ranges(cache)] == [
        ("one", "grey of more than 8 bits"),
        ("two", "DICOM CT"),
        ("two", "grey of more than 8 bits"),
    ]
    brightest = {record.image_id: int(cache.images[row].max()) for row, record in enumerate(cache.records)}
    assert brightest["one/0.png"] == 249
    assert brightest["two/0.png"] == 233
    assert brightest["two/ct.dcm"] == 255


def test_dicom_files_of_a_source_share_a_range_and_windows_stay_their_own(tmp_path: Path) -> None:
    write_dicom(tmp_path / "set" / "bright.dcm", _ramp(2000))
    write_dicom(tmp_path / "set" / "dim.dcm", _ramp(1000, seed=1))
    write_dicom(tmp_path / "set" / "window.dcm", _ramp(1000, seed=2), WindowCenter=500, WindowWidth=1000)
    cache = _build(tmp_path / "root", tmp_path / "set")
    brightest = _brightest(cache)
    assert brightest["bright.dcm"] == brightest["window.dcm"] == 255
    assert 126 <= brightest["dim.dcm"] <= 130
    assert cache.levels.ranges[0].files == 2


def test_slopes_that_differ_between_files_keep_their_units_comparable(tmp_path: Path) -> None:
    """PET: equal stored values of two slices stand for different activity."""
    for number, slope in enumerate((1, 2)):
        stored = _ramp(32_000, seed=number).astype(np.int16)
        path = tmp_path / "set" / f"{slope}.dcm"
        write_dicom(path, stored, Modality="PT", RescaleSlope=slope, RescaleIntercept=0)
    cache = _build(tmp_path / "root", tmp_path / "set")
    means = {record.image_id: cache.images[row].mean() for row, record in enumerate(cache.records)}
    assert means["set/2.dcm"] / means["set/1.dcm"] == pytest.approx(2, rel=0.02)


def test_a_given_range_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = _exposures(tmp_path / "set", [4000, 1000])
    found = _build(tmp_path / "root", folder)
    given = _build(tmp_path / "root", folder, range=[0, 2000])
    assert _brightest(given) == {"0.png": 255, "1.png": 128}
    assert [entry.given for entry in given.levels.ranges] == [True]
    assert given.directory != found.directory
    assert given.fingerprint != found.fingerprint
    assert open_cache(given.directory).levels == given.levels


def test_ranges_do_not_touch_8_bit_files(tmp_path: Path) -> None:
    for number in range(2):
        _save(tmp_path / "set" / f"{number}.png", _ramp(200, seed=number).astype(np.uint8))
    auto = _build(tmp_path / "root", tmp_path / "set")
    given = _build(tmp_path / "root", tmp_path / "set", range=(0, 100))
    assert given.directory == auto.directory
    assert auto.levels.plain
    assert auto.levels.ranges == ()


@pytest.mark.parametrize("with_others", [False, True])
def test_a_given_range_does_not_touch_8_bit_dicom_files(tmp_path: Path, with_others: bool) -> None:
    samples = _ramp(255).astype(np.uint8)
    write_dicom(tmp_path / "set" / "eight.dcm", samples, WindowCenter=200, WindowWidth=50)
    if with_others:
        write_dicom(tmp_path / "set" / "twelve.dcm", _ramp(4095), bits=12)
    alone = _build(tmp_path / "root", tmp_path / "set", range=(0, 100))
    auto = _build(tmp_path / "root", tmp_path / "set")
    pixels = [c.images[[r.image_id for r in c.records].index("set/eight.dcm")] for c in (alone, auto)]
    np.testing.assert_array_equal(*pixels)
    assert pixels[0].max() == 255


def test_a_file_that_moves_the_range_gives_another_cache(tmp_path: Path) -> None:
    folder = _exposures(tmp_path / "set", [900, 800, 700])
    first = _build(tmp_path / "root", folder, max_images=2)
    for number in range(4):
        _save(folder / f"new{number}.png", _ramp(60_000, seed=10 + number))
    second = _build(tmp_path / "root", folder, max_images=2)
    assert _ranges(first)[0][3] == 1023
    assert _ranges(second)[0][3] == 65535
    assert first.fingerprint != second.fingerprint


def test_a_decoder_that_is_installed_later_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal for want of a package must not outlive the want, and 8-bit caches must not care."""
    write_dicom(tmp_path / "set" / "a.dcm", _ramp(4000), bits=12)
    _save(tmp_path / "eight" / "a.png", np.zeros((SIDE, SIDE, 3), dtype=np.uint8))
    before = [_build(tmp_path / "root", tmp_path / name) for name in ("set", "eight")]
    monkeypatch.setattr(cache_keys, "installed_decoders", lambda: ["another"])
    after = [_build(tmp_path / "root", tmp_path / name) for name in ("set", "eight")]
    assert before[0].directory != after[0].directory
    assert before[0].fingerprint == after[0].fingerprint
    assert before[1].directory == after[1].directory


def test_a_large_source_is_sampled_and_its_rare_files_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_ranges, "MOST_FILES_MEASURED", 5)
    folder = _exposures(tmp_path / "set", [1000] * 20)
    write_dicom(folder / "rare.dcm", _ramp(500))
    cache = _build(tmp_path / "root", folder)
    assert sum(found.files for found in cache.levels.ranges) in (5, 6)
    assert {found.kind for found in cache.levels.ranges} == {"grey of more than 8 bits", "DICOM OT, 16 bits"}
    assert not cache.bad


def test_a_preview_and_an_evaluation_take_a_given_range(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for number in range(4):
            _save(tmp_path / "set" / label / f"{number}.png", _ramp(4000, seed=number + ord(label)))
    labelled = open_dataset(tmp_path / "set", size=SIDE, cache_root=tmp_path / "root", grey_range=(0, 8000))
    assert labelled.images.max() == 128
    found = open_dataset(tmp_path / "set", size=SIDE, cache_root=tmp_path / "root")
    assert labelled.fingerprint != found.fingerprint
    shown = preview(
        str(tmp_path / "set"),
        study="smoke",
        out=tmp_path / "sheet.png",
        images=2,
        grey_range=(0, 8000),
        cache_root=tmp_path / "root",
    )
    assert [entry["high"] for entry in shown.to_dict()["ranges"]] == [8000.0]


@pytest.mark.parametrize(("text", "expected"), [(None, None), ("auto", "auto"), ("-1000, 400", (-1000.0, 400.0))])
def test_a_range_is_read_from_the_command_line(text: str | None, expected: object) -> None:
    assert parse_range(text) == expected


@pytest.mark.parametrize("text", ["wide", "3", "5,1", "0,1,2", "0,nan", ""])
def test_a_wrong_range_on_the_command_line_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r'--range.*expected "auto" or \[low, high\]'):
        parse_range(text)


@pytest.mark.parametrize("value", ["wide", [3, 1], [1, 1], [0, 1, 2], [0, float("inf")], 5, [True, 2]])
def test_a_wrong_range_is_refused_with_what_is_accepted(value: object) -> None:
    with pytest.raises(ConfigError, match=r'data.range.*expected "auto" or \[low, high\]'):
        load_study("smoke", {"data.range": value})


def test_a_range_is_read_from_a_study(tmp_path: Path) -> None:
    assert load_study("smoke", {"data.range": [-1000, 400]}).data.range == (-1000, 400)
    assert load_study("smoke").data.range == "auto"
