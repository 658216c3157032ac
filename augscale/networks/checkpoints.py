"""Checkpoints of the DINO family and others as frozen encoders, with what else their files know about the training.

Views reach every encoder normalised with ImageNet's mean and standard deviation. A model of timm that was trained with
others sees its own (`timm:NAME`, or a file with `--arch NAME.TAG`); for any other file nothing says so, and
ImageNet's are taken, which official DINO, DINOv2, MAE and RETFound use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from pydantic import ValidationError

from augscale.config import BackboneConfig
from augscale.errors import CheckpointError, ConfigError
from augscale.networks.architectures import Architecture, infer_architecture, native_size
from augscale.networks.backbones import (
    Backbone,
    WeightsUnavailable,
    build_backbone,
    pretrained_normalization,
    pretrained_size,
    takes_any_size,
)
from augscale.networks.checkpoint_checks import (
    check_patches,
    check_sizes,
    copy_norm_eps,
    moco_heads,
    other_names,
    parse_arch,
    refuse_missing_statistics,
    refuse_other_parts,
    set_norm_eps,
    with_pooling,
)
from augscale.networks.checkpoint_folders import HubConfig, hub_config, read_content, weights_file
from augscale.networks.checkpoint_names import TIMM_PREFIX, UNTRAINED_PREFIX, is_checkpoint_path, unique_names
from augscale.networks.foreign_names import convert
from augscale.networks.layouts import chosen_network, find_network
from augscale.networks.tensor_files import plain_settings
from augscale.networks.training_facts import TrainingFacts, layout_kind, non_finite_names, training_facts
from augscale.networks.weights import LoadReport, check_fit, load_tensors_into, read_sidecar, sidecar_path

_MAX_VIEW = 4096
_DEFAULT_VIEW = 224


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedCheckpoint:
    """An encoder that is ready to embed, and where it came from."""

    name: str
    """Short, for display; see `unique_names`."""
    path: str
    """As given."""
    kind: str
    """"augscale", "DINO", "DINOv2", "RETFound" (its layout, which is that of any masked autoencoder), "timm state
    dict", a layout that was translated, e.g. "Hugging Face ViT" or "official DINOv3", "timm model" or "untrained"."""
    arch: str
    """timm's name."""
    overrides: dict[str, Any]
    """What differs from timm's defaults for `arch`."""
    backbone: Backbone
    """In evaluation mode, on the CPU."""
    image_size: int
    """Side of the views it was made for, or that was asked for, pixels."""
    sidecar: dict[str, Any] = field(default_factory=dict)
    """Ours, {} for foreign files."""
    report: LoadReport | None = None
    """None where no file was loaded."""
    training: TrainingFacts = field(default_factory=TrainingFacts)
    network: str | None = None
    """What the file calls the network that was taken, where it holds several, e.g. "teacher"."""
    other_networks: tuple[str, ...] = ()
    """What it calls the others: values of `key`."""

    @property
    def choice(self) -> str | None:
        """Which of a file's networks this is, and how to take another; None where there is one only."""
        return chosen_network(self.network, self.other_networks)


