"""Loads checkpoints as frozen encoders, with the facts about training that their files contain.

Every encoder receives views normalized with ImageNet's mean and standard deviation. If the network was trained with
other values, it converts the views; they are known for `timm:NAME`, a file with `--arch NAME.TAG`, and a hub folder
whose config states them. For all other files ImageNet's values are assumed, which official DINO, DINOv2, MAE and
RETFound use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from augscale.config import BackboneConfig
from augscale.errors import CheckpointError, ConfigError
from augscale.networks.architectures import check_sizes, infer_architecture, parse_arch, with_defaults
from augscale.networks.backbones import Backbone, build_backbone, takes_any_size
from augscale.networks.checkpoint_facts import (
    HubConfig,
    TrainingFacts,
    hub_config,
    layout_kind,
    moco_heads,
    named_models,
    non_finite_names,
    training_facts,
)
from augscale.networks.checkpoint_paths import TIMM_PREFIX, UNTRAINED_PREFIX, is_checkpoint_path, unique_names
from augscale.networks.find_network import chosen_network
from augscale.networks.loading import LoadReport, WeightsFile, check_network, load_opened, open_weights
from augscale.networks.pretrained import WeightsUnavailable, pretrained_normalization, pretrained_size
from augscale.networks.tensor_files import plain_settings
from augscale.networks.vit_architectures import native_size, pooling
from augscale.networks.weights import MAX_VIEW, Sidecar, sidecar_if_ours

_DEFAULT_VIEW = 224


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedCheckpoint:
    """An encoder that is ready to embed images, and its origin."""

    name: str
    """Short name for display; see `unique_names`."""
    path: str
    """The `spec` that was given."""
    kind: str
    """"augscale", "timm model", "untrained", or the layout of a foreign file: "DINO", "DINOv2", "RETFound" (of any
    masked autoencoder), "timm state dict", or one that was translated, e.g. "Hugging Face ViT"."""
    arch: str
    """timm's name."""
    overrides: dict[str, Any]
    """Differences from timm's defaults for `arch`."""
    backbone: Backbone
    """In evaluation mode, on the CPU."""
    image_size: int
    """Side of the views, pixels: as requested, else as in training."""
    sidecar: Sidecar = field(default_factory=Sidecar)
    """Empty for foreign files."""
    report: LoadReport | None = None
    """None if no file was loaded."""
    training: TrainingFacts = field(default_factory=TrainingFacts)
    network: str | None = None
    """The file's name for this network if it holds several, e.g. "teacher"."""
    other_networks: tuple[str, ...] = ()
    """The file's names for the others: values of `key`."""

    @property
    def choice(self) -> str | None:
        """A line that says which of a file's networks this is, and how to take another; None if there is only one."""
        return chosen_network(self.network, self.other_networks)


def load_checkpoint(
    spec: str | Path,
    *,
    arch: str | None = None,
    key: str | None = None,
    image_size: int | None = None,
    name: str | None = None,
) -> LoadedCheckpoint:
    """Loads an encoder. No code in a file is run; NaN and infinity are reported, not refused.

    Args:
        spec: a weights file (.safetensors, or of torch.save) of augscale, timm, or a program in `docs/checkpoints.md`;
            a folder of a trial or of Hugging Face; "timm:NAME" (timm's pre-trained weights, from the cache or the
            hub); "random:ARCH" (the untrained network, seed 0; ARCH as `arch`, or a checkpoint whose architecture is
            taken).
        arch: timm's name of the model, "NAME" or "NAME,key=value,..."; the file must fit it. None: from the sidecar,
            else from the tensors.
        key: name of the network in a training checkpoint, e.g. "student" or "base_encoder"; None: the moving average
            (teacher, EMA, momentum encoder) if there is one.
        image_size: side of the views, pixels; a ViT's position embedding is resampled for it. None: the sidecar's, that
            of the position embedding, or timm's default.
        name: name for display; None: see `unique_names`.
    Raises:
        CheckpointError: the file cannot be read, is unsafe or not recognized, or matches under 95 % of the parameters.
        ConfigError: `arch` or `image_size` cannot be used.
    """
    text = str(spec)
    if image_size is not None and not 0 < image_size <= MAX_VIEW:
        raise ConfigError(f"{text}: image_size = {image_size}; expected 1 to {MAX_VIEW} pixels")
    name = name or unique_names([text])[0]
    if text.startswith(TIMM_PREFIX):
        _refuse(text, arch=arch, key=key)
        return _timm_model(text, name, image_size)
    if text.startswith(UNTRAINED_PREFIX):
        wanted = text.removeprefix(UNTRAINED_PREFIX)
        if is_checkpoint_path(wanted):
            like = load_checkpoint(wanted, arch=arch, key=key, image_size=image_size)
            return replace(untrained_like(like), name=name, path=text)
        _refuse(text, arch=arch, key=key)
        return _untrained(parse_arch(wanted, text), image_size, name, text)
    return _file(text, name, arch, key, image_size)


