"""The cache on disk: built once, found again by content, complete or absent, and honest about what was left out."""

from __future__ import annotations

import csv
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from augscale.config import DataConfig
from augscale.data import cache, cache_writer
from augscale.data.cache import build_cache, default_cache_root, open_cache
from augscale.data.facts import frame_lines
from augscale.errors import DataError

SIZE = 16


def _images(folder: Path, number: int, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + number):
        rng = np.random.default_rng(i)
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(folder / f"{i:03d}.png")
    return folder


def _config(*sources: Path | str, **settings: object) -> DataConfig:
    return DataConfig(sources=tuple(map(str, sources)), cache_size=SIZE, **settings)  # type: ignore[arg-type]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded while a test runs."""
    paths: list[Path] = []
    decode = cache_writer.decode_image

    def counting(path: Path, size: int, **settings: object) -> object:
        paths.append(path)
        return decode(path, size, **settings)

    monkeypatch.setattr(cache_writer, "decode_image", counting)
    return paths


def _caches(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir() and path.name != "lookup")


def test_every_row_is_the_image_of_its_record(tmp_path: Path) -> None:
    cache = build_cache(_config(_images(tmp_path / "set", 20)), cache_root=tmp_path / "root")
    assert isinstance(cache.images, np.memmap)
    assert cache.images.shape == (20, SIZE, SIZE, 3)
    assert cache.images.dtype == np.uint8
    assert cache.size == SIZE
    assert len(cache) == 20
    for row, record in zip(cache.images, cache.records, strict=True):
        assert record.path is not None
        np.testing.assert_array_equal(row, np.asarray(Image.open(record.path)))


def test_a_second_call_opens_the_cache_without_decoding(tmp_path: Path, decoded: list[Path]) -> None:
    config = _config(_images(tmp_path / "set", 5))
    first = build_cache(config, cache_root=tmp_path / "root")
    assert len(decoded) == 5
    second = build_cache(config, cache_root=tmp_path / "root")
    assert len(decoded) == 5
    assert (second.records, second.bad, second.fingerprint) == (first.records, first.bad, first.fingerprint)
    np.testing.assert_array_equal(second.images, first.images)


def test_open_cache_gives_what_build_cache_gave(tmp_path: Path) -> None:
    folder = _images(tmp_path / "set", 5)
    (folder / "bad.png").write_bytes(b"")
    built = build_cache(_config(folder), cache_root=tmp_path / "root", allow_bad=True)
    opened = open_cache(built.directory)
    assert (opened.records, opened.bad, opened.fingerprint) == (built.records, built.bad, built.fingerprint)


def test_touched_or_moved_images_use_the_same_cache(tmp_path: Path, decoded: list[Path]) -> None:
    folder = _images(tmp_path / "old" / "set", 4)
    first = build_cache(_config(folder), cache_root=tmp_path / "root")
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    assert build_cache(_config(folder), cache_root=tmp_path / "root").directory == first.directory
    moved = shutil.move(folder, tmp_path / "set")
    cache = build_cache(_config(moved), cache_root=tmp_path / "root")
    assert cache.directory == first.directory
    assert len(decoded) == 4
    assert all(record.path is not None and record.path.parent == moved for record in cache.records)


def test_a_changed_image_gives_another_cache(tmp_path: Path) -> None:
    folder = _images(tmp_path / "set", 4)
    first = build_cache(_config(folder), cache_root=tmp_path / "root")
    Image.new("RGB", (SIZE, SIZE), (9, 9, 9)).save(folder / "000.png")
    second = build_cache(_config(folder), cache_root=tmp_path / "root")
    assert second.fingerprint != first.fingerprint
    assert any(np.all(row == 9) for row in second.images)


@pytest.mark.parametrize("settings", [{"cache_size": 24}, {"crop_to_field": True}])
def test_other_decode_settings_give_another_cache(tmp_path: Path, settings: dict) -> None:
    config = _config(_images(tmp_path / "set", 4))
    first = build_cache(config, cache_root=tmp_path / "root")
    second = build_cache(config.model_copy(update=settings), cache_root=tmp_path / "root")
    assert second.directory != first.directory
    assert second.fingerprint != first.fingerprint


def test_fingerprint_depends_on_contents_and_patients_not_on_names(tmp_path: Path) -> None:
    first, second = _images(tmp_path / "a", 6), _images(tmp_path / "elsewhere" / "b", 6)
    for number, path in enumerate(sorted(second.iterdir(), reverse=True)):
        path.rename(path.with_name(f"renamed{number}.png"))
    caches = [build_cache(_config(folder), cache_root=tmp_path / "root") for folder in (first, second)]
    assert caches[0].fingerprint == caches[1].fingerprint
    np.testing.assert_array_equal(caches[0].images, caches[1].images)
    (first / "meta.csv").write_text("file,patient\n000.png,1\n001.png,1\n")
    assert build_cache(_config(first), cache_root=tmp_path / "root").fingerprint != caches[0].fingerprint


