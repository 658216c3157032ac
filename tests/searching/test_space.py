import pytest

from augscale.augmentation.scales import PRESETS, load_scales
from augscale.config import SpaceConfig, load_study
from augscale.errors import ConfigError
from augscale.searching.space import (
    check_searched,
    check_space,
    distributions,
    not_searched_sentence,
    params_from_scales,
    scales_from_params,
    searched,
)


def test_strong_lies_in_the_default_space_and_comes_back_unchanged():
    space = SpaceConfig()
    params = params_from_scales(space, PRESETS["strong"])
    assert params == pytest.approx(
        {"global_crop_low": 0.4, "local_crop_low": 0.05, "local_crop_width": 0.35, "jitter": 0.4}
    )
    assert scales_from_params(space, params) == PRESETS["strong"]


@pytest.mark.parametrize("name", ["none", "weak", "weak+med"])
def test_presets_that_no_parameters_can_express_are_outside(name):
    # weak keeps saturation 0.2 and hue 0.1 of strong, which the ratio 1 : 1 : 1/2 : 1/4 cannot give at jitter 0.2.
    assert params_from_scales(SpaceConfig(), load_scales(name)) is None


def test_weak_is_inside_once_saturation_and_hue_are_free():
    space = SpaceConfig(free={"saturation": (0.0, 0.4), "hue": (0.0, 0.2)})
    params = params_from_scales(space, PRESETS["weak"])
    assert params is not None
    assert scales_from_params(space, params) == PRESETS["weak"]


def test_jitter_keeps_dinos_ratio():
    scales = scales_from_params(SpaceConfig(), {"jitter": 0.8})
    assert (scales.brightness, scales.contrast, scales.saturation, scales.hue) == (0.8, 0.8, 0.4, 0.2)


def test_a_local_crop_never_exceeds_the_image():
    space = SpaceConfig(local_crop_low=(0.05, 1.0), local_crop_width=(0.0, 1.0))
    scales = scales_from_params(space, {"local_crop_low": 0.9, "local_crop_width": 0.8})
    assert scales.local_crops_scale == (0.9, 1.0)


def test_a_range_with_equal_ends_is_fixed_and_not_searched():
    space = SpaceConfig(jitter=(0.3, 0.3))
    assert "jitter" not in distributions(space)
    assert scales_from_params(space, {}).brightness == 0.3


def test_an_unknown_free_field_names_the_nearest_one():
    with pytest.raises(ConfigError, match=r"space.free.grayscal_p: no such scale \(did you mean grayscale_p\?\)"):
        check_space(SpaceConfig(free={"grayscal_p": (0.0, 0.4)}))


def test_a_free_range_outside_what_scales_accept_is_refused():
    with pytest.raises(ConfigError, match="hue"):
        check_space(SpaceConfig(free={"hue": (0.0, 0.9)}))


def _study(**settings):
    return load_study("smoke", settings)


TWO_VIEWS = {"pretrain.method": "simclr", "crops.n_local": 0}
LOCAL = ("local_crop_low", "local_crop_width")


@pytest.mark.parametrize(
    "settings", [TWO_VIEWS, {"pretrain.method": "mocov3", "crops.n_local": 0}, {"crops.n_local": 0}]
)
def test_a_study_without_local_crops_does_not_search_their_scales(settings):
    assert set(searched(_study())) == {"global_crop_low", *LOCAL, "jitter"}
    free = {"space.free": {"grayscale_p": [0.0, 0.4]}}
    assert set(searched(_study(**settings, **free))) == {"global_crop_low", "jitter", "grayscale_p"}


@pytest.mark.parametrize("base", ["strong", "weak"])
def test_local_crops_that_are_not_searched_have_the_range_of_the_base(base):
    space = SpaceConfig(base=base)
    scales = scales_from_params(space, {"global_crop_low": 0.3, "jitter": 0.2})
    assert scales.local_crops_scale == PRESETS[base].local_crops_scale
    assert scales.global_crops_scale == (0.3, 1.0)


def test_a_trial_of_an_earlier_version_keeps_the_local_crops_that_it_was_trained_with():
    params = {"global_crop_low": 0.3, "local_crop_low": 0.5, "local_crop_width": 0.25, "jitter": 0.2}
    assert scales_from_params(SpaceConfig(), params).local_crops_scale == (0.5, 0.75)


def test_local_crops_that_the_space_fixes_stay_fixed():
    space = SpaceConfig(local_crop_low=(0.1, 0.1), local_crop_width=(0.5, 0.5))
    assert scales_from_params(space, {"global_crop_low": 0.3, "jitter": 0.2}).local_crops_scale == (0.1, 0.6)


def test_a_control_lies_in_the_space_whatever_local_crops_it_has_if_none_are_drawn():
    other = PRESETS["strong"].model_copy(update={"local_crops_scale": (0.01, 0.9)})
    assert params_from_scales(SpaceConfig(), other) is None
    expected = pytest.approx({"global_crop_low": 0.4, "jitter": 0.4})
    assert params_from_scales(SpaceConfig(), other, local_crops=False) == expected
    assert params_from_scales(SpaceConfig(), load_scales("weak"), local_crops=False) is None, "saturation still counts"


def test_a_search_of_local_crops_only_is_refused_where_none_are_drawn():
    fixed = {"space.global_crop_low": [0.4, 0.4], "space.jitter": [0.4, 0.4]}
    check_searched(_study(**fixed))
    with pytest.raises(ConfigError, match=r"space: no range has low < high \(crops.n_local = 0, so local crops do not"):
        check_searched(_study(**fixed, **TWO_VIEWS))
    check_searched(_study(**fixed, **TWO_VIEWS, **{"search.trials": 4}))
    with pytest.raises(ConfigError, match="one among global_crop_low, local_crop_low, local_crop_width, jitter and"):
        check_searched(_study(**fixed, **{f"space.{name}": [0.2, 0.2] for name in LOCAL}))


def test_it_is_said_which_ranges_of_the_study_are_not_searched():
    assert not_searched_sentence(_study()) is None
    assert not_searched_sentence(_study(**TWO_VIEWS)) == (
        "no local crops are drawn (crops.n_local = 0), so local_crop_low and local_crop_width of [space] are not "
        "searched"
    )
    one = _study(**TWO_VIEWS, **{"space.local_crop_low": [0.2, 0.2]})
    assert not_searched_sentence(one).endswith("so local_crop_width of [space] is not searched")
    both = {f"space.{name}": [0.2, 0.2] for name in LOCAL}
    assert not_searched_sentence(_study(**TWO_VIEWS, **both)) is None
