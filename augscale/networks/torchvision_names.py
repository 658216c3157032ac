"""torchvision's convolutional networks under timm's names.

Both libraries define the same layers in the same order, so that the names are paired by position; both networks are
built without memory for that, and tests compare what they compute. RegNets and Swins define in another order, and
their names are translated. ResNets and DenseNets have timm's names already.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import timm
import torch
import torchvision
from torch import Tensor

State = dict[str, Tensor]
_WIDE_EPS = {"bn_eps": 1e-3}
"""What torchvision's later EfficientNets and its MobileNetV3 add to the variance; timm adds 1e-5 by default."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """A timm model with the layers of one of torchvision, and what has to be overridden for equal results."""

    name: str
    overrides: dict[str, float]


_PAIRS: dict[str, dict[str, Paired]] = {
    "features.1.0.layer_scale": {
        f"convnext_{size}": Paired(name=f"convnext_{size}", overrides={}) for size in ("tiny", "small", "base", "large")
    },
    "features.1.0.block.0.0.weight": {
        **{f"efficientnet_b{n}": Paired(name=f"efficientnet_b{n}", overrides={}) for n in range(5)},
        **{f"efficientnet_b{n}": Paired(name=f"efficientnet_b{n}", overrides=_WIDE_EPS) for n in range(5, 8)},
        **{f"efficientnet_v2_{s}": Paired(name=f"efficientnetv2_{s}", overrides=_WIDE_EPS) for s in "sml"},
    },
    "features.1.block.0.0.weight": {
        f"mobilenet_v3_{size}": Paired(name=f"mobilenetv3_{size}_100", overrides=_WIDE_EPS)
        for size in ("large", "small")
    },
    "features.1.conv.0.0.weight": {"mobilenet_v2": Paired(name="mobilenetv2_100", overrides={})},
    "layers.8.0.layers.0.weight": {"mnasnet1_0": Paired(name="mnasnet_100", overrides={})},
    "classifier.0.weight": {
        f"vgg{n}{bn}": Paired(name=f"vgg{n}{bn}", overrides={}) for n in (11, 13, 16, 19) for bn in ("", "_bn")
    },
}
"""By a tensor that no other family has."""


def torchvision_names(encoder: State) -> tuple[State, Paired | None] | None:
    """The encoder under timm's names, and its model where that is known; None for a network of another library."""
    for anchor, candidates in _PAIRS.items():
        if anchor in encoder and ("features.0.weight" in encoder or "vgg11" not in candidates):
            found = next((name for name in candidates if _is(encoder, name)), None)
            if found is not None:
                return _in_order(encoder, found, candidates[found].name), candidates[found]
    if "trunk_output.block1.block1-0.f.a.0.weight" in encoder:
        return {_regnet_name(name): value for name, value in encoder.items()}, None
    if "features.1.0.attn.relative_position_bias_table" in encoder and "features.2.norm.weight" in encoder:
        kept = {name: value for name, value in encoder.items() if not name.endswith("relative_position_index")}
        return {_renamed(_SWIN, name): value for name, value in kept.items()}, None
    return None


def _is(encoder: State, name: str) -> bool:
    """Whether all tensors but those of the last layer, the classifier, are there in their shapes."""
    own = _shapes(f"torchvision.{name}")
    return all(name in encoder and tuple(encoder[name].shape) == own[name] for name in list(own)[:-2])


def _in_order(encoder: State, name: str, timm_name: str) -> State:
    own, timms = _shapes(f"torchvision.{name}"), _shapes(f"timm.{timm_name}")
    named = dict(zip(own, timms, strict=True))
    renamed = {}
    for key, value in encoder.items():
        target = named.get(key, key)
        shape = timms.get(target)
        # VGG's first dense layer is a convolution in timm; a classifier may be of other classes.
        same_size = shape is not None and math.prod(shape) == value.numel()
        renamed[target] = value.reshape(shape) if shape is not None and same_size else value
    return renamed


@cache
def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Of all tensors in the order of their definition, by name, of "torchvision.NAME" or "timm.NAME"."""
    library, _, model = name.partition(".")
    build: Callable[[], torch.nn.Module]
    build = getattr(torchvision.models, model) if library == "torchvision" else lambda: timm.create_model(model)
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in build().state_dict().items()}


_REGNET = (
    (r"\.proj\.0\.", ".downsample.conv."),
    (r"\.proj\.1\.", ".downsample.bn."),
    (r"\.f\.([abc])\.0\.", r".conv_\1.conv."),
    (r"\.f\.([abc])\.1\.", r".conv_\1.bn."),
    (r"\.f\.se\.", ".se."),
    (r"^stem\.0\.", "stem.conv."),
    (r"^stem\.1\.", "stem.bn."),
    (r"^fc\.", "head.fc."),
)
_SWIN = (
    (r"features\.0\.0\.", "patch_embed.proj."),
    (r"features\.0\.2\.", "patch_embed.norm."),
    (r"features\.1\.", "layers.0.blocks."),
    (r"features\.2\.", "layers.1.downsample."),
    (r"features\.3\.", "layers.1.blocks."),
    (r"features\.4\.", "layers.2.downsample."),
    (r"features\.5\.", "layers.2.blocks."),
    (r"features\.6\.", "layers.3.downsample."),
    (r"features\.7\.", "layers.3.blocks."),
    (r"head\.", "head.fc."),
)


def _regnet_name(name: str) -> str:
    block = re.match(r"trunk_output\.block(\d+)\.block\d+-(\d+)(?=\.)", name)
    if block:
        name = f"s{block[1]}.b{int(block[2]) + 1}{name[block.end() :]}"
    for pattern, replacement in _REGNET:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"\.conv_([abc])\.", lambda match: f".conv{'abc'.index(match[1]) + 1}.", name)


def _renamed(pairs: tuple[tuple[str, str], ...], name: str) -> str:
    for pattern, replacement in pairs:
        name, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            break
    return re.sub(r"\.mlp\.0\.", ".mlp.fc1.", re.sub(r"\.mlp\.3\.", ".mlp.fc2.", name))