def load_checkpoint(
    spec: str | Path,
    *,
    arch: str | None = None,
    key: str | None = None,
    image_size: int | None = None,
    name: str | None = None,
) -> LoadedCheckpoint:
    """Loads an encoder. Nothing that a file holds is run; NaN and infinity are reported, not refused.

    Args:
        spec: a weights file (.safetensors, or of torch.save) of augscale, timm, or a program of `docs/checkpoints.md`;
            a folder of a trial or of Hugging Face; "timm:NAME" (timm's pre-trained weights, from the cache or the
            hub); "random:ARCH" (the untrained network, seed 0; ARCH as `arch`, or a checkpoint whose architecture is
            taken).
        arch: timm's name of the model, "NAME" or "NAME,key=value,..."; the file must fit it. None: from the sidecar,
            else from the tensors.
        key: which network of a training checkpoint, e.g. "student" or "base_encoder"; None: the moving average
            (teacher, EMA, momentum encoder) where there is one.
        image_size: side of the views, pixels; a ViT's position embedding is resampled for it. None: the sidecar's, that
            of the position embedding, or timm's default.
        name: for display; None: the shortest that `unique_names` finds.
    Raises:
        CheckpointError: cannot be read, is not safe, cannot be recognised, or fits under 95 % of the parameters.
        ConfigError: `arch` or `image_size` cannot be used.
    """
    text = str(spec)
    if image_size is not None and not 0 < image_size <= _MAX_VIEW:
        raise ConfigError(f"{text}: image_size = {image_size}; expected 1 to {_MAX_VIEW} pixels")
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
    """Loads several, under names that differ: those given, what our sidecars call them, or the shortest paths.

    Args:
        specs: see `load_checkpoint`.
        arch, key: for the files among them.
        names: one each.
    """
    loaded = []
    for spec, name in zip(specs, names or unique_names([str(spec) for spec in specs]), strict=True):
        by_name = str(spec).startswith((TIMM_PREFIX, UNTRAINED_PREFIX))
        loaded.append(load_checkpoint(spec, arch=None if by_name else arch, key=None if by_name else key, name=name))
    called = [str(checkpoint.sidecar.get("name", checkpoint.name)) for checkpoint in loaded]
    if names is not None or len(set(called)) < len(called):
        return loaded
    return [replace(checkpoint, name=name) for checkpoint, name in zip(loaded, called, strict=True)]


def choices(checkpoints: Sequence[LoadedCheckpoint]) -> list[str]:
    """A line for each checkpoint whose file holds several networks: which one was taken, and how to take another."""
    return [f"{checkpoint.name}: {checkpoint.choice}" for checkpoint in checkpoints if checkpoint.choice]


def references_of(checkpoints: Sequence[LoadedCheckpoint]) -> tuple[list[LoadedCheckpoint], list[str | None]]:
    """Each network once before training, and for every checkpoint the name of its own (None for an untrained one)."""
    references: dict[str, LoadedCheckpoint] = {}
    own: list[str | None] = []
    for checkpoint in checkpoints:
        if checkpoint.kind == "untrained":
            own.append(None)
            continue
        key = _anatomy(checkpoint)
        if key not in references:
            name = "untrained" if not references else f"untrained {len(references) + 1}"
            while name in {c.name for c in checkpoints}:
                name += "'"
            path = f"{UNTRAINED_PREFIX}{checkpoint.arch}"
            references[key] = replace(untrained_like(checkpoint), name=name, path=path)
        own.append(references[key].name)
    return list(references.values()), own


def _anatomy(checkpoint: LoadedCheckpoint) -> str:
    """Equal for equal networks, whatever they are called: shapes, heads and normalisation."""
    model = checkpoint.backbone.model
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    heads = [module.num_heads for module in model.modules() if hasattr(module, "num_heads")]
    return f"{shapes} {heads} {checkpoint.backbone.input_scale} {checkpoint.backbone.input_shift}"


def untrained_like(checkpoint: LoadedCheckpoint) -> LoadedCheckpoint:
    """The network of a checkpoint before training, seed 0: what training has to beat."""
    architecture = Architecture(name=checkpoint.arch, overrides=checkpoint.overrides)
    name = f"untrained {checkpoint.arch}"
    untrained = _untrained(architecture, checkpoint.image_size, name, checkpoint.path)
    untrained.backbone.input_scale = checkpoint.backbone.input_scale
    untrained.backbone.input_shift = checkpoint.backbone.input_shift
    copy_norm_eps(checkpoint.backbone.model, untrained.backbone.model)
    return untrained


