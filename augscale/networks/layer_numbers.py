"""The order of a network's layers, for learning rates that fall from the top layer to the first one.

Layers are timm's own grouping of parameters (`group_matcher`), which its fine-tuning follows: a stem, then one layer
per block of a ViT, ResNet or EfficientNet; norms and convolutions behind the last block belong to it.
"""

from __future__ import annotations

from timm.models import group_parameters
from torch import nn

from augscale.errors import ConfigError
from augscale.networks.backbones import Backbone


def layer_numbers(backbone: Backbone) -> dict[str, int]:
    """The layer of every parameter, by its name in the backbone; 0 is the first layer.

    Raises:
        ConfigError: timm knows no order of the layers of this network.
    """
    model: nn.Module = backbone.model
    if not hasattr(model, "group_matcher"):
        raise ConfigError(
            f"pretrain.layer_decay: timm knows no order of the layers of {type(model).__name__}; expected 1"
        )
    numbers: dict[str, int] = group_parameters(model, model.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]
    return {f"model.{name}": number for name, number in numbers.items()}


def layer_scales(backbone: Backbone, layer_decay: float) -> dict[str, float]:
    """Factors of the learning rate by parameter name: the head above the backbone has 1, every layer below it less.

    As in BEiT (Bao et al. 2022, `LayerDecayValueAssigner`), DINOv2 (Oquab et al. 2023) and timm
    (`param_groups_layer_decay`): layer_decay to the power of the number of layers between a layer and the head, plus 1.

    Args:
        layer_decay: in (0, 1].
    Raises:
        ConfigError: see `layer_numbers`.
    """
    numbers = layer_numbers(backbone)
    head = max(numbers.values()) + 1
    return {name: layer_decay ** (head - number) for name, number in numbers.items()}