def test_corrected_labels_are_seen_at_once(tmp_path: Path) -> None:
    folder = _images(tmp_path / "set", 2)
    for label in ("0", "1"):
        (folder / "labels.csv").write_text(f"file,label\n000.png,{label}\n001.png,7\n")
        cache = build_cache(_config(folder), cache_root=tmp_path / "root")
        assert sorted(record.label or "" for record in cache.records) == [label, "7"]
        assert open_cache(cache.directory).records == cache.records


def test_exact_duplicates_are_kept_once_with_their_patient(tmp_path: Path) -> None:
    folder = _images(tmp_path / "set", 3)
    shutil.copy(folder / "000.png", folder / "copy.png")
    (folder / "meta.csv").write_text("file,patient\ncopy.png,p1\n")
    cache = build_cache(_config(folder), cache_root=tmp_path / "root")
    assert cache.duplicates == {"set/000.png": "set/copy.png"}
    assert sorted(record.image_id for record in cache.records) == ["set/001.png", "set/002.png", "set/copy.png"]
    assert len(cache.images) == 3


def test_copies_of_a_damaged_file_are_set_aside_like_it(tmp_path: Path) -> None:
    folder = _images(tmp_path / "set", 10)
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_bytes(b"no image")
    for _ in range(2):  # decoded, then reopened
        cache = build_cache(_config(folder), cache_root=tmp_path / "cache", allow_bad=True)
        assert [entry.path.name for entry in cache.bad] == ["a.png", "b.png", "c.png"]
        assert [entry.image_id for entry in cache.bad] == ["set/a.png", "set/b.png", "set/c.png"]
        assert cache.duplicates == {}
    with pytest.raises(DataError, match="3 of 13 files cannot be used"):
        build_cache(_config(folder), cache_root=tmp_path / "cache")


def _nasty_folder(folder: Path) -> dict[str, str]:
    """Twelve good and unusual files and six that cannot be used; returns the reasons expected of these."""
    _images(folder, 8)
    good = (folder / "000.png").read_bytes()
    (folder / "truncated.png").write_bytes(good[: len(good) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.jpg").write_bytes(b"<!DOCTYPE html><title>403 Forbidden</title>")
    Image.new("RGB", (1, 1)).save(folder / "one_pixel.png")
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png", compress_level=1)
    (folder / "clip.gif").write_bytes(b"GIF89a")
    samples = np.linspace(0, 65535, SIZE * SIZE).astype(np.uint16).reshape(SIZE, SIZE)
    Image.fromarray(samples).save(folder / "deep.png")
    Image.new("CMYK", (SIZE, SIZE), (0, 200, 200, 10)).save(folder / "print.jpg")
    frames = [Image.new("RGB", (SIZE, SIZE), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    Image.new("RGBA", (SIZE, SIZE), (200, 100, 50, 128)).save(folder / "glass.png")
    return {
        "truncated.png": "cannot be decoded (unrecognized data stream contents when reading image file)",
        "empty.jpg": "empty file",
        "page.jpg": "not an image file (a web page)",
        "one_pixel.png": "too small (1x1); expected at least 8x8 pixels",
        "bomb.png": "more than 100 million pixels",
        "clip.gif": ".gif files are not supported; convert them to PNG or JPEG",
    }


def test_a_nasty_folder_completes_with_the_list_of_what_was_set_aside(tmp_path: Path) -> None:
    reasons = _nasty_folder(tmp_path / "set")
    cache = build_cache(_config(tmp_path / "set"), cache_root=tmp_path / "root", allow_bad=True)
    found = {entry.path.name: entry.reason for entry in cache.bad}
    assert found.keys() == reasons.keys()
    assert {name: reason for name, reason in found.items() if name != "truncated.png"} == {
        name: reason for name, reason in reasons.items() if name != "truncated.png"
    }
    assert found["truncated.png"].startswith("cannot be decoded")
    assert len(cache.records) == len(cache.images) == 12
    assert cache.notes == {"set/moving.webp": "first of 2 frames used"}
    assert frame_lines(cache.notes) == [
        "1 file holds several frames or pages, of which the first alone is used (e.g. set/moving.webp: first of 2 "
        "frames used); save the others as files of their own to use them"
    ]
    assert frame_lines({}) == []
    rows = {record.image_id: row for record, row in zip(cache.records, cache.images, strict=True)}
    assert len(np.unique(rows["set/deep.png"])) == 256
    assert np.all(rows["set/moving.webp"] == [255, 0, 0])
    assert np.load(cache.directory / "images.npy").shape == cache.images.shape


def test_too_many_bad_files_stop_with_count_reasons_and_the_list(tmp_path: Path) -> None:
    reasons = _nasty_folder(tmp_path / "set")
    with pytest.raises(
        DataError, match=r"6 of 18 files cannot be used \(33\.3%; at most data\.max_bad = 5\.0%"
    ) as error:
        build_cache(_config(tmp_path / "set"), cache_root=tmp_path / "root")
    message = str(error.value)
    assert "--allow-bad" in message
    assert "clip.gif: .gif files are not supported" in message
    assert "and 3 more" in message
    assert "\n" not in message
    with Path(message.rsplit(": ", 1)[1]).open(encoding="utf-8", newline="") as file:
        assert {Path(row["file"]).name for row in csv.DictReader(file)} == set(reasons)


def test_the_share_of_bad_files_is_checked_on_reopening_too(tmp_path: Path) -> None:
    folder = _images(tmp_path / "set", 19)
    (folder / "bad.png").write_bytes(b"")
    root = tmp_path / "root"
    assert len(build_cache(_config(folder), cache_root=root).bad) == 1  # exactly 5 %
    with pytest.raises(DataError, match="1 of 20 files"):
        build_cache(_config(folder, max_bad=0.04), cache_root=root)
    build_cache(_config(folder, max_bad=0.04), cache_root=root, allow_bad=True)


def test_no_usable_image_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "set" / name).write_bytes(b"nothing " + name.encode())
    with pytest.raises(DataError, match=r"none of 2 images can be used: .*not an image file"):
        build_cache(_config(tmp_path / "set"), cache_root=tmp_path / "root", allow_bad=True)
    assert _caches(tmp_path / "root") == []


def test_an_unreadable_file_is_set_aside_and_read_once_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _images(tmp_path / "set", 3)
    open_file = Path.open

    def refusing(path: Path, *args: object, **kwargs: object) -> object:
        if path.name == "001.png":
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, *args, **kwargs)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refusing)
        cache = build_cache(_config(folder), cache_root=tmp_path / "root", allow_bad=True)
        assert [entry.reason for entry in cache.bad] == ["cannot be read (Permission denied)"]
    assert len(build_cache(_config(folder), cache_root=tmp_path / "root")) == 3


def test_a_full_disk_before_the_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _images(tmp_path / "set", 3)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(total=10, used=0, free=10))
    with pytest.raises(DataError, match=r"need 0\.00 GB and 0\.00 GB are free; expected more room"):
        build_cache(_config(folder), cache_root=tmp_path / "root")


