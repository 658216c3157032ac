"""Weights of a run in the layouts of other programs: a checkpoint of official DINO, or a bare timm state dict.

Official DINO's evaluation scripts read a checkpoint with `utils.load_pretrained_weights`: they take the entry
`teacher`, take "module." and "backbone." off its keys, and load what is left without being strict, so that a key of
another name is passed over in silence. Hence networks that official DINO does not have are refused here.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from augscale.config import BackboneConfig, StudyConfig
from augscale.errors import CheckpointError, ConfigError
from augscale.networks.backbones import Backbone, build_backbone
from augscale.networks.weights import load_weights_into, read_sidecar, unshared
from augscale.runs.files import read_json, write_atomic

LAYOUTS = ("dino", "timm")
DINO_IMAGE_SIZE = 224
"""Official DINO builds its ViTs for images of this size, and its loader fits no position embedding of another."""

_DINO_VIT = re.compile(
    r"cls_token|pos_embed|patch_embed\.proj\.(weight|bias)|norm\.(weight|bias)"
    r"|blocks\.\d+\.(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)"
)
_BATCH_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_TORCHVISION_RESNET = re.compile(
    rf"conv1\.weight|bn1\.{_BATCH_NORM}"
    rf"|layer[1-4]\.\d+\.(conv[1-3]\.weight|bn[1-3]\.{_BATCH_NORM}|downsample\.0\.weight|downsample\.1\.{_BATCH_NORM})"
)
_HEAD_NAMES = {"last_layer.direction": "last_layer.weight_v", "last_layer.gain": "last_layer.weight_g"}
_KEYS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class ExportedWeights:
    """What was written."""

    path: Path
    to: str
    image_size: int
    """Side of the images that a ViT's position embedding is for, pixels."""
    notes: tuple[str, ...]
    """What differs from the source, and how to load the file."""

    def to_dict(self) -> dict[str, Any]:
        return {"path": str(self.path), "to": self.to, "image_size": self.image_size, "notes": list(self.notes)}


def export_weights(
    path: str | Path, to: str = "dino", out: str | Path | None = None, *, image_size: int | None = None
) -> ExportedWeights:
    """Writes weights of a run for another program.

    Args:
        path: a weights file of augscale with its sidecar (`best.safetensors`), or the `state.pt` of a full run, which
            also has the student and both projection heads.
        to: "dino": {"teacher": ..., "epoch": ..., "args": ...} with "backbone." before every key of the encoder, for a
            state also {"student": ...} with "module." before that, and heads under official names; "timm": the
            teacher's encoder under timm's names, for `timm.create_model(name, num_classes=0, checkpoint_path=...)`.
        out: the file to write; None: beside the source, `NAME.dino.pth` or `NAME.timm.pth`. A "timm" file that ends in
            ".safetensors" is written as such.
        image_size: side of the images that a ViT's position embedding is resampled for. None: 224 for "dino", as its
            loader wants, and for "timm" the size that was trained at.
    Raises:
        ConfigError: unknown layout, an image size that does not fit the patches, or the source as target.
        CheckpointError: the source cannot be read, or official DINO has no such network.
    """
    path = Path(path)
    if to not in LAYOUTS:
        raise ConfigError(f"--to {to}: expected one of {', '.join(LAYOUTS)}")
    target = Path(out) if out is not None else path.with_suffix(f".{to}.pth")
    if target.resolve() == path.resolve():
        raise ConfigError(f"--out {target}: is the file to be exported; expected another")
    source = _read_state(path) if path.suffix == ".pt" else _read_weights(path)
    size, notes = source.image_size, []
    if source.has_position_embedding and source.patch_size is not None:
        size = image_size or (DINO_IMAGE_SIZE if to == "dino" else source.image_size)
        if size % source.patch_size:
            raise ConfigError(f"image size {size}: expected a multiple of the patch size {source.patch_size}")
    if size != source.image_size:
        source.resample(size)
        notes.append(f"position embedding resampled from {source.image_size} px to {size} px")
    if any(name.endswith("running_mean") for name in source.networks["teacher"]):
        notes.append(
            "batch norm's statistics are those of the training's own augmented views; augscale evaluates with others, "
            "gathered on each dataset's training images (docs/score.md)"
        )
    if to == "dino":
        notes.append(_check_dino_has(source, path))
        _write_torch(target, _dino_checkpoint(source, size))
    else:
        notes.append(f"timm.create_model({source.config.name!r}, {_arguments(source, size)}checkpoint_path=FILE)")
        state = source.encoder("teacher")
        if target.suffix == ".safetensors":
            content = safetensors.torch.save(unshared(state))
            write_atomic(target, lambda file: _write(file, content))
        else:
            _write_torch(target, state)
    return ExportedWeights(path=target, to=to, image_size=size, notes=tuple(notes))


@dataclass(kw_only=True)
class _Source:
    """A run's networks, each {"backbone....": ..., "head....": ...} under our names."""

    networks: dict[str, dict[str, Tensor]]
    config: BackboneConfig
    image_size: int
    patch_size: int | None
    num_prefix_tokens: int
    epoch: int
    args: dict[str, Any]

    def encoder(self, network: str) -> dict[str, Tensor]:
        state = self.networks[network]
        return {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}

    @property
    def has_position_embedding(self) -> bool:
        return "backbone.pos_embed" in self.networks["teacher"]

    def resample(self, image_size: int) -> None:
        """For a ViT: position embeddings for images of another size, bicubic as timm and official DINO do it."""
        grid = image_size // (self.patch_size or 1)
        for state in self.networks.values():
            embedding = state["backbone.pos_embed"]
            state["backbone.pos_embed"] = resample_abs_pos_embed(
                embedding, [grid, grid], num_prefix_tokens=self.num_prefix_tokens
            )