def load_checkpoints(
    specs: Sequence[str | Path],
    *,
    arch: str | None = None,
    key: str | None = None,
    names: Sequence[str] | None = None,
) -> list[LoadedCheckpoint]:
    """Loads several checkpoints under distinct names: the given ones, those in our sidecars, or the shortest paths.

    Args:
        specs: see `load_checkpoint`.
        arch, key: see `load_checkpoint`; used for files only.
        names: one name per checkpoint.
    """
    loaded = []
    for spec, name in zip(specs, names or unique_names([str(spec) for spec in specs]), strict=True):
        by_name = str(spec).startswith((TIMM_PREFIX, UNTRAINED_PREFIX))
        loaded.append(load_checkpoint(spec, arch=None if by_name else arch, key=None if by_name else key, name=name))
    called = [checkpoint.sidecar.name or checkpoint.name for checkpoint in loaded]
    if names is not None or len(set(called)) < len(called):
        return loaded
    return [replace(checkpoint, name=name) for checkpoint, name in zip(loaded, called, strict=True)]


def choices(checkpoints: Sequence[LoadedCheckpoint]) -> list[str]:
    """A line for each checkpoint whose file holds several networks: which one was taken, and how to take another."""
    return [f"{checkpoint.name}: {checkpoint.choice}" for checkpoint in checkpoints if checkpoint.choice]


def references_of(
    checkpoints: Sequence[LoadedCheckpoint], *, by_size: bool = False
) -> tuple[list[LoadedCheckpoint], list[str | None]]:
    """Each distinct network before training, and for each checkpoint the name of its own (None if it is untrained).

    Args:
        by_size: one network made for images of two sizes counts as two.
    """
    references: dict[tuple[str, int], LoadedCheckpoint] = {}
    own: list[str | None] = []
    for checkpoint in checkpoints:
        if checkpoint.kind == "untrained":
            own.append(None)
            continue
        key = _network_key(checkpoint), checkpoint.image_size if by_size else 0
        if key not in references:
            taken = {c.name for c in (*checkpoints, *references.values())}
            name = f"untrained {checkpoint.arch}"
            names = (name, f"{name} at {checkpoint.image_size} px", f"{name} of {checkpoint.name}")
            name = next(name for name in names if name not in taken)
            path = f"{UNTRAINED_PREFIX}{checkpoint.arch}"
            references[key] = replace(untrained_like(checkpoint), name=name, path=path)
        own.append(references[key].name)
    return list(references.values()), own


def _network_key(checkpoint: LoadedCheckpoint) -> str:
    """A key from shapes, heads and normalization, equal for equal networks with different names."""
    model = checkpoint.backbone.model
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    heads = [module.num_heads for module in model.modules() if hasattr(module, "num_heads")]
    return f"{shapes} {heads} {checkpoint.backbone.input_scale} {checkpoint.backbone.input_shift}"


def untrained_like(checkpoint: LoadedCheckpoint) -> LoadedCheckpoint:
    """The network of a checkpoint before training, seed 0: the baseline that training has to beat."""
    architecture = BackboneConfig(name=checkpoint.arch, overrides=checkpoint.overrides)
    name = f"untrained {checkpoint.arch}"
    untrained = _untrained(architecture, checkpoint.image_size, name, checkpoint.path)
    untrained.backbone.input_scale = checkpoint.backbone.input_scale
    untrained.backbone.input_shift = checkpoint.backbone.input_shift
    for one, other in zip(checkpoint.backbone.modules(), untrained.backbone.modules(), strict=True):
        if isinstance(one, nn.LayerNorm) and isinstance(other, nn.LayerNorm):
            other.eps = one.eps
    return untrained


