import pytest

from augscale.augmentation.scales import PRESETS, load_scales
from augscale.config import SpaceConfig
from augscale.errors import ConfigError
from augscale.searching.space import check_space, distributions, params_from_scales, scales_from_params


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
