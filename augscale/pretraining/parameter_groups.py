"""Groups of parameters that the optimizer treats alike: weight decay or none, and equal learning rates."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from augscale.networks.layer_numbers import layer_scales
from augscale.pretrain_config import PretrainConfig
from augscale.pretraining.headed_network import HeadedNetwork
from augscale.pretraining.schedules import StepValues


@dataclass(frozen=True, kw_only=True, eq=False)
class ParameterGroup:
    """Parameters of equal weight decay and learning rate."""

    parameters: list[nn.Parameter]
    decays: bool
    """Weight decay applies: neither biases nor other 1-D tensors."""
    lr_scale: float = 1.0
    """Factor of the learning rate, in (0, 1]."""
    of_body: bool = False
    """Its learning rate is the backbone's, where that differs from the head's."""

    def for_optimizer(self) -> dict[str, Any]:
        """The group as AdamW takes it."""
        return {"params": self.parameters} | ({} if self.decays else {"weight_decay": 0.0})

    def values(self, values: StepValues) -> dict[str, float]:
        """Learning rate and weight decay at one step."""
        lr = values.backbone_lr if self.of_body else values.lr
        return {"lr": lr * self.lr_scale, "weight_decay": values.weight_decay if self.decays else 0.0}


def parameter_groups(
    module: nn.Module, *, body: Collection[str] = (), scales: Mapping[str, float] | None = None
) -> list[ParameterGroup]:
    """The trainable parameters in groups.

    Args:
        module: whose parameters are trained.
        body: names of parameters with a schedule of their own.
        scales: factor of the learning rate by name; 1 for others.
    Returns:
        Without further arguments two groups, [decaying, not decaying]. Otherwise two for every part and factor, the
        head's first; empty ones are left out.
    """
    scales = scales or {}
    found: dict[tuple[bool, float, bool], list[nn.Parameter]] = {(False, 1.0, True): [], (False, 1.0, False): []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decays = not (name.endswith(".bias") or parameter.ndim == 1)
            found.setdefault((name in body, scales.get(name, 1.0), decays), []).append(parameter)
    return [
        ParameterGroup(parameters=parameters, decays=decays, lr_scale=lr_scale, of_body=of_body)
        for (of_body, lr_scale, decays), parameters in found.items()
        if parameters or len(found) == 2
    ]


def groups_of(student: HeadedNetwork, recipe: PretrainConfig) -> list[ParameterGroup]:
    """The groups of a run.

    What lies below the heads is a part of its own if the head is trained alone first. With `layer_decay` below 1 it has
    a group per layer; what the first layer's input is made of, e.g. a mask token, has that layer's factor.

    Raises:
        ConfigError: `layer_decay` is below 1, and the backbone's layers have no known order.
    """
    body = list(student.body_parameters())
    scales: dict[str, float] = {}
    if recipe.layer_decay < 1:
        known = {
            f"backbone.{name}": scale for name, scale in layer_scales(student.backbone, recipe.layer_decay).items()
        }
        scales = {name: known.get(name, min(known.values())) for name in body}
    return parameter_groups(student, body=body if recipe.head_warmup_steps else (), scales=scales)