def _read_weights(path: Path) -> _Source:
    facts = read_sidecar(path)
    try:
        config = BackboneConfig.model_validate(facts["backbone"]).model_copy(update={"init": "none"})
        image_size = int(facts["image_size"])
    except (KeyError, TypeError, ValueError, ValidationError):
        raise CheckpointError(
            f"{path}: its sidecar does not say what network it is; expected one of augscale"
        ) from None
    backbone = build_backbone(config, image_size)
    load_weights_into(backbone, path)
    teacher = {f"backbone.{key}": value.contiguous() for key, value in backbone.model.state_dict().items()}
    return _source({"teacher": teacher}, config, backbone, image_size, int(facts.get("epoch", 0)), _plain(facts))


def _read_state(path: Path) -> _Source:
    """The state of a full run; its study lies beside it."""
    try:
        study = StudyConfig.model_validate(tomllib.loads((path.parent / "study.toml").read_text(encoding="utf-8")))
        values = torch.load(path, map_location="cpu", weights_only=True)
        networks = {name: dict(values[name]) for name in ("teacher", "student")}
        step = int(values["step"])
    except OSError as error:
        raise CheckpointError(f"{error.filename}: cannot be read ({error.strerror})") from None
    except Exception:
        raise CheckpointError(
            f"{path}: damaged, or not the state of a full run with its study.toml beside it"
        ) from None
    config = study.backbone.model_copy(update={"init": "none"})
    backbone = build_backbone(config, study.crops.global_size)
    networks = {name: _with_prefix(state) for name, state in networks.items()}
    expected = {f"backbone.{key}" for key in backbone.model.state_dict()}
    if not expected <= networks["teacher"].keys():
        raise CheckpointError(f"{path}: does not hold the network of {path.parent / 'study.toml'}")
    steps_per_epoch = (read_json(path.parent / "manifest.json") or {}).get("steps_per_epoch")
    epoch = step // steps_per_epoch if steps_per_epoch else 0
    args = {"step": step, **study.pretrain.model_dump()}
    return _source(networks, config, backbone, study.crops.global_size, epoch, args)


def _source(
    networks: dict[str, dict[str, Tensor]],
    config: BackboneConfig,
    backbone: Backbone,
    image_size: int,
    epoch: int,
    args: dict[str, Any],
) -> _Source:
    return _Source(
        networks=networks,
        config=config,
        image_size=image_size,
        patch_size=backbone.patch_size,
        num_prefix_tokens=_embedded_prefix_tokens(backbone),
        epoch=epoch,
        args=args,
    )


def _embedded_prefix_tokens(backbone: Backbone) -> int:
    """Class and register tokens that have a row in the position embedding."""
    model: Any = backbone.model
    return 0 if getattr(model, "no_embed_class", False) else int(getattr(model, "num_prefix_tokens", 0))


def _with_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our networks keep timm's model in `backbone.model`."""
    return {
        f"backbone.{key.removeprefix('backbone.model.')}" if key.startswith("backbone.model.") else key: value
        for key, value in state.items()
    }


def _check_dino_has(source: _Source, path: Path) -> str:
    """Refuses what official DINO would load in part, and says what it builds for it."""
    pattern = _DINO_VIT if source.patch_size is not None else _TORCHVISION_RESNET
    other = [key for key in source.encoder("teacher") if not pattern.fullmatch(key)]
    if other:
        more = ", ..." if len(other) > _KEYS_SHOWN else ""
        raise CheckpointError(
            f"{path}: official DINO has no network with {', '.join(other[:_KEYS_SHOWN])}{more} "
            f"({source.config.name}); expected a plain ViT or a ResNet of torchvision, or --to timm"
        )
    return f'load with checkpoint_key "teacher" into a network of the size of {source.config.name}'


def _dino_checkpoint(source: _Source, size: int) -> dict[str, Any]:
    """As official DINO's `main_dino.py` saves it, less the optimiser; `args` is a plain dictionary, not a Namespace.

    A Namespace would make torch.load refuse the file where it only takes data, which is its default since 2.6, and
    the evaluation scripts do not look at it.
    """
    prefixes = {"teacher": "", "student": "module."}
    checkpoint: dict[str, Any] = {
        name: {prefixes[name] + _official(key): value for key, value in state.items()}
        for name, state in source.networks.items()
    }
    args = {"arch": source.config.name, "patch_size": source.patch_size, "image_size": size}
    return checkpoint | {"epoch": source.epoch, "args": args | source.args}


def _official(key: str) -> str:
    if not key.startswith("head."):
        return key
    name = key.removeprefix("head.")
    return "head." + _HEAD_NAMES.get(name, name)


def _arguments(source: _Source, size: int) -> str:
    values = dict(source.config.overrides) | {"num_classes": 0}
    if source.patch_size is not None:
        values["img_size"] = size
    return "".join(f"{key}={value!r}, " for key, value in values.items())


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """Of the sidecar what is of use to another program."""
    return {key: facts[key] for key in ("scales", "seed", "steps", "data_fingerprint") if key in facts}


def _write_torch(path: Path, content: Any) -> None:
    write_atomic(path, lambda file: torch.save(content, file))


def _write(file: Any, content: bytes) -> None:
    file.write(content)
