"""augscale's own weights on disk: safetensors under timm's names, and a JSON file beside them, the sidecar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

import safetensors.torch
from pydantic import ConfigDict, Field, ValidationError, field_validator
from torch import Tensor

from augscale.augmentation.scales import AugmentationScales
from augscale.augmentation.views import IMAGENET_MEAN, IMAGENET_STD
from augscale.config import BackboneConfig, StudyConfig
from augscale.errors import CheckpointError
from augscale.networks.backbones import Backbone
from augscale.networks.tensor_files import State, read_json_object
from augscale.records.base import Record
from augscale.runs.files import write_atomic
from augscale.runs.folders import versions

MAX_VIEW = 4096
"""Largest side of a view, pixels."""


class EndOfTraining(Record):
    """Loss and information at the end of training."""

    loss: float | None = None
    """Nats."""
    information: float | None = None
    """Nats."""
    out_dim: int | None = None
    """K, prototypes of the projection head; None for a method without prototypes."""
    chance_loss: float | None = None
    """Loss of outputs that say nothing, nats; None where the method has no such number, and in files of versions that
    knew DINO only, where it is ln(out_dim)."""


class HeldOut(Record):
    """The photographs that were kept out of training, as `split_off_panel` draws them."""

    images: int
    seed: int


class Sidecar(Record):
    """Facts that are needed to use, repeat and diagnose weights; entries that are not listed here are kept, too."""

    model_config = ConfigDict(extra="allow")

    embed_dim: int | None = None
    mean: tuple[float, ...] | None = None
    """Means of the three channels that views are normalized with; `std` likewise."""
    std: tuple[float, ...] | None = None
    backbone: BackboneConfig | None = None
    """The network; None for the JSON file of another program."""
    image_size: int | None = None
    """Side of the views that it was trained on, pixels."""
    scales: dict[str, Any] | None = None
    """The `AugmentationScales` of the training."""
    steps: int | None = None
    batch_norm: str | None = None
    """`PretrainConfig.batch_norm`."""
    method: str | None = None
    """`PretrainConfig.method`; None in files of versions that knew DINO only."""
    training: EndOfTraining | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    """Settings of `DataConfig`, as that version of augscale had them."""
    held_out: HeldOut | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    name: str | None = None
    """For display."""
    seed: int | None = None
    data_fingerprint: str | None = None
    epoch: float | None = None

    @field_validator("image_size", mode="before")
    @classmethod
    def _possible_size(cls, size: Any) -> Any:
        if size is not None and not (type(size) is int and 0 < size <= MAX_VIEW):
            raise ValueError(f"expected 1 to {MAX_VIEW} pixels")
        return size

    def to_dict(self) -> dict[str, Any]:
        """The entries that were given, as plain JSON values."""
        return self.model_dump(mode="json", exclude_unset=True)


def sidecar_path(path: Path | str) -> Path:
    """`x.json` beside `x.safetensors`."""
    return Path(path).with_suffix(".json")


def sidecar_facts(
    config: StudyConfig,
    scales: AugmentationScales,
    *,
    loss: float | None,
    information: float | None,
    chance_loss: float | None,
) -> dict[str, Any]:
    """The entries of `Sidecar` that trials and full runs share.

    Args:
        config: settings of the study.
        scales: scales of the training.
        loss, information: values at the end of training, nats.
        chance_loss: loss of outputs that say nothing, nats; None where the method has no such number.
    """
    return {
        "backbone": config.backbone.model_dump(),
        "image_size": config.crops.global_size,
        "scales": scales.model_dump(),
        "steps": config.pretrain.steps,
        "batch_norm": config.pretrain.batch_norm,
        "method": config.pretrain.method,
        "training": {
            "loss": loss,
            "information": information,
            "out_dim": config.pretrain.out_dim if config.pretrain.has_prototypes else None,
            "chance_loss": chance_loss,
        },
        "data": config.data.model_dump(mode="json"),
        "held_out": {"images": config.probe.images, "seed": config.probe.seed},
        "versions": versions(),
    }


def save_weights(path: Path | str, backbone: Backbone, sidecar: dict[str, Any]) -> None:
    """Writes a backbone's weights and their sidecar, each file whole or not at all.

    Args:
        path: ends in ".safetensors".
        backbone: parameters and buffers are written under timm's names.
        sidecar: entries of `Sidecar`, JSON-ready; embedding size and normalization are added.
    Raises:
        CheckpointError: the files cannot be written.
    """
    path = Path(path)
    facts = {"embed_dim": backbone.embed_dim, "mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)} | sidecar
    text = json.dumps(Sidecar.model_validate(facts).to_dict(), indent=1, allow_nan=False) + "\n"
    state = {key: value.detach().cpu() for key, value in backbone.model.state_dict().items()}
    # The sidecar is written first, so that there are never weights without one.
    write_atomic(sidecar_path(path), lambda file: _write(file, text.encode()))
    write_safetensors(path, state)


def write_safetensors(path: Path, state: State) -> None:
    """Writes tensors, each contiguous and with its own memory, as safetensors requires; some layers of CoaT share it.

    Raises:
        CheckpointError: the file cannot be written.
    """
    seen: set[int] = set()
    copies: dict[str, Tensor] = {}
    for key, value in state.items():
        value = value.contiguous()
        pointer = value.untyped_storage().data_ptr()
        copies[key] = value.clone() if pointer in seen else value
        seen.add(pointer)
    content = safetensors.torch.save(copies)
    write_atomic(path, lambda file: _write(file, content))


def read_sidecar(path: Path | str) -> Sidecar:
    """The JSON file beside a weights file.

    Args:
        path: path of the weights.
    Raises:
        CheckpointError: it is missing, not a JSON object, or an entry has a wrong value.
    """
    file = sidecar_path(path)
    return _parsed(read_json_object(file), file)


def sidecar_if_ours(path: Path) -> Sidecar:
    """The JSON file beside a weights file; an empty record where there is none, or one of another program."""
    file = sidecar_path(path)
    if path.suffix != ".safetensors" or not file.is_file():
        return Sidecar()
    facts = read_json_object(file)
    return _parsed(facts, file) if isinstance(facts.get("backbone"), dict) else Sidecar()


def _parsed(facts: dict[str, Any], file: Path) -> Sidecar:
    try:
        return Sidecar.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "value_error":
            reason = first["msg"].removeprefix("Value error, ")
            raise CheckpointError(f"{file}: {where} = {first['input']!r}; {reason}") from None
        raise CheckpointError(f"{file}: {where}: {first['msg']}") from None


def _write(file: IO[bytes], content: bytes) -> None:
    file.write(content)
