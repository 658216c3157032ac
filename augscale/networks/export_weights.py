"""Writes weights of a run in the layouts of other programs: official DINO's checkpoint, or a bare timm state dict.

Official DINO's evaluation scripts read a checkpoint with `utils.load_pretrained_weights`: they take the entry
`teacher`, remove "module." and "backbone." from its keys, and load the rest with strict=False, which silently ignores
unknown keys. Therefore this module refuses networks that official DINO does not have.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed

from augscale import doc_pages
from augscale.config import BackboneConfig, StudyConfig
from augscale.errors import CheckpointError, ConfigError
from augscale.networks.backbones import Backbone, build_backbone
from augscale.networks.loading import load_weights_into
from augscale.networks.tensor_files import State
from augscale.networks.weights import read_sidecar, write_safetensors
from augscale.records.base import Record
from augscale.runs.files import read_json, write_atomic

LAYOUTS = ("dino", "timm")
DINO_IMAGE_SIZE = 224
"""Official DINO builds its ViTs for images of this size, and its loader resamples no position embedding."""

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
_SIDECAR_ARGS = ("scales", "seed", "steps", "data_fingerprint")
"""Entries of the sidecar that go into the `args` of an exported checkpoint."""
_KEYS_SHOWN = 3


class ExportedWeights(Record):
    """The exported file."""

    path: Path
    to: str
    image_size: int
    """Side of the images that a ViT's position embedding is for, pixels."""
    notes: tuple[str, ...]
    """Differences from the source, and how to load the file."""


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
            ".safetensors" is written in that format.
        image_size: side of the images that a ViT's position embedding is resampled for. None: 224 for "dino", as its
            loader requires, and for "timm" the size of training.
    Raises:
        ConfigError: unknown layout, an image size that does not fit the patches, or the target is the source.
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
            f"gathered on each dataset's training images ({doc_pages.COMMON_STATISTICS})"
        )
    if to == "dino":
        notes.append(_check_dino_has(source, path))
        _write_torch(target, _dino_checkpoint(source, size))
    else:
        notes.append(f"timm.create_model({source.config.name!r}, {_arguments(source, size)}checkpoint_path=FILE)")
        write = write_safetensors if target.suffix == ".safetensors" else _write_torch
        write(target, source.encoder)
    return ExportedWeights(path=target, to=to, image_size=size, notes=tuple(notes))


@dataclass(kw_only=True)
class _Source:
    """A run's networks, each {"backbone....": ..., "head....": ...} under augscale's names."""

    networks: dict[str, State]
    config: BackboneConfig
    backbone: Backbone
    """A network built from that config."""
    image_size: int
    epoch: int
    args: dict[str, Any]

    @property
    def encoder(self) -> State:
        """The teacher's encoder under timm's names."""
        state = self.networks["teacher"]
        return {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}

    @property
    def patch_size(self) -> int | None:
        return self.backbone.patch_size

    @property
    def has_position_embedding(self) -> bool:
        return "backbone.pos_embed" in self.networks["teacher"]

    def resample(self, image_size: int) -> None:
        """Resamples a ViT's position embeddings for images of another size, bicubic as timm and official DINO do it."""
        grid, model = image_size // (self.patch_size or 1), self.backbone.model
        # Number of class and register tokens that have an entry in the position embedding.
        prefix = 0 if getattr(model, "no_embed_class", False) else int(getattr(model, "num_prefix_tokens", 0))
        for state in self.networks.values():
            embedding = state["backbone.pos_embed"]
            state["backbone.pos_embed"] = resample_abs_pos_embed(embedding, [grid, grid], num_prefix_tokens=prefix)


def _read_weights(path: Path) -> _Source:
    sidecar = read_sidecar(path)
    if sidecar.backbone is None or sidecar.image_size is None:
        raise CheckpointError(f"{path}: its sidecar does not say what network it is; expected one of augscale")
    config = sidecar.backbone.model_copy(update={"init": "none"})
    backbone = build_backbone(config, sidecar.image_size)
    load_weights_into(backbone, path)
    teacher = {f"backbone.{key}": value.contiguous() for key, value in backbone.model.state_dict().items()}
    return _Source(
        networks={"teacher": teacher},
        config=config,
        backbone=backbone,
        image_size=sidecar.image_size,
        epoch=int(sidecar.epoch or 0),
        args={key: value for key, value in sidecar.to_dict().items() if key in _SIDECAR_ARGS},
    )


def _read_state(path: Path) -> _Source:
    """The state of a full run, with its study beside it."""
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
    # Our networks keep timm's model in `backbone.model`.
    networks = {
        name: {re.sub(r"^backbone\.model\.", "backbone.", key): value for key, value in state.items()}
        for name, state in networks.items()
    }
    expected = {f"backbone.{key}" for key in backbone.model.state_dict()}
    if not expected <= networks["teacher"].keys():
        raise CheckpointError(f"{path}: does not hold the network of {path.parent / 'study.toml'}")
    steps_per_epoch = (read_json(path.parent / "manifest.json") or {}).get("steps_per_epoch")
    return _Source(
        networks=networks,
        config=config,
        backbone=backbone,
        image_size=study.crops.global_size,
        epoch=step // steps_per_epoch if steps_per_epoch else 0,
        args={"step": step, **study.pretrain.model_dump()},
    )


def _check_dino_has(source: _Source, path: Path) -> str:
    """Refuses a network that official DINO would load only in part; returns a note on how to load the file."""
    pattern = _DINO_VIT if source.patch_size is not None else _TORCHVISION_RESNET
    other = [key for key in source.encoder if not pattern.fullmatch(key)]
    if other:
        more = ", ..." if len(other) > _KEYS_SHOWN else ""
        raise CheckpointError(
            f"{path}: official DINO has no network with {', '.join(other[:_KEYS_SHOWN])}{more} "
            f"({source.config.name}); expected a plain ViT or a ResNet of torchvision, or --to timm"
        )
    return f'load with checkpoint_key "teacher" into a network of the size of {source.config.name}'


def _dino_checkpoint(source: _Source, size: int) -> dict[str, Any]:
    """The file of official DINO's `main_dino.py` without the optimizer and with `args` as a dict.

    With a Namespace, torch.load would refuse the file with weights_only=True, its default since 2.6; the evaluation
    scripts do not read `args`.
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


def _write_torch(path: Path, content: Any) -> None:
    write_atomic(path, lambda file: torch.save(content, file))
