"""Finds the timm model of a state dict: by the table of all of timm's models, and by building what it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from torch import Tensor

from augscale.errors import CheckpointError
from augscale.networks.timm_index import classifiers, models_like, models_with

_LISTED = 8
_HEADS = ("fc", "classifier", "head", "heads", "last_linear", "projector", "predictor", "projection_head")


def shapes_of(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Of the floating-point tensors, by name."""
    return {name: tuple(value.shape) for name, value in state.items() if value.is_floating_point()}


def models_of(state: dict[str, Tensor]) -> list[list[str]]:
    """timm's models with these tensors, those that compute the same together; see `models_with`."""
    shapes = shapes_of(state)
    # MoCo and others put a network of their own in the place of the classifier.
    bare = {name: shape for name, shape in shapes.items() if name.partition(".")[0] not in _HEADS}
    return models_with(shapes) or models_with(bare)


def of_timm(state: dict[str, Tensor], source: Path, named: Sequence[str] = ()) -> str | None:
    """The timm model with these tensors; None where no model has them, but for the classifier.

    Args:
        state: under timm's names.
        source: the file, for messages.
        named: models that the file itself names, with or without tag.
    Raises:
        CheckpointError: several models have them and compute different things.
    """
    shapes, groups = shapes_of(state), models_of(state)
    for name in named:
        if any(name.partition(".")[0] in names for names in groups):
            return name
    exact = [[name for name in names if _fits(name, shapes)] for names in groups]
    groups = [names for names in exact if names] or groups
    if len(groups) == 1:
        return groups[0][0]
    if groups:
        raise CheckpointError(
            f"{source}: {len(groups)} models of timm have these tensors and compute different things with them; say "
            f"which it is with --arch NAME: {listed([names[0] for names in groups])}"
        )
    return None


def family_of(state: dict[str, Tensor]) -> str | None:
    """timm's models with tensors of the same names, listed; None where there is none."""
    like = models_like(shapes_of(state))
    return listed(like) if like else None


def _fits(name: str, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether the model has these shapes everywhere, in what depends on the size of the images, too."""
    with torch.device("meta"):
        own = shapes_of(timm.create_model(name, num_classes=0).state_dict())
    return _core(own) == _core(shapes)


def _core(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in shapes.items() if name not in classifiers()}


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