def _file(text: str, name: str, arch: str | None, key: str | None, image_size: int | None) -> LoadedCheckpoint:
    path = weights_file(Path(text))
    content, hub = read_content(path), hub_config(path)
    sidecar = _our_sidecar(path)
    network = find_network(content, path, key)
    converted = convert(network.encoder, path)
    state = converted.state
    if arch is not None:
        architecture = parse_arch(arch, text)
        if "fc_norm.weight" in state and architecture.name.startswith("vit_"):
            architecture = with_pooling(architecture, state)
    elif sidecar:
        architecture = _of_sidecar(sidecar, path)
    else:
        settings, named = plain_settings(content.get("args")), [*converted.named, *_named_models(content, hub)]
        heads = hub.num_heads or moco_heads(content, state, path)
        architecture = infer_architecture(state, path, settings, named=named, num_heads=heads)
    architecture = replace(architecture, overrides=converted.overrides | architecture.overrides)
    check_sizes(architecture, state, path)
    native = native_size(state) if takes_any_size(architecture.name) else None
    sizes = (image_size, _sidecar_size(sidecar, path), native, hub.image_size)
    size = next((size for size in (*sizes, pretrained_size(architecture.name)) if size is not None), _DEFAULT_VIEW)
    # First without memory: a sidecar or a slip may name a network that no machine holds.
    with torch.device("meta"):
        outline = _build(architecture, size, text)
    check_patches(outline, state, path)
    _, fit = check_fit(outline, state, path)
    refuse_missing_statistics(fit.missing, path)
    refuse_other_parts(outline, other_names([*fit.unexpected, *network.head], state), architecture.name, path)
    backbone = _build(architecture, size, text)
    report = load_tensors_into(backbone, network.head | state, path)
    set_norm_eps(backbone.model, hub.norm_eps or converted.norm_eps)
    if arch is not None and "." in architecture.name:
        backbone.expect_normalization(*pretrained_normalization(architecture.name))
    elif hub.mean and hub.std:
        backbone.expect_normalization(hub.mean, hub.std)
    return LoadedCheckpoint(
        name=name,
        path=text,
        kind="augscale" if sidecar else converted.layout or layout_kind(content, network),
        arch=architecture.name,
        overrides=architecture.overrides,
        backbone=backbone.eval(),
        image_size=size,
        sidecar=sidecar,
        report=report,
        training=training_facts(content, network),
        network=network.taken,
        other_networks=network.others,
    )


def _named_models(content: dict[Any, Any], hub: HubConfig) -> list[str]:
    """timm's models that the file or its folder names, e.g. as timm's own training script does."""
    settings = plain_settings(content.get("args"))
    names = (hub.arch, content.get("arch"), settings.get("model"), settings.get("arch"))
    return [name for name in names if type(name) is str and timm.is_model(name)]


def _timm_model(text: str, name: str, image_size: int | None) -> LoadedCheckpoint:
    model = text.removeprefix(TIMM_PREFIX)
    size = image_size or pretrained_size(model) or _DEFAULT_VIEW
    try:
        backbone = _build(Architecture(name=model, overrides={}), size, text, init="imagenet")
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


def _untrained(architecture: Architecture, image_size: int | None, name: str, text: str) -> LoadedCheckpoint:
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


def _build(architecture: Architecture, size: int, text: str, init: str = "none") -> Backbone:
    try:
        config = BackboneConfig(name=architecture.name, overrides=architecture.overrides, init=init)
        return build_backbone(config, size, size_name="image_size")
    except ValidationError as error:
        raise ConfigError(f"{text}: {error.errors()[0]['msg']} in {architecture.overrides}") from None
    except ConfigError as error:
        raise ConfigError(f"{text}: {error}") from None


def _our_sidecar(path: Path) -> dict[str, Any]:
    if path.suffix != ".safetensors" or not sidecar_path(path).is_file():
        return {}
    sidecar = read_sidecar(path)
    # Other programs put JSON files beside weights, too.
    return sidecar if isinstance(sidecar.get("backbone"), dict) else {}


def _of_sidecar(sidecar: dict[str, Any], path: Path) -> Architecture:
    try:
        config = BackboneConfig.model_validate(sidecar["backbone"])
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        reason = error.errors()[0]["msg"]
        raise CheckpointError(f"{sidecar_path(path)}: backbone.{where}: {reason}") from None
    return Architecture(name=config.name, overrides=dict(config.overrides))


def _sidecar_size(sidecar: dict[str, Any], path: Path) -> int | None:
    size = sidecar.get("image_size")
    if size is None or (type(size) is int and 0 < size <= _MAX_VIEW):
        return size
    raise CheckpointError(f"{sidecar_path(path)}: image_size = {size!r}; expected 1 to {_MAX_VIEW} pixels")


def _refuse(text: str, **options: str | None) -> None:
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if given:
        raise ConfigError(f"{text}: takes no {' and no '.join(given)}")
