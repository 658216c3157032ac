"""Presets against Table 2, interpolation, names and cards."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from augscale.augmentation.scales import (
    PRESETS,
    AugmentationScales,
    describe,
    interpolate,
    load_scales,
    to_toml,
)
from augscale.errors import ConfigError
from augscale.settings import parse_settings


def ordered(low: float, high: float) -> st.SearchStrategy[tuple[float, float]]:
    return st.tuples(st.floats(low, high), st.floats(low, high)).map(lambda pair: (min(pair), max(pair)))


PROBABILITY = st.floats(0, 1)
SCALES = st.builds(
    AugmentationScales,
    global_crops_scale=ordered(0.01, 1),
    local_crops_scale=ordered(0.01, 1),
    aspect_ratio=ordered(0.2, 5),
    horizontal_flip_p=PROBABILITY,
    jitter_p=st.sampled_from([0.0, 0.8, 1.0]),
    brightness=st.sampled_from([0.0, 0.4, 1.5]),
    contrast=st.sampled_from([0.0, 0.4]),
    saturation=st.sampled_from([0.0, 0.2]),
    hue=st.sampled_from([0.0, 0.1, 0.5]),
    grayscale_p=PROBABILITY,
    blur_p=st.tuples(PROBABILITY, PROBABILITY, PROBABILITY),
    blur_sigma=ordered(0, 5),
    noise_std=st.sampled_from([0.0, 0.1]),
    noise_p=st.sampled_from([0.0, 0.5]),
    bias_field_coefficients=st.sampled_from([0.0, 0.1]),
    bias_field_p=st.sampled_from([0.0, 0.5]),
)


@pytest.mark.parametrize(
    ("name", "local", "global_", "brightness", "contrast", "medical"),
    [
        ("strong", (0.05, 0.4), (0.4, 1.0), 0.4, 0.4, (0, 0, 0, 0, 0, 0)),
        ("weak", (0.2, 0.5), (0.5, 1.0), 0.2, 0.2, (0, 0, 0, 0, 0, 0)),
        ("weak+med", (0.2, 0.5), (0.5, 1.0), 0.2, 0.2, (0.1, 0.5, 0.1, 0.5, 0.1, 0.5)),
    ],
)
def test_presets_are_table_2(name, local, global_, brightness, contrast, medical) -> None:
    scales = PRESETS[name]
    assert (scales.local_crops_scale, scales.global_crops_scale) == (local, global_)
    assert (scales.brightness, scales.contrast) == (brightness, contrast)
    assert (
        scales.med_blur_std,
        scales.med_blur_p,
        scales.noise_std,
        scales.noise_p,
        scales.bias_field_coefficients,
        scales.bias_field_p,
    ) == medical
    assert (scales.saturation, scales.hue, scales.jitter_p, scales.grayscale_p) == (0.2, 0.1, 0.8, 0.2)
    assert (scales.blur_p, scales.solarize_p) == ((1.0, 0.1, 0.5), (0.0, 0.2, 0.0))
    assert (scales.horizontal_flip_p, scales.vertical_flip_p) == (0.5, 0.0)


def test_official_dino_equals_strong() -> None:
    assert PRESETS["official-dino"] == PRESETS["strong"]


def test_half_of_strong_halves_strengths_but_keeps_the_jitter_probability() -> None:
    half = load_scales("strong@0.5")
    assert half.global_crops_scale == pytest.approx((0.7, 1.0))
    assert half.local_crops_scale == pytest.approx((0.525, 0.7))
    assert half.aspect_ratio == pytest.approx(((3 / 4) ** 0.5, (4 / 3) ** 0.5))
    assert half.jitter_p == 0.8
    assert (half.brightness, half.contrast, half.saturation, half.hue) == pytest.approx((0.2, 0.2, 0.1, 0.05))
    assert (half.horizontal_flip_p, half.grayscale_p) == pytest.approx((0.25, 0.1))
    assert half.blur_p == pytest.approx((0.5, 0.05, 0.25))
    assert half.blur_sigma == (0.1, 2.0)
    assert half.solarize_p == pytest.approx((0, 0.1, 0))


def test_half_of_weak_med_keeps_the_medical_probabilities() -> None:
    half = load_scales("weak+med@0.5")
    assert (half.noise_p, half.bias_field_p, half.med_blur_p) == (0.5, 0.5, 0.5)
    assert (half.noise_std, half.bias_field_coefficients, half.med_blur_std) == pytest.approx((0.05, 0.05, 0.05))


def test_two_jitters_that_are_both_on_mix_their_probabilities() -> None:
    a, b = AugmentationScales(jitter_p=0.2), AugmentationScales(jitter_p=1.0)
    assert interpolate(a, b, 0.25).jitter_p == pytest.approx(0.4)


@given(SCALES, SCALES)
def test_interpolation_ends_at_its_ends(a: AugmentationScales, b: AugmentationScales) -> None:
    assert interpolate(a, b, 0) == a
    assert interpolate(a, b, 1) == b


@given(SCALES, SCALES, PROBABILITY)
def test_interpolation_stays_between_and_is_symmetric(a: AugmentationScales, b: AugmentationScales, t: float) -> None:
    mixed, mirrored = interpolate(a, b, t), interpolate(b, a, 1 - t)
    for name in ("global_crops_scale", "local_crops_scale", "aspect_ratio", "blur_sigma"):
        for x, y, z in zip(getattr(a, name), getattr(b, name), getattr(mixed, name), strict=True):
            assert min(x, y) <= z <= max(x, y)
    for name in ("horizontal_flip_p", "grayscale_p"):
        assert getattr(mixed, name) == pytest.approx(getattr(a, name) * (1 - t) + getattr(b, name) * t, abs=1e-9)
    if 0 < t < 1 and 0 < 1 - t < 1:
        assert [*flat(mixed)] == pytest.approx([*flat(mirrored)], abs=1e-9)


@given(SCALES, PROBABILITY)
def test_interpolation_between_equals_changes_nothing(scales: AugmentationScales, t: float) -> None:
    assert interpolate(scales, scales, t) == scales


def flat(scales: AugmentationScales) -> list[float]:
    values = scales.model_dump().values()
    return [x for value in values for x in (value if isinstance(value, tuple) else (value,))]


@given(SCALES)
def test_card_round_trip_is_exact(scales: AugmentationScales) -> None:
    import tomllib

    table = tomllib.loads(to_toml(scales))["scales"]
    assert parse_settings(AugmentationScales, table, "card") == scales


def test_card_with_other_tables_is_read_and_missing_fields_are_strong(tmp_path: Path) -> None:
    card = tmp_path / "card.toml"
    card.write_text(
        'fingerprint = "abc"\n[scales]\nbrightness = 0.1\nlocal_crops_scale = [0.3, 0.6]\n[scores]\nd = 1\n'
    )
    scales = load_scales(card)
    assert (scales.brightness, scales.local_crops_scale) == (0.1, (0.3, 0.6))
    assert scales.contrast == PRESETS["strong"].contrast
    assert load_scales(f"{card}@1") == scales


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stron", "unknown scales 'stron' (did you mean strong?)"),
        ("strong@2", "scales 'strong@2': '2' after @ is not a number from 0 to 1"),
        ("strong@half", "scales 'strong@half': 'half' after @ is not a number"),
        ("weka@0.5", "unknown scales 'weka' (did you mean weak?)"),
        ("nowhere.toml", "nowhere.toml: cannot be read"),
    ],
)
def test_unknown_scales_are_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_scales(name)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("brightnes = 0.1", "unknown key brightnes (did you mean brightness?)"),
        ("global_crops_scale = [0.5, 0.4]", "expected 0 < low <= high <= 1"),
        ("global_crops_scale = [0.0, 0.4]", "expected 0 < low <= high <= 1"),
        ("local_crops_scale = [0.5, 1.1]", "expected 0 < low <= high <= 1"),
        ("hue = 0.6", "hue = 0.6 is not accepted"),
        ("grayscale_p = 1.5", "grayscale_p = 1.5 is not accepted"),
        ("blur_p = [0.1, 0.2, 2.0]", "blur_p.2 = 2.0 is not accepted"),
        ("blur_sigma = [2.0, 0.1]", "expected 0 <= low <= high"),
        ("aspect_ratio = [2.0, 0.5]", "expected 0.1 <= low <= high"),
        ("brightness = -0.1", "brightness = -0.1 is not accepted"),
        ("noise_std = nan", "noise_std"),
    ],
)
def test_a_wrong_value_in_a_card_is_named(tmp_path: Path, line: str, expected: str) -> None:
    card = tmp_path / "card.toml"
    card.write_text(f"[scales]\n{line}\n")
    with pytest.raises(ConfigError) as error:
        load_scales(str(card))
    assert str(error.value).startswith(f"{card} [scales]: ")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_the_card_of_a_search_without_an_answer_yet_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_scales(tmp_path / "best.toml")
    (tmp_path / "study.toml").touch()
    with pytest.raises(ConfigError, match=r"best\.toml: does not exist, because its search has no answer yet"):
        load_scales(tmp_path / "best.toml")


def test_a_card_without_scales_is_refused(tmp_path: Path) -> None:
    card = tmp_path / "card.toml"
    card.write_text("[scale]\nhue = 0.1\n")
    with pytest.raises(ConfigError, match=r"has no \[scales\] table \(did you mean scale"):
        load_scales(card)


def test_interpolation_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"interpolated at 1.5: expected a number from 0 to 1"):
        interpolate(PRESETS["none"], PRESETS["strong"], 1.5)


def test_description_names_what_is_on_and_only_that() -> None:
    assert describe(PRESETS["none"]).endswith("no change of color")
    text = describe(PRESETS["weak+med"])
    for part in ("20 to 50 %", "brightness 0.2", "medical blur up to 0.1 px p 0.5, which has no effect", "noise SD"):
        assert part in text
    assert "noise" not in describe(PRESETS["weak"])
    assert len(text.splitlines()) == 2


def test_a_description_without_local_crops_leaves_out_what_only_they_depend_on() -> None:
    strong = PRESETS["strong"]
    assert "global crops 40 to 100 % and local crops 5 to 40 % of the image" in describe(strong)
    assert "p 1/0.1/0.5 (global 1, global 2, local)" in describe(strong)
    text = describe(strong, local_crops=False)
    assert text.startswith("global crops 40 to 100 % of the image; aspect ratio")
    assert "p 1/0.1 (global 1, global 2); solarize p 0/0.2 (global 1, global 2)" in text
    only_local = strong.model_copy(update={"blur_p": (0.0, 0.0, 0.5)})
    assert "blur" in describe(only_local)
    assert "blur" not in describe(only_local, local_crops=False)


def test_crops_has_the_crops_of_strong_and_changes_nothing_else() -> None:
    crops, strong, none = (load_scales(name).model_dump() for name in ("crops", "strong", "none"))
    differing = {name for name in crops if crops[name] != none[name]}
    assert differing == {"global_crops_scale", "local_crops_scale", "aspect_ratio"}
    assert {name: crops[name] for name in differing} == {name: strong[name] for name in differing}
