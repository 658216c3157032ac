"""Whatever lies in a folder is an image, set aside, passed over by kind, or excluded: nothing vanishes."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from augscale.cli.preview import preview
from augscale.config import DataConfig
from augscale.data.cache import build_cache
from augscale.data.cache_keys import cache_key, listing_key
from augscale.data.file_types import passed_over_lines
from augscale.data.source_ranges import PLAIN_LEVELS
from augscale.data.sources import scan_sources
from augscale.errors import ConfigError, DataError
from augscale.settings import parse_settings


def _photo(path: Path, seed: int = 0, image_format: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path, image_format)
    return path


def _dicom(path: Path, *, preamble: bool = True) -> Path:
    """The first bytes of a DICOM file, which is all that a listing reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    element = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"
    path.write_bytes((b"\0" * 128 + b"DICM" if preamble else b"") + element + b"\0" * 64)
    return path


def _names(folder: Path, **options: object) -> list[str]:
    records = scan_sources([str(folder)], **options).records  # type: ignore[arg-type]
    return [record.image_id.partition("/")[2] for record in records]


@pytest.mark.parametrize("name", ["scan", "IMG0001", "1.2.840.113.5", "a.IMA", "b.jfif", "c.JPE", "d.xyz", "e.jpg~"])
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_a_name_that_says_nothing_is_decided_by_content(tmp_path: Path, name: str, image_format: str) -> None:
    _photo(tmp_path / "set" / name, image_format=image_format)
    assert _names(tmp_path / "set") == [name]


@pytest.mark.parametrize("preamble", [True, False])
@pytest.mark.parametrize("name", ["scan", "1.2.840.113.5", "a.IMA", "IM-0001-0001", "b.dat"])
def test_dicom_files_are_known_without_their_ending(tmp_path: Path, monkeypatch, name: str, preamble: bool) -> None:
    _dicom(tmp_path / "set" / name, preamble=preamble)
    assert _names(tmp_path / "set") == [name]
    monkeypatch.setattr("augscale.data.listing.can_read_dicom", lambda: False)
    _photo(tmp_path / "set" / "photo.png")
    [bad] = scan_sources([str(tmp_path / "set")]).bad
    assert bad.reason == "a DICOM file; reading it needs `pip install augscale[dicom]`"


SAID = {
    "a.nii.gz": "volumes; export slices as PNG or DICOM",
    "a.nii": "volumes; export slices as PNG or DICOM",
    "a.MHA": "volumes; export slices as PNG or DICOM",
    "a.nrrd": "volumes; export slices as PNG or DICOM",
    "a.npy": "arrays; save each image as PNG or TIFF",
    "a.npz": "arrays; save each image as PNG or TIFF",
    "a.h5": "arrays; save each image as PNG or TIFF",
    "a.svs": "whole slides or microscopy containers; export tiles or planes as PNG or TIFF",
    "a.ndpi": "whole slides or microscopy containers; export tiles or planes as PNG or TIFF",
    "a.zip": "archives; unpack them first",
    "a.tar.gz": "archives; unpack them first",
    "a.dcm.gz": "archives; unpack them first",
    "a.xlsx": "spreadsheets; save them as CSV to have them read as tables",
    "a.pdf": "documents; export the images in them as PNG",
    "a.mp4": "videos; export frames as PNG",
    "a.pt": "weights or tensors; save images as PNG or TIFF",
}


@pytest.mark.parametrize(("name", "words"), SAID.items())
def test_files_of_other_kinds_are_counted_and_named_with_the_way_on(tmp_path: Path, name: str, words: str) -> None:
    _photo(tmp_path / "set" / "photo.png")
    for number in range(2):
        (tmp_path / "set" / f"{number}{name}").write_bytes(b"x")
    scan = scan_sources([str(tmp_path / "set")])
    suffix = name[1:].lower().replace(".dcm.gz", ".gz")
    assert passed_over_lines(scan.passed_over) == [f"2 {suffix} files passed over: {words} (e.g. 0{name})"]
    assert scan.bad == []


