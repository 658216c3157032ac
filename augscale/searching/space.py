"""The search space: augmentation scales from Optuna parameters, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping

from optuna.distributions import FloatDistribution

from augscale.augmentation.scales import AugmentationScales, load_scales
from augscale.config import LOCAL_PARAMETERS, SpaceConfig, StudyConfig
from augscale.errors import ConfigError
from augscale.settings import joined, nearest, parse_settings

SATURATION_RATIO = 0.5
HUE_RATIO = 0.25
"""DINO's jitter is brightness : contrast : saturation : hue = 1 : 1 : 1/2 : 1/4 (0.4, 0.4, 0.2, 0.1)."""

_OWN_PARAMETERS = ("global_crop_low", *LOCAL_PARAMETERS, "jitter")


def check_space(space: SpaceConfig) -> None:
    """Checks that every freed field exists and that both ends of every range give valid scales.

    Raises:
        ConfigError: names the field, the range and what is accepted.
    """
    fields = {
        name
        for name, field in AugmentationScales.model_fields.items()
        if field.annotation is float or name in ("brightness", "contrast", "saturation", "hue")
    }
    for name in space.free:
        if name not in fields:
            hint = nearest(name, sorted(fields))
            raise ConfigError(f"space.free.{name}: no such scale{hint}; known: {', '.join(sorted(fields))}")
    for end in (0, 1):
        params = {name: bounds[end] for name, bounds in _ranges(space).items()}
        scales_from_params(space, params)


def distributions(space: SpaceConfig, *, local_crops: bool = True) -> dict[str, FloatDistribution]:
    """The Optuna distribution of every parameter that may vary; a range with low = high does not.

    Args:
        space: of the study.
        local_crops: False leaves out the parameters of local crops.
    """
    left_out = () if local_crops else LOCAL_PARAMETERS
    return {
        name: FloatDistribution(low, high)
        for name, (low, high) in _ranges(space).items()
        if low < high and name not in left_out
    }


def searched(config: StudyConfig) -> dict[str, FloatDistribution]:
    """What a search of this study samples."""
    return distributions(config.space, local_crops=config.draws_local_crops)


def check_searched(config: StudyConfig) -> None:
    """Refuses a search whose trials after the controls would all have the same scales.

    Raises:
        ConfigError: nothing is searched, and more trials than controls are asked for.
    """
    if searched(config) or config.search.trials <= len(config.search.controls):
        return
    accepted = [name for name in _OWN_PARAMETERS if config.draws_local_crops or name not in LOCAL_PARAMETERS]
    without = "" if config.draws_local_crops else " (crops.n_local = 0, so local crops do not count)"
    raise ConfigError(
        f"space: no range has low < high{without}, so all trials after the controls would be the same; expected one "
        f"among {', '.join(accepted)} and space.free, or search.trials = {len(config.search.controls)}"
    )


def not_searched_sentence(config: StudyConfig) -> str | None:
    """Which ranges of the study are not searched because no local crops are drawn; None if all are."""
    left_out = [name for name in distributions(config.space) if name not in searched(config)]
    if not left_out:
        return None
    are = "are" if len(left_out) > 1 else "is"
    return f"no local crops are drawn (crops.n_local = 0), so {joined(left_out)} of [space] {are} not searched"


def scales_from_params(space: SpaceConfig, params: Mapping[str, float]) -> AugmentationScales:
    """The scales of a set of parameters.

    Args:
        space: names the base scales; parameters missing from `params` take their fixed value. Local crops that the
            study does not search because it draws none have the range of the base scales, which has no effect then.
        params: by name, each inside its range.
    Raises:
        ConfigError: the values do not make valid scales.
    """
    values = {name: params.get(name, bounds[0]) for name, bounds in _ranges(space).items()}
    base, jitter = load_scales(space.base), values["jitter"]
    fields = base.model_dump() | {
        "global_crops_scale": (values["global_crop_low"], 1.0),
        "local_crops_scale": _local_area(values) if _names_local(space, params) else base.local_crops_scale,
        "brightness": jitter,
        "contrast": jitter,
        "saturation": SATURATION_RATIO * jitter,
        "hue": HUE_RATIO * jitter,
    }
    fields |= {name: values[name] for name in space.free}
    return parse_settings(AugmentationScales, fields, "space")


def params_from_scales(
    space: SpaceConfig, scales: AugmentationScales, *, local_crops: bool = True
) -> dict[str, float] | None:
    """The parameters that give exactly these scales, or None where the scales lie outside the space.

    Args:
        space: of the study.
        scales: to express.
        local_crops: False: the scales of local crops have no effect, so they do not count.
    """
    local_low, local_high = scales.local_crops_scale
    values = {
        "global_crop_low": scales.global_crops_scale[0],
        "local_crop_low": local_low,
        "local_crop_width": local_high - local_low,
        "jitter": scales.brightness,
    } | {name: getattr(scales, name) for name in space.free}
    if not local_crops:
        values = {name: value for name, value in values.items() if name not in LOCAL_PARAMETERS}
    ranges = _ranges(space)
    for name in values:
        low, high = ranges[name]
        if not low - 1e-9 <= values[name] <= high + 1e-9:
            return None
        values[name] = min(max(values[name], low), high)
    rebuilt = scales_from_params(space, values)
    if not local_crops:
        rebuilt = rebuilt.model_copy(update={"local_crops_scale": scales.local_crops_scale})
    if not _same(rebuilt, scales):
        return None
    return {name: values[name] for name in distributions(space, local_crops=local_crops)}


def _names_local(space: SpaceConfig, params: Mapping[str, float]) -> bool:
    """False if a parameter of local crops that may vary has no value, because the study does not search it."""
    ranges = _ranges(space)
    return all(name in params or ranges[name][0] == ranges[name][1] for name in LOCAL_PARAMETERS)


def _local_area(values: Mapping[str, float]) -> tuple[float, float]:
    low = values["local_crop_low"]
    return low, min(1.0, low + values["local_crop_width"])


def _ranges(space: SpaceConfig) -> dict[str, tuple[float, float]]:
    return {name: getattr(space, name) for name in _OWN_PARAMETERS} | dict(space.free)


def _same(a: AugmentationScales, b: AugmentationScales) -> bool:
    def flat(scales: AugmentationScales) -> list[float]:
        numbers: list[float] = []
        for value in scales.model_dump().values():
            numbers.extend(value if isinstance(value, (tuple, list)) else [value])
        return numbers

    return all(math.isclose(x, y, abs_tol=1e-9) for x, y in zip(flat(a), flat(b), strict=True))