def _file(text: str, name: str, arch: str | None, key: str | None, image_size: int | None) -> LoadedCheckpoint:
    file = open_weights(Path(text), key)
    hub, sidecar = hub_config(file.path), sidecar_if_ours(file.path)
    architecture = _architecture(file, arch, sidecar, hub, text)
    check_sizes(architecture, file.state, file.path)
    native = native_size(file.state) if takes_any_size(architecture.name) else None
    sizes = (image_size, sidecar.image_size, native, hub.image_size, pretrained_size(architecture.name))
    size = next((size for size in sizes if size is not None), _DEFAULT_VIEW)
    # Build without memory first: a sidecar or a mistyped name may ask for a network that no machine can hold.
    with torch.device("meta"):
        outline = _build(architecture, size, text)
    check_network(outline, file, architecture.name, need_statistics=True)
    backbone = _build(architecture, size, text)
    report = load_opened(backbone, file)
    eps = hub.norm_eps or file.converted.norm_eps
    for module in backbone.model.modules():
        if eps is not None and isinstance(module, nn.LayerNorm):
            module.eps = eps
    if arch is not None and "." in architecture.name:
        backbone.expect_normalization(*pretrained_normalization(architecture.name))
    elif hub.mean and hub.std:
        backbone.expect_normalization(hub.mean, hub.std)
    return LoadedCheckpoint(
        name=name,
        path=text,
        kind="augscale" if sidecar.backbone else file.converted.layout or layout_kind(file.content, file.network),
        arch=architecture.name,
        overrides=architecture.overrides,
        backbone=backbone.eval(),
        image_size=size,
        sidecar=sidecar,
        report=report,
        training=training_facts(file.content, file.network),
        network=file.network.taken,
        other_networks=file.network.others,
    )


def _architecture(file: WeightsFile, arch: str | None, sidecar: Sidecar, hub: HubConfig, text: str) -> BackboneConfig:
    """The named architecture, else the sidecar's, else that of the tensors."""
    state = file.state
    if arch is not None:
        architecture = parse_arch(arch, text)
        if "fc_norm.weight" in state and architecture.name.startswith("vit_"):
            architecture = with_defaults(architecture, pooling(state))
    elif sidecar.backbone:
        architecture = sidecar.backbone
    else:
        settings = plain_settings(file.content.get("args"))
        named = [*file.converted.named, *named_models(file.content, hub)]
        heads = hub.num_heads or moco_heads(file.content, state, file.path)
        architecture = infer_architecture(state, file.path, settings, named=named, num_heads=heads)
    return with_defaults(architecture, file.converted.overrides)


def _timm_model(text: str, name: str, image_size: int | None) -> LoadedCheckpoint:
    model = text.removeprefix(TIMM_PREFIX)
    size = image_size or pretrained_size(model) or _DEFAULT_VIEW
    try:
        backbone = _build(BackboneConfig(name=model), size, text, init="imagenet")
    except WeightsUnavailable as error:
        raise CheckpointError(f"{text}: no weights for {model} ({error.reason}); give a weights file instead") from None
    backbone.expect_normalization(*pretrained_normalization(model))
    return LoadedCheckpoint(
        name=name,
        path=text,
        kind="timm model",
        arch=model,
        overrides={},
        backbone=backbone.eval(),
        image_size=size,
        training=TrainingFacts(non_finite=non_finite_names(backbone.model.state_dict())),
    )


def _untrained(architecture: BackboneConfig, image_size: int | None, name: str, text: str) -> LoadedCheckpoint:
    size = image_size or pretrained_size(architecture.name) or _DEFAULT_VIEW
    return LoadedCheckpoint(
        name=name,
        path=text,
        kind="untrained",
        arch=architecture.name,
        overrides=architecture.overrides,
        backbone=_build(architecture, size, text).eval(),
        image_size=size,
    )


def _build(architecture: BackboneConfig, size: int, text: str, init: str = "none") -> Backbone:
    try:
        return build_backbone(architecture.model_copy(update={"init": init}), size, size_name="image_size")
    except ConfigError as error:
        raise ConfigError(f"{text}: {error}") from None


def _refuse(text: str, **options: str | None) -> None:
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if given:
        raise ConfigError(f"{text}: takes no {' and no '.join(given)}")
