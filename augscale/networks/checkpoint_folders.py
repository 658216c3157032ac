"""Folders as checkpoints: a finished trial's, and those that Hugging Face and timm save (config.json and weights)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from augscale.errors import CheckpointError
from augscale.networks.checkpoint_names import HUB_WEIGHTS, TRIAL_WEIGHTS
from augscale.networks.file_signs import what_folder
from augscale.networks.tensor_files import plain_settings, printable, read_tensors

_CONFIG = "config.json"
_PREPROCESSOR = "preprocessor_config.json"
_INDEX = "model.safetensors.index.json"
_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
_ACTIVATIONS = ("gelu", "gelu_python", "silu", "swish")
_MAX_JSON_BYTES = 10_000_000
_LISTED = 5


@dataclass(frozen=True, kw_only=True)
class HubConfig:
    """What a Hugging Face or timm folder says beside its weights; all None where there is nothing."""

    arch: str | None = None
    """timm's name of the model."""
    num_heads: int | None = None
    norm_eps: float | None = None
    image_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def weights_file(path: Path) -> Path:
    """The file to read; for a folder the one in it.

    Raises:
        CheckpointError: a folder of neither a trial nor Hugging Face.
    """
    if not path.is_dir():
        return path
    for name in (TRIAL_WEIGHTS, *HUB_WEIGHTS, _INDEX):
        if (path / name).is_file() and (name == TRIAL_WEIGHTS or (path / _CONFIG).is_file()):
            return path / name
    if what := what_folder(path):
        raise CheckpointError(f"{path}: is {what}")
    found = sorted(file.name for file in path.iterdir() if file.suffix in _WEIGHT_SUFFIXES)
    more = ", ..." if len(found) > _LISTED else ""
    hint = f"; it holds {', '.join(map(printable, found[:_LISTED]))}{more}" if found else ""
    raise CheckpointError(
        f"{path}: is a folder without {TRIAL_WEIGHTS}; expected a weights file or the folder of a finished trial, "
        f"or of Hugging Face with {_CONFIG} and {HUB_WEIGHTS[0]}{hint}"
    )


def read_content(path: Path) -> dict[Any, Any]:
    """The content of a weights file, or of all files of an index.

    Raises:
        CheckpointError: see `read_tensors`; or the index names files outside of its folder.
    """
    if path.name != _INDEX:
        return read_tensors(path)
    parts = _read_json(path).get("weight_map")
    names = sorted({str(name) for name in parts.values()}) if isinstance(parts, dict) else []
    if not names or any(Path(name).name != name for name in names):
        raise CheckpointError(f"{path}: weight_map does not name the weights files of this folder")
    content: dict[Any, Any] = {}
    for name in names:
        content |= read_tensors(path.parent / name)
    return content


def hub_config(path: Path) -> HubConfig:
    """What stands beside the weights of a Hugging Face or timm model.

    Args:
        path: of the weights file.
    Raises:
        CheckpointError: a config that cannot be read, or that says that the network computes what timm's does not.
    """
    file = path.parent / _CONFIG
    if path.name not in (*HUB_WEIGHTS, _INDEX) or not file.is_file():
        return HubConfig()
    values = _read_json(file)
    if isinstance(values.get("architecture"), str):
        return _of_timm(values)
    activation = values.get("hidden_act", _ACTIVATIONS[0])
    if activation not in _ACTIVATIONS:
        raise CheckpointError(f"{file}: hidden_act = {printable(str(activation))}; timm's networks compute gelu")
    theta = values.get("rope_theta", 100.0)
    if values.get("model_type") == "dinov3_vit" and theta != 100.0:
        raise CheckpointError(f"{file}: rope_theta = {theta}; timm's DINOv3 has 100")
    processor = path.parent / _PREPROCESSOR
    seen = _read_json(processor) if processor.is_file() else {}
    return HubConfig(
        num_heads=_number(values, "num_attention_heads", int),
        norm_eps=_number(values, "layer_norm_eps", float),
        image_size=_number(values, "image_size", int),
        mean=_three(seen.get("image_mean")),
        std=_three(seen.get("image_std")),
        settings=plain_settings(values),
    )


def _of_timm(values: dict[str, Any]) -> HubConfig:
    seen = values.get("pretrained_cfg")
    seen = seen if isinstance(seen, dict) else {}
    size = seen.get("input_size")
    return HubConfig(
        arch=values["architecture"],
        image_size=size[-1] if isinstance(size, list) and size and type(size[-1]) is int else None,
        mean=_three(seen.get("mean")),
        std=_three(seen.get("std")),
        settings=plain_settings(values),
    )


def _number(values: dict[str, Any], name: str, kind: type) -> Any:
    value: Any = values.get(name)
    good = type(value) in (int, float) if kind is float else type(value) is int
    return kind(value) if good and value > 0 else None


def _three(value: Any) -> tuple[float, ...] | None:
    good = isinstance(value, list) and len(value) == 3 and all(type(number) in (int, float) for number in value)
    return tuple(map(float, value)) if good else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: is larger than any configuration")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds a {type(values).__name__}; expected a JSON object")
    return values
