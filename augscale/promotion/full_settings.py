"""The study of a full run from its arguments, and checks before any image is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from augscale.augmentation.scales import AugmentationScales, load_scales
from augscale.config import StudyConfig, apply_overrides, load_study
from augscale.errors import ConfigError
from augscale.pretraining.methods import check_networks
from augscale.settings import parse_settings

DEFAULT_EPOCHS = 100
"""As in the official script."""


def check_lengths(epochs: float | None, steps: int | None, evaluations: int, log_every: int) -> None:
    if epochs is not None and steps is not None:
        raise ConfigError(f"--epochs {epochs:g} and --steps {steps}: expected one of them")
    for name, value in (("epochs", epochs), ("steps", steps), ("evaluations", evaluations), ("log-every", log_every)):
        if value is not None and not value > 0:
            raise ConfigError(f"--{name} {value}: expected a number above 0")


def resolve_study(
    study: str | Path | StudyConfig, arch: str | None, flags: dict[str, Any], overrides: dict[str, Any]
) -> StudyConfig:
    """The study with flags and then overrides applied."""
    config = study if isinstance(study, StudyConfig) else load_study(study)
    if arch is not None and arch != config.backbone.name:
        flags = {"backbone.name": arch, "backbone.overrides": {}} | flags
    values = apply_overrides(apply_overrides(config.model_dump(), flags), overrides)
    return parse_settings(StudyConfig, values, "study" if isinstance(study, StudyConfig) else str(study))


def with_steps(config: StudyConfig, steps: int) -> StudyConfig:
    return config.model_copy(update={"pretrain": config.pretrain.model_copy(update={"steps": steps})})


def checked_parameters(config: StudyConfig) -> int:
    """Checks names and sizes; returns the number of parameters of the backbone."""
    for level in config.probe.levels:
        load_scales(level)
    parameters = check_networks(config)
    if config.backbone.init not in ("none", "imagenet") and not Path(config.backbone.init).is_file():
        raise ConfigError(f"--init {config.backbone.init}: no such file; expected none, imagenet or a weights file")
    return parameters


def evaluation_steps(steps: int, evaluations: int) -> list[int]:
    """Evenly spread steps, the last at the end."""
    return sorted({max(1, round(steps * (k + 1) / evaluations)) for k in range(evaluations)})


def scales_label(scales: str | Path | AugmentationScales) -> str:
    """The name of a preset, or a card's file name; for a run's best.toml the name of the run."""
    if isinstance(scales, AugmentationScales):
        return "scales"
    path = Path(scales)
    if path.suffix != ".toml":
        return str(scales)
    return f"{path.resolve().parent.name}-best" if path.name == "best.toml" else path.stem


def default_folder(config: StudyConfig, scales_name: str, seed: int) -> Path:
    name = re.sub(r"[^A-Za-z0-9._@+-]+", "-", f"{config.name}-{scales_name}" + (f"-seed{seed}" if seed else ""))
    return Path("runs") / "pretrain" / name
