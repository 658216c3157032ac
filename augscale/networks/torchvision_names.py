"""Translates names of torchvision's convolutional networks and Swins to timm's.

Both libraries define the same layers in the same order, so names are paired by position. For this, both networks are
built on torch's meta device; tests compare their outputs. RegNets and Swins define layers in another order, so
their names are translated by patterns. ResNets and DenseNets have timm's names already.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache

import timm
import torch
import torchvision

from augscale.networks.tensor_files import State

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
"""Patterns of names and their replacements, for `re.sub`."""

_PAIRS: dict[str, dict[str, str]] = {
    "features.1.0.layer_scale": {f"convnext_{size}": f"convnext_{size}" for size in ("tiny", "small", "base", "large")},
    "features.1.0.block.0.0.weight": {
        **{f"efficientnet_b{n}": f"efficientnet_b{n}" for n in range(8)},
        **{f"efficientnet_v2_{size}": f"efficientnetv2_{size}" for size in "sml"},
    },
    "features.1.block.0.0.weight": {f"mobilenet_v3_{size}": f"mobilenetv3_{size}_100" for size in ("large", "small")},
    "features.1.conv.0.0.weight": {"mobilenet_v2": "mobilenetv2_100"},
    "layers.8.0.layers.0.weight": {"mnasnet1_0": "mnasnet_100"},
    "classifier.0.weight": {f"vgg{n}{bn}": f"vgg{n}{bn}" for n in (11, 13, 16, 19) for bn in ("", "_bn")},
}
"""torchvision's models and timm's with the same layers, by a tensor that no other family has."""
_WIDE_EPS = re.compile(r"efficientnet_b[5-7]|efficientnetv2_|mobilenetv3_")
"""timm's models whose torchvision versions add 1e-3 to the variance in batch norm; timm adds 1e-5 by default."""


def torchvision_names(encoder: State) -> tuple[State, str | None, dict[str, float]] | None:
    """Translates an encoder of torchvision.

    Returns:
        The tensors under timm's names, timm's model if it is known, and overrides that it needs for equal results;
        None for a network of another library.
    """
    for anchor, candidates in _PAIRS.items():
        if anchor in encoder and ("features.0.weight" in encoder or "vgg11" not in candidates):
            found = next((name for name in candidates if _is(encoder, name)), None)
            if found is not None:
                model = candidates[found]
                return _paired(encoder, found, model), model, {"bn_eps": 1e-3} if _WIDE_EPS.match(model) else {}
    if "trunk_output.block1.block1-0.f.a.0.weight" in encoder:
        return renamed(encoder, _REGNET), None, {}
    if "features.1.0.attn.relative_position_bias_table" in encoder and "features.2.norm.weight" in encoder:
        kept = {name: value for name, value in encoder.items() if not name.endswith("relative_position_index")}
        return renamed(kept, _SWIN), None, {}
    return None


def renamed(state: State, rules: Rules) -> State:
    """The tensors under new names: every rule is applied to every name, in order."""
    named = {}
    for name, value in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        named[name] = value
    return named


def _is(encoder: State, name: str) -> bool:
    """True if the encoder has all tensors of the model, in their shapes, except those of the last layer."""
    own = _shapes(f"torchvision.{name}")
    return all(name in encoder and tuple(encoder[name].shape) == own[name] for name in list(own)[:-2])


def _paired(encoder: State, name: str, timm_name: str) -> State:
    own, timms = _shapes(f"torchvision.{name}"), _shapes(f"timm.{timm_name}")
    named = dict(zip(own, timms, strict=True))
    paired = {}
    for key, value in encoder.items():
        target = named.get(key, key)
        shape = timms.get(target)
        # VGG's first dense layer is a convolution in timm. A classifier may have another number of classes.
        same_size = shape is not None and math.prod(shape) == value.numel()
        paired[target] = value.reshape(shape) if shape is not None and same_size else value
    return paired


@cache
def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of "torchvision.NAME" or "timm.NAME", by name, in the order of their definition."""
    library, _, model = name.partition(".")
    build: Callable[[], torch.nn.Module]
    build = getattr(torchvision.models, model) if library == "torchvision" else lambda: timm.create_model(model)
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in build().state_dict().items()}


_REGNET: Rules = (
    (r"^trunk_output\.block(\d+)\.block\d+-(\d+)\.", lambda block: f"s{block[1]}.b{int(block[2]) + 1}."),
    (r"\.proj\.0\.", ".downsample.conv."),
    (r"\.proj\.1\.", ".downsample.bn."),
    (r"\.f\.([abc])\.0\.", lambda layer: f".conv{'abc'.index(layer[1]) + 1}.conv."),
    (r"\.f\.([abc])\.1\.", lambda layer: f".conv{'abc'.index(layer[1]) + 1}.bn."),
    (r"\.f\.se\.", ".se."),
    (r"^stem\.0\.", "stem.conv."),
    (r"^stem\.1\.", "stem.bn."),
    (r"^fc\.", "head.fc."),
)
_SWIN: Rules = (
    (r"^features\.0\.0\.", "patch_embed.proj."),
    (r"^features\.0\.2\.", "patch_embed.norm."),
    (r"^features\.1\.", "layers.0.blocks."),
    *((rf"^features\.{2 * n}\.", f"layers.{n}.downsample.") for n in (1, 2, 3)),
    *((rf"^features\.{2 * n + 1}\.", f"layers.{n}.blocks.") for n in (1, 2, 3)),
    (r"^head\.", "head.fc."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
)