def test_other_kinds_are_known_by_content_too(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    _photo(folder / "photo.png")
    (folder / "vol").write_bytes(gzip.compress(b"x" * 500))
    np.save(folder / "array", np.zeros(3))
    (folder / "array.npy").rename(folder / "array")
    with zipfile.ZipFile(folder / "packed", "w") as file:
        file.writestr("a", "b")
    with tarfile.open(folder / "tape", "w") as tape:
        tape.addfile(tarfile.TarInfo("a"), io.BytesIO())
    nifti = bytearray(352)
    nifti[344:348] = b"n+1\0"
    (folder / "brain").write_bytes(nifti)
    (folder / "noise.dat").write_bytes(b"\0\1\2\3" * 99)
    (folder / "README").write_text("words")
    (folder / "empty").touch()
    Image.new("L", (9, 9)).save(folder / "clip", "GIF")
    scan = scan_sources([str(folder)])
    kinds = {(entry.suffix, entry.kind): entry.count for entry in scan.passed_over}
    assert kinds == {
        ("", "archives"): 3,
        ("", "arrays"): 1,
        ("", "volumes"): 1,
        (".dat", "no images by their content"): 1,
        ("", "text, tables or code"): 1,
        ("", "empty files"): 1,
    }
    assert [entry.reason for entry in scan.bad] == ["a GIF image; convert it to PNG"]
    assert not any("text" in line or "empty" in line for line in passed_over_lines(scan.passed_over))


def test_every_file_of_a_mixed_folder_is_accounted_for(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for number in range(3):
        _photo(folder / f"{number}.png", number)
        _dicom(folder / "dicom" / f"1.2.840.{number}")
        (folder / f"{number}.nii.gz").write_bytes(b"x")
        (folder / f"{number}.heic").write_bytes(b"x")
        (folder / f"{number}.txt").write_text("x")
    scan = scan_sources([str(folder)], exclude=["0.txt"])
    used = len(scan.records) + len(scan.bad) + sum(entry.count for entry in scan.passed_over)
    assert used + scan.excluded["0.txt"] == sum(len(files) for *_, files in os.walk(folder)) == 15


def test_a_folder_without_images_says_what_is_there_instead(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    message = r"holds no image \(1 \.nii\.gz file passed over: volumes; export slices as PNG or DICOM \(e\.g\. a\.nii"
    with pytest.raises(DataError, match=message):
        scan_sources([str(tmp_path)])


def test_what_a_table_or_a_person_names_is_refused_by_its_kind(tmp_path: Path) -> None:
    _photo(tmp_path / "a.png")
    (tmp_path / "b.nii.gz").write_bytes(b"x")
    (tmp_path / "list.csv").write_text("file\na.png\nb.nii.gz\n")
    scan = scan_sources([str(tmp_path / "list.csv")])
    assert [entry.reason for entry in scan.bad] == [".gz files are volumes; export slices as PNG or DICOM"]
    with pytest.raises(DataError, match="export slices as PNG or DICOM"):
        scan_sources([str(tmp_path / "b.nii.gz")])


@pytest.mark.parametrize(
    "name",
    ["@eaDir/a.jpg/SYNOFILE_THUMB_M.jpg", ".thumbnails/a.jpg", "__MACOSX/a.jpg", "._a.jpg", "Thumbs.db", ".DS_Store"],
)
def test_what_systems_write_is_skipped_in_silence(tmp_path: Path, name: str) -> None:
    _photo(tmp_path / "set" / "photo.png")
    _photo(tmp_path / "set" / "sub" / name, 1)
    scan = scan_sources([str(tmp_path / "set")])
    assert (len(scan.records), scan.bad, scan.passed_over) == (1, [], ())


def test_thumbnails_are_passed_over_beside_other_images_and_said(tmp_path: Path) -> None:
    for number in range(3):
        _photo(tmp_path / "set" / "full" / f"{number}.png", number)
        _photo(tmp_path / "set" / "Thumbnails" / f"{number}.png", number + 9)
    scan = scan_sources([str(tmp_path / "set")])
    assert {record.image_id.split("/")[1] for record in scan.records} == {"full"}
    assert passed_over_lines(scan.passed_over) == [
        "3 files without a known ending passed over: files in folders of thumbnails; give such a folder itself with "
        "--data to use it (e.g. Thumbnails/0.png)"
    ]
    assert len(scan_sources([str(tmp_path / "set" / "Thumbnails")]).records) == 3


@pytest.mark.parametrize(
    "files", [["study.db"], ["study.toml", "manifest.json"], ["diagnosis.json"], ["evaluation.json"]]
)
def test_folders_that_augscale_wrote_are_not_looked_into(tmp_path: Path, files: list[str]) -> None:
    _photo(tmp_path / "set" / "photo.png")
    _photo(tmp_path / "set" / "runs" / "default" / "trials" / "sheet.png", 1)
    for name in files:
        (tmp_path / "set" / "runs" / "default" / name).touch()
    scan = scan_sources([str(tmp_path / "set")])
    assert len(scan.records) == 1
    assert [(entry.kind, entry.example) for entry in scan.passed_over] == [
        ("folders written by augscale", "runs/default")
    ]
    # A run folder among the images may be the images' folder itself.
    for name in files:
        (tmp_path / "set" / name).touch()
    assert _names(tmp_path / "set") == ["photo.png"]


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tif"])
def test_a_contact_sheet_among_the_images_does_not_become_one(tmp_path: Path, ending: str) -> None:
    for number in range(4):
        _photo(tmp_path / "set" / f"{number}.png", number)
    study = tmp_path / "study.toml"
    study.write_text("[data]\ncache_size = 32\n[crops]\nglobal_size = 32\nlocal_size = 16\nn_local = 0\n")
    out = tmp_path / "set" / f"preview{ending}"
    preview(str(tmp_path / "set"), ("strong",), study=study, out=out, cache_root=tmp_path / "cache", images=2)
    config = DataConfig(sources=(str(tmp_path / "set"),), cache_size=32)
    cache = build_cache(config, cache_root=tmp_path / "cache")
    assert sorted(Path(r.image_id).stem for r in cache.records) == ["0", "1", "2", "3"]
    assert cache.bad == []
    assert [(entry.kind, entry.example) for entry in cache.passed_over] == [
        ("pictures written by augscale", f"preview{ending}")
    ]


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("*_mask.png", ["a.png", "masks/a.png", "x/masks/b.png"]),
        ("masks/*", ["a.png", "a_mask.png", "x/masks/b.png"]),
        ("masks/", ["a.png", "a_mask.png"]),
        ("masks", ["a.png", "a_mask.png"]),
        ("**/masks/*", ["a.png", "a_mask.png"]),
        ("x/**/b.png", ["a.png", "a_mask.png", "masks/a.png"]),
        ("./a.png", ["a_mask.png", "x/masks/b.png"]),
        ("[ab].png", ["a_mask.png"]),
        ("*.PNG", ["a.png", "a_mask.png", "masks/a.png", "x/masks/b.png"]),
    ],
)
def test_exclude_matches_paths_names_and_folders(tmp_path: Path, pattern: str, left: list[str]) -> None:
    for name in ("a.png", "a_mask.png", "masks/a.png", "x/masks/b.png"):
        _photo(tmp_path / "set" / name)
    scan = scan_sources([str(tmp_path / "set")], exclude=[pattern])
    assert [record.image_id.partition("/")[2] for record in scan.records] == left
    assert scan.excluded == {pattern: 4 - len(left)}


def test_exclude_holds_for_tables_and_for_files_that_are_no_images(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.gif"):
        _photo(tmp_path / "set" / name, image_format="PNG")
    (tmp_path / "set" / "labels.csv").write_text("file,label\na.png,1\nb.png,0\ngone.png,0\n")
    (tmp_path / "set" / "v.nii").write_bytes(b"x")
    exclude = ["b.png", "gone.png", "*.gif", "*.nii"]
    scan = scan_sources([str(tmp_path / "set")], exclude=exclude)
    assert ([Path(r.image_id).name for r in scan.records], scan.bad, scan.passed_over) == (["a.png"], [], ())
    assert scan.excluded == dict.fromkeys(exclude, 1)
    scan = scan_sources([str(tmp_path / "set" / "labels.csv")], exclude=["gone.png"])
    assert ([Path(r.image_id).name for r in scan.records], scan.bad) == (["a.png", "b.png"], [])
    with pytest.raises(DataError, match=r"holds no image \(5 files were excluded\)"):
        scan_sources([str(tmp_path / "set")], exclude=["set", "*"])


def test_a_file_excluded_on_one_way_does_not_come_in_by_another(tmp_path: Path) -> None:
    _photo(tmp_path / "set" / "masks" / "a.png")
    _photo(tmp_path / "set" / "b.png", 1)
    scan = scan_sources([str(tmp_path / "set"), str(tmp_path / "set" / "masks")], exclude=["masks/*"])
    assert [Path(record.image_id).name for record in scan.records] == ["b.png"]


def test_sources_that_exclude_the_images_of_each_other_are_refused_in_one_line(tmp_path: Path) -> None:
    _photo(tmp_path / "set" / "x" / "sub" / "a.png")
    _photo(tmp_path / "set" / "x" / "b.png", 1)
    with pytest.raises(DataError, match=r"every image is excluded by data\.exclude"):
        scan_sources([str(tmp_path / "set"), str(tmp_path / "set" / "x")], exclude=["x/b.png", "sub/*"])


def test_exclusion_enters_the_names_of_caches_only_where_there_is_one(tmp_path: Path) -> None:
    _photo(tmp_path / "set" / "a.png")
    records = scan_sources([str(tmp_path / "set")]).records
    without = DataConfig(sources=("x",))
    never = without.model_dump()
    del never["exclude"]  # as written before there was this setting
    old, new = DataConfig(**never), DataConfig(sources=("x",), exclude=("*_mask.png",))
    for key in (lambda c: cache_key(records, c, PLAIN_LEVELS), lambda c: listing_key(records, records, c)):
        assert key(old) == key(without) != key(new)


@pytest.mark.parametrize("pattern", ["", "./", "/"])
def test_an_empty_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"exclude: .* is not accepted; expected a pattern such as"):
        parse_settings(DataConfig, {"exclude": [pattern]}, "study")