def test_a_disk_that_fills_up_leaves_no_half_cache(tmp_path: Path) -> None:
    """A limit on the size of files makes the operating system refuse in the middle of the pixels."""
    folder = _images(tmp_path / "set", 40)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 * SIZE * SIZE * 3, before[1]))
    try:
        with pytest.raises(DataError, match="the decoded images cannot be written"):
            build_cache(_config(folder), cache_root=tmp_path / "root")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert _caches(tmp_path / "root") == []
    assert len(build_cache(_config(folder), cache_root=tmp_path / "root")) == 40


def test_an_interruption_leaves_no_half_cache(tmp_path: Path) -> None:
    folder = _images(tmp_path / "set", 10)

    def stop(done: int, total: int) -> None:
        if done > 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(_config(folder), cache_root=tmp_path / "root", on_progress=stop)
    assert _caches(tmp_path / "root") == []


@pytest.mark.parametrize(
    "damage", [lambda d: (d / "images.npy").write_bytes(b"x"), lambda d: (d / "cache.json").unlink()]
)
def test_a_damaged_cache_is_refused_when_opened_and_built_again(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    config = _config(_images(tmp_path / "set", 3))
    directory = build_cache(config, cache_root=tmp_path / "root").directory
    damage(directory)
    with pytest.raises(DataError, match=r"damaged cache|is not a cache of images"):
        open_cache(directory)
    assert len(build_cache(config, cache_root=tmp_path / "root")) == 3


def test_a_cache_root_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be used"):
        build_cache(_config(_images(tmp_path / "set", 2)), cache_root=tmp_path / "file" / "root")


def test_progress_rises_to_all_images(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    build_cache(
        _config(_images(tmp_path / "set", 9)), cache_root=tmp_path / "root", on_progress=lambda *now: seen.append(now)
    )
    assert seen == sorted(seen)
    assert seen[-1] == (9, 9)


def test_splits_and_max_images_choose_the_images(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "test")):
        _images(tmp_path / "set" / split, 10, first=10 * number)
    root = tmp_path / "root"
    train = build_cache(_config(tmp_path / "set", splits=("train",)), cache_root=root)
    assert {record.split for record in train.records} == {"train"}
    assert len(train) == 10
    few = build_cache(_config(tmp_path / "set", max_images=7), cache_root=root)
    again = build_cache(_config(tmp_path / "set", max_images=7), cache_root=root)
    assert len(few) == 7
    assert few.records == again.records


_BUILD = """
import sys, time
from pathlib import Path
from augscale.config import DataConfig
from augscale.data import cache_writer
from augscale.data.cache import build_cache
decode, count = cache_writer.decode_image, []
def counting(path, size, **kwargs):
    count.append(path)
    time.sleep(0.02)
    return decode(path, size, **kwargs)
cache_writer.decode_image = counting
print("ready", flush=True)
sys.stdin.readline()
cache = build_cache(DataConfig(sources=(sys.argv[1],), cache_size=16), cache_root=Path(sys.argv[2]))
print(len(count), cache.images.shape[0], cache.fingerprint)
"""


def test_two_processes_at_once_decode_once(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", _BUILD, str(_images(tmp_path / "set", 30)), str(tmp_path / "root")]
    processes = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=240)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(int(result[0]) for result in results) == [0, 30]
    assert results[0][1:] == results[1][1:]
    assert len(_caches(tmp_path / "root")) == 1


def test_synthetic_photographs_are_rendered_into_the_cache(tmp_path: Path) -> None:
    from augscale.demo import render
    from augscale.demo.patients import synthetic_records

    config = _config("synthetic", synthetic_patients=4)
    cache = build_cache(config, cache_root=tmp_path / "root")
    assert sorted(r.image_id for r in cache.records) == sorted(r.image_id for r in synthetic_records(4, 0))
    assert {record.path for record in cache.records} == {None}
    np.testing.assert_array_equal(cache.images[1], render(cache.records[1].image_id, 0, SIZE))
    assert build_cache(config, cache_root=tmp_path / "root").directory == cache.directory
    mixed = build_cache(
        _config("synthetic", _images(tmp_path / "set", 3), synthetic_patients=4), cache_root=tmp_path / "root"
    )
    assert len(mixed) == len(cache) + 3


def test_cache_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("AUGSCALE_CACHE", str(tmp_path / "own"))
    assert default_cache_root() == tmp_path / "own"
    monkeypatch.delenv("AUGSCALE_CACHE")
    assert default_cache_root() == tmp_path / "xdg" / "augscale"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_root() == tmp_path / "home" / ".cache" / "augscale"


def test_real_photographs_are_all_usable(fundus_dir: Path, tmp_path: Path) -> None:
    cache = build_cache(_config(fundus_dir / "pool", fundus_dir / "retina_cg"), cache_root=tmp_path / "root")
    assert len(cache) == 122 + 201
    assert cache.bad == []
    assert cache.duplicates == {}
    assert 20 < cache.images.mean() < 150


def test_a_cache_that_cannot_be_read_now_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _config(_images(tmp_path / "images", 3))
    built = build_cache(config, cache_root=tmp_path / "cache")

    def no_memory(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(cache.np, "load", no_memory)
        with pytest.raises(DataError, match="cannot be read \\(Cannot allocate memory\\)"):
            build_cache(config, cache_root=tmp_path / "cache")
    assert np.array_equal(open_cache(built.directory).images, built.images)


def test_names_of_files_need_not_be_utf_8(tmp_path: Path) -> None:
    folder = _images(tmp_path / "images", 4)
    (folder / os.fsdecode(b"r\xe9tine.png")).write_bytes((folder / "000.png").read_bytes() + b"\0")
    (folder / os.fsdecode(b"cass\xe9.png")).write_bytes(b"no image")
    config = _config(folder, max_bad=0.5)
    found = build_cache(config, cache_root=tmp_path / "cache")
    assert len(found.bad) == 1
    assert "cass\\udce9.png" in (found.directory / "set_aside.csv").read_text(encoding="utf-8")
    chosen = build_cache(config.model_copy(update={"max_images": 3}), cache_root=tmp_path / "cache")
    assert len(chosen.records) + len(chosen.bad) == 3


def test_without_a_home_the_error_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("AUGSCALE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(DataError, match="expected HOME, or AUGSCALE_CACHE"):
        default_cache_root()


def test_a_name_with_a_nul_byte_in_a_table_is_set_aside(tmp_path: Path) -> None:
    folder = _images(tmp_path / "images", 2)
    (folder / "labels.csv").write_bytes(b"file,label\n000.png,a\n0\0.png,b\n")
    found = build_cache(_config(folder, max_bad=0.5), cache_root=tmp_path / "cache")
    assert len(found.records) == 2
    assert [entry.reason for entry in found.bad] == ["no such file (named by a table, or a broken link)"]
