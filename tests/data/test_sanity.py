"""The check before training: finds what is no photograph, and says nothing of good data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from augscale.config import DataConfig
from augscale.data.cache import ImageCache, build_cache
from augscale.data.image_signs import SIGNS_FILE, find_signs
from augscale.data.mask_names import exclude_pattern, mask_words, named_masks
from augscale.data.pixel_signs import file_is_mask, grey_counts, pixel_signs
from augscale.data.sanity import check_images
from augscale.errors import DataError

SIDE = 160
Draw = Callable[[np.random.Generator], Image.Image]


def _photo(generator: np.random.Generator) -> Image.Image:
    """A smooth colourful picture on black, as a retina is."""
    coarse = generator.integers(20, 230, (7, 7, 3), dtype=np.uint8)
    photo = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.float64)
    photo += generator.normal(0, 4, photo.shape)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    return Image.fromarray(np.where(np.hypot(x, y)[..., None] < 0.95, photo, 0).clip(0, 255).astype(np.uint8))


def _blobs(generator: np.random.Generator, levels: Iterable[int] = (255,), *, count: int = 4) -> Image.Image:
    mask = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(mask)
    levels = list(levels)
    for number in range(count):
        x, y = generator.integers(10, SIDE - 10, 2).tolist()
        radius = int(generator.integers(5, 25))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=levels[number % len(levels)])
    return mask


def _vessels(generator: np.random.Generator) -> Image.Image:
    mask = Image.new("L", (4 * SIDE, 4 * SIDE))
    draw = ImageDraw.Draw(mask)
    for _ in range(20):
        points = [tuple(p) for p in generator.integers(0, 4 * SIDE, (4, 2)).tolist()]
        draw.line(points, fill=255, width=int(generator.integers(1, 5)))
    return mask


def _speckle(generator: np.random.Generator, scale: float, radius: float) -> Image.Image:
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    noise = generator.rayleigh(scale, (SIDE, SIDE)).clip(0, 255)
    return Image.fromarray(np.where(np.hypot(x, y) < radius, noise, 0).astype(np.uint8))


def _histology(generator: np.random.Generator) -> Image.Image:
    tissue, glass = generator.integers(90, 200, (SIDE, SIDE)), generator.integers(236, 245, (SIDE, SIDE))
    return Image.fromarray(np.where(np.asarray(_blobs(generator)) > 0, tissue, glass).astype(np.uint8))


MASKS: dict[str, Draw] = {
    "blobs": _blobs,
    "classes": lambda g: _blobs(g, (60, 120, 180, 250), count=9),
    "vessels": _vessels,
    "bilevel": lambda g: _blobs(g).convert("1"),
    "colours": lambda g: Image.merge("RGB", (_blobs(g), _blobs(g), _blobs(g))),
}
PHOTOGRAPHS: dict[str, Draw] = {
    "retina": _photo,
    "ultrasound": lambda g: _speckle(g, 25, 0.6),
    "dim ultrasound": lambda g: _speckle(g, 12, 0.4),
    "ct": lambda g: Image.fromarray(
        np.where(np.asarray(_speckle(g, 1, 0.8)) > 0, g.normal(110, 8, (SIDE, SIDE)), 0).clip(0, 255).astype(np.uint8)
    ),
    "fluorescence": lambda g: Image.fromarray(
        (np.asarray(_blobs(g, count=12).filter(ImageFilter.GaussianBlur(4))) * 0.6 + g.poisson(3, (SIDE, SIDE)))
        .clip(0, 255)
        .astype(np.uint8)
    ),
    "histology": _histology,
    "wide": lambda g: _photo(g).resize((SIDE, SIDE // 8)),
    "hazy": lambda g: Image.fromarray(
        np.where(np.asarray(_speckle(g, 1, 0.9)) > 0, g.normal(90, 3, (SIDE, SIDE)), 0).clip(0, 255).astype(np.uint8)
    ),
}


def _write(folder: Path, draw: Draw, count: int, *, ending: str = ".png", start: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        draw(np.random.default_rng(number)).save(folder / f"{number:03}{ending}")


def _cache(tmp_path: Path, size: int = 64) -> ImageCache:
    config = DataConfig(sources=(str(tmp_path / "set"),), cache_size=size)
    return build_cache(config, cache_root=tmp_path / "cache")


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("kind", ["blobs", "vessels", "bilevel"])
def test_masks_are_known_at_any_size_and_compression(tmp_path: Path, kind: str, ending: str, size: int) -> None:
    _write(tmp_path / "set", MASKS[kind], 6, ending=ending)
    signs = find_signs(_cache(tmp_path, size).images, _cache(tmp_path, size).records)
    assert (signs.mask | signs.constant).all()
    assert not signs.black.any()


@pytest.mark.parametrize("kind", ["classes", "colours"])
def test_masks_of_several_classes_are_known_where_compression_has_not_blurred_them(tmp_path: Path, kind: str) -> None:
    _write(tmp_path / "set", MASKS[kind], 6)
    assert find_signs(_cache(tmp_path).images, _cache(tmp_path).records).mask.mean() > 0.5


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("kind", PHOTOGRAPHS)
def test_photographs_of_all_kinds_are_not_taken_for_masks(tmp_path: Path, kind: str, ending: str, size: int) -> None:
    _write(tmp_path / "set", PHOTOGRAPHS[kind], 6, ending=ending)
    sanity = check_images(_cache(tmp_path, size))
    assert not sanity.bad.any()


def test_black_images_and_images_of_one_colour_are_found_and_bars_do_not_count() -> None:
    grey = np.full((5, 64, 64, 3), 0, dtype=np.uint8)
    grey[0] += np.random.default_rng(0).integers(0, 16, (64, 64, 1), dtype=np.uint8)  # 12 bits read as 16
    grey[1] += 130
    grey[2, 20:40] = 130  # of one colour, between black bars
    grey[3, 30:34] = np.random.default_rng(1).integers(0, 255, (4, 64, 3))  # a photograph, very wide
    grey[4, 3:5, 3:5] = 255
    signs = pixel_signs(grey)
    assert signs.black.tolist() == [True, False, False, False, False]
    assert signs.constant.tolist() == [False, True, True, False, True]
    assert not signs.mask.any()
    assert signs.brightness[1] == signs.brightness[2] == pytest.approx(130, abs=1)


def test_histograms_leave_bars_out_and_keep_an_all_black_image() -> None:
    pixels = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    pixels[0, 2:4, 1:7] = 255
    counts = grey_counts(pixels)
    assert counts.sum(axis=1).tolist() == [12, 64]
    assert counts[0, 255] == 12


def test_a_file_that_pillow_cannot_read_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    assert file_is_mask(tmp_path / "a.png") is None


@pytest.mark.parametrize(
    ("names", "pattern"),
    [(("images/{}", "masks/{}"), "masks/*"), (("{}", "{}_mask"), "*_mask.png"), (("a/{}", "a/{}-seg"), "*-seg.png")],
)
def test_masks_among_photographs_are_said_with_a_pattern_that_leaves_them_out(
    tmp_path: Path, names: tuple[str, str], pattern: str
) -> None:
    for number in range(8):
        for name, draw in zip(names, (_photo, _blobs), strict=True):
            path = tmp_path / "set" / f"{name.format(number)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(np.random.default_rng(number)).save(path)
    [line] = check_images(_cache(tmp_path)).lines()
    assert line.startswith("8 of 16 images look like masks or drawings (few grey levels), e.g. ")
    assert line.endswith(f"; --exclude '{pattern}' leaves them out")
    config = DataConfig(sources=(str(tmp_path / "set"),), cache_size=64, exclude=(pattern,))
    cache = build_cache(config, cache_root=tmp_path / "cache")
    assert (len(cache), check_images(cache).lines()) == (8, [])


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (_blobs, "9 look like masks"),
        (lambda g: Image.fromarray(g.integers(0, 16, (SIDE, SIDE), dtype=np.uint8)), "9 are nearly black"),
        (lambda g: Image.new("L", (SIDE, SIDE), int(g.integers(60, 250))), "9 are of one color"),
    ],
)
def test_a_majority_of_no_photographs_stops_unless_allowed(tmp_path: Path, draw: Draw, words: str) -> None:
    _write(tmp_path / "set", draw, 9)
    _write(tmp_path / "set", _photo, 8, start=50)
    cache = _cache(tmp_path)
    with pytest.raises(DataError, match=f"^most of the 17 images are not photographs: {words}.*--allow-bad") as caught:
        check_images(cache)
    assert "\n" not in str(caught.value)
    assert ("data.range" in str(caught.value)) == ("black" in words)
    assert len(check_images(cache, allow_bad=True).lines()) == 1


def test_near_duplicates_and_brightness_outliers_are_said(tmp_path: Path) -> None:
    _write(tmp_path / "set", _photo, 30)
    for number in range(3):
        Image.open(tmp_path / "set" / f"{number:03}.png").save(tmp_path / "set" / f"{number}.jpg", quality=90)
    bright = _photo(np.random.default_rng(99)).point(lambda value: 200 + value // 5)
    bright.save(tmp_path / "set" / "bright.png")
    twin, *rest = sorted(check_images(_cache(tmp_path)).lines(), key=lambda line: "nearly the same" not in line)
    assert twin.startswith("6 of 34 images are nearly the same as another, e.g. ")
    assert rest == ["1 of 34 images are far darker or brighter than the others of their source, e.g. bright.png"]


def test_what_was_seen_is_kept_beside_the_cache(tmp_path: Path, monkeypatch) -> None:
    _write(tmp_path / "set", _photo, 6)
    _write(tmp_path / "set", _blobs, 3, start=20)
    first = check_images(_cache(tmp_path))
    path = _cache(tmp_path).directory / SIGNS_FILE
    assert path.is_file()
    monkeypatch.setattr("augscale.data.image_signs.find_signs", lambda *_: pytest.fail("looked again"))
    assert check_images(_cache(tmp_path)).facts() == first.facts()
    monkeypatch.undo()
    path.write_bytes(b"damaged")
    assert check_images(_cache(tmp_path)).facts() == first.facts()


def test_the_built_in_photographs_give_no_line(tmp_path: Path) -> None:
    cache = build_cache(DataConfig(cache_size=32, synthetic_patients=12), cache_root=tmp_path)
    sanity = check_images(cache)
    assert (sanity.lines(), sanity.bad.any()) == ([], False)


@pytest.mark.parametrize("folder", ["aptos2019", "odir3", "palm", "pool", "retina_cg", "srahim_dr"])
def test_real_photographs_give_no_line(tmp_path: Path, fundus_dir: Path, folder: str) -> None:
    config = DataConfig(sources=(str(fundus_dir / folder),), cache_size=64, max_images=60)
    assert check_images(build_cache(config, cache_root=tmp_path)).lines() == []


@pytest.mark.parametrize(
    ("name", "clear", "vague"),
    [
        ("a_mask.png", True, False),
        ("x/Masks/a.png", True, False),
        ("a-segmentation.png", True, False),
        ("a_seg2.png", False, False),
        ("GroundTruth/a.png", True, False),
        ("ground truth/a.png", True, False),
        ("a_gt.png", False, True),
        ("label/a.png", False, True),
        ("a_manual1.gif", False, True),
        ("labelled/a.png", False, False),
        ("unmasked_1.png", False, False),
        ("segmented_vessels/a.png", False, False),
        ("label_1/a.png", False, False),
        ("gtx_camera.png", False, False),
    ],
)
def test_only_whole_words_say_that_a_file_is_a_mask(name: str, clear: bool, vague: bool) -> None:
    assert mask_words(PurePosixPath(name)) == (clear, vague)


def test_a_vague_word_needs_a_second_sign_and_a_word_that_all_have_says_nothing() -> None:
    photographs = np.zeros(4, dtype=bool)
    assert not named_masks(["label/a.png", "label/b.png", "x/c.png", "x/d.png"], photographs).any()
    with_partner = named_masks(["a_gt.png", "b_gt.png", "a.png", "b.png"], photographs)
    assert with_partner.tolist() == [True, True, False, False]
    by_pixels = named_masks(["gt/1.png", "gt/2.png", "c.png", "d.png"], np.array([True, True, False, False]))
    assert by_pixels.tolist() == [True, True, False, False]
    assert not named_masks(["masks/a.png", "masks/b.png"], photographs[:2]).any()


def test_names_alone_warn_and_exclude_nothing(tmp_path: Path) -> None:
    _write(tmp_path / "set" / "labelled", _photo, 5)
    _write(tmp_path / "set" / "x_mask", _photo, 5, start=9)
    cache = _cache(tmp_path)
    sanity = check_images(cache)
    assert len(cache) == 10
    assert [(f.kind, f.count) for f in sanity.findings] == [("name", 5)]
    assert "5 of 10 images are named like masks and do not look like them" in sanity.lines()[0]


@pytest.mark.parametrize(
    ("masks", "others", "pattern"),
    [
        (["m/a.png", "m/b.png"], ["x/a.png"], "m/*"),
        (["m/a.png", "m/b.png"], ["m/c.png"], None),
        (["a_mask.png", "b_mask.tif"], ["a.png"], "*_mask.*"),
        (["a_mask.png"], ["b_mask.png"], None),
        (["a.png", "b.png"], ["c.png"], None),
    ],
)
def test_a_pattern_is_offered_only_where_it_matches_the_masks_alone(masks, others, pattern) -> None:
    assert exclude_pattern(masks, others) == pattern
