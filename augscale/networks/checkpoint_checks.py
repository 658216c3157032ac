"""Whether a state dict is that of the network it is loaded into: what shapes and a share of parameters do not say."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
from torch import Tensor, nn

from augscale.errors import CheckpointError, ConfigError
from augscale.networks.architectures import Architecture, depth, patch_size, pooling
from augscale.networks.foreign_names import Converted
from augscale.networks.tensor_files import printable
from augscale.networks.timm_index import classifiers

if TYPE_CHECKING:
    from augscale.networks.backbones import Backbone

_TOKENS = ("cls_token", "reg_token", "register_tokens", "dist_token", "pos_embed")
_CLASSIFIERS = ("head", "heads", "head_drop", "fc", "classifier", "last_linear", "global_pool")
_ADDED = re.compile(
    r"(^|[._])(lora_[ab]|w_[ab]s|adapters?|(deep_)?prompt_(embeddings|tokens)|rel(ative)?_pos_bias)([._]|$)", re.I
)
"""What is added to an encoder and takes part in what it computes, wherever it stands."""
_MOCO_NETWORKS = ("base_encoder.", "momentum_encoder.")
_MOCO_WIDTH, _MOCO_HEADS = 384, 12
_LISTED = 3


def parse_arch(arch: str, text: str) -> Architecture:
    """ "NAME" or "NAME,key=value,..."; values are JSON where they can be.

    Raises:
        ConfigError: a part is no key=value; `text` says where it came from.
    """
    name, *assignments = [part.strip() for part in arch.split(",")]
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{text}: --arch {arch}: {assignment!r} is no key=value")
        try:
            overrides[key.strip()] = json.loads(value)
        except ValueError:
            overrides[key.strip()] = value.strip()
    return Architecture(name=name, overrides=overrides)


def with_pooling(architecture: Architecture, state: dict[str, Tensor]) -> Architecture:
    """The architecture that pools as the network was trained to, see `pooling`."""
    return replace(architecture, overrides=pooling(state) | architecture.overrides)


def check_sizes(architecture: Architecture, state: dict[str, Tensor], path: Path) -> None:
    """Before anything is built: a sidecar may ask for a billion blocks."""
    weight = state.get("patch_embed.proj.weight")
    found = {"depth": depth(state) or None, "embed_dim": None if weight is None else weight.shape[0]}
    for setting, value in found.items():
        wanted = architecture.overrides.get(setting, value)
        if value is not None and wanted != value:
            raise CheckpointError(f"{path}: has {setting} {value}; {architecture.name} was to have {wanted}")


def check_patches(backbone: Backbone, state: dict[str, Tensor], path: Path) -> None:
    """timm would resample the filters of patches of another size, and say nothing."""
    found, wanted = patch_size(state), patch_size(backbone.model.state_dict())
    if found and wanted and found != wanted:
        raise CheckpointError(f"{path}: its patches have {found} pixels, those of the named model {wanted}")


def refuse_other_shapes(backbone: Backbone, state: Mapping[str, Tensor], mismatched: Sequence[str], path: Path) -> None:
    """A layer of another shape, such as the 3 x 3 stem of ResNets for small images, would keep random values."""
    own = dict(backbone.model.named_parameters())
    for name in mismatched:
        if name in own:
            found, wanted = ("x".join(map(str, tensor.shape)) for tensor in (state[name], own[name]))
            raise CheckpointError(
                f"{path}: {printable(name)} is {found}, in {type(backbone.model).__name__} {wanted}, so it is another "
                "network; name its timm model with --arch NAME, or NAME,key=value,..."
            )


def refuse_missing_statistics(missing: Sequence[str], path: Path) -> None:
    """Without their running means and variances batch norms divide by 1, and the network embeds nonsense."""
    lost = [name for name in missing if name.endswith(("running_mean", "running_var"))]
    if lost:
        raise CheckpointError(
            f"{path}: holds no running statistics of its batch norms ({len(lost)} are missing, e.g. {lost[0]}); save "
            "the whole state_dict() instead of the parameters"
        )


def other_names(unexpected: Sequence[str], encoder: Collection[str]) -> list[str]:
    """Of names that a model lacks, those of the encoder, and those beside it of what takes part in its computation."""
    return [name for name in unexpected if name in encoder or _ADDED.search(name)]


def moco_heads(content: Mapping[Any, Any], state: Mapping[str, Tensor], path: Path) -> int | None:
    """Attention heads of a ViT that MoCo v3's own code wrote: 12 in its ViT-S, which has 6 everywhere else.

    Args:
        content: of the file.
        state: of the network that is taken.
        path: the file, for messages.
    Returns:
        None where the file is none of MoCo v3, or the width tells.
    Raises:
        CheckpointError: it may be either.
    """
    patches, arch = state.get("patch_embed.proj.weight"), content.get("arch")
    entries = content.get("state_dict")
    names = [name for name in entries if type(name) is str] if isinstance(entries, dict) else []
    in_moco = any(name.removeprefix("module.").startswith(_MOCO_NETWORKS) for name in names)
    if not in_moco or patches is None or patches.shape[0] != _MOCO_WIDTH:
        return None
    if arch == "vit_small":
        return _MOCO_HEADS
    if type(arch) is str and timm.is_model(arch):
        return None
    raise CheckpointError(
        f"{path}: a ViT {_MOCO_WIDTH} wide in the layout of MoCo v3, whose own ViT-S has {_MOCO_HEADS} attention "
        f"heads, others 6; say which with --arch vit_small_patch16_224,num_heads={_MOCO_HEADS} or num_heads=6"
    )


def refuse_other_parts(backbone: Backbone, unexpected: list[str], name: str, path: Path) -> None:
    """A file whose encoder has more parts than the model is another network, however much of the model it fills."""
    parts = {child for child, _ in backbone.model.named_children()} - set(_CLASSIFIERS)
    norm = getattr(backbone.model, "norm", None)
    if isinstance(norm, nn.Identity):
        # The final norm of an encoder that was fine-tuned on the mean of its patch tokens is not used.
        parts -= {"norm"}
    own = [key for key in unexpected if key not in classifiers() and not key.endswith("num_batches_tracked")]
    other = [key for key in own if key.partition(".")[0] in parts or key in _TOKENS or _ADDED.search(key)]
    if other:
        names = ", ".join(map(printable, other[:_LISTED])) + (", ..." if len(other) > _LISTED else "")
        raise CheckpointError(
            f"{path}: {len(other)} tensors of the encoder have no place in {name} ({names}), so it is "
            "another network; name its timm model with --arch NAME"
        )


def computed_otherwise(model: nn.Module, converted: Converted) -> list[str]:
    """What the network that the weights come from computes otherwise than the one that they are loaded into."""
    lines = []
    batch_eps, pool = converted.overrides.get("bn_eps"), converted.overrides.get("global_pool")
    found = {module.eps for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    if batch_eps is not None and found != {batch_eps}:
        lines.append(
            f"its batch norms add {batch_eps:g} to the variance; set backbone.overrides.bn_eps = {batch_eps:g}"
        )
    if pool is not None and getattr(model, "global_pool", pool) != pool:
        lines.append(f'it embeds by another pooling; set backbone.overrides.global_pool = "{pool}"')
    found = {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)}
    if converted.norm_eps is not None and found != {converted.norm_eps}:
        lines.append(f"its layer norms add {converted.norm_eps:g} to the variance, this network {max(found):g}")
    return lines


def set_norm_eps(model: nn.Module, eps: float | None) -> None:
    """Makes all layer norms add `eps` to the variance; None: as they do."""
    for module in model.modules():
        if eps is not None and isinstance(module, nn.LayerNorm):
            module.eps = eps


def copy_norm_eps(source: nn.Module, target: nn.Module) -> None:
    """What all norms of a network add to the variance, for the same network with other weights."""
    for one, other in zip(source.modules(), target.modules(), strict=True):
        if isinstance(one, nn.LayerNorm) and isinstance(other, nn.LayerNorm):
            other.eps = one.eps
