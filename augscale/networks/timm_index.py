"""Finds the timm models with given tensors in a table of signatures of all timm models.

The table (`timm_index.json`, written by `benchmarks/timm_index.py`) stores for every model a hash of its tensors and a
hash of what it computes: the EfficientNet-B0 of timm and that of TensorFlow have equal tensors and pad differently, so
tensors alone do not distinguish them. A match is not a proof; the caller builds the model and compares all shapes. A
model that is newer than the table is not found; users can still name it with `--arch`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import timm
import torch

from augscale.errors import CheckpointError
from augscale.networks.tensor_files import State, listed

_LISTED = 8
_OF_IMAGE_SIZE = re.compile(
    r"pos_embed|position|pos_enc|rel_pos|relative|attn_mask|attention_bias|\.ab$|rope|freqs|height|width"
)
"""Tensors whose shapes depend on the size of the images."""
_HEADS = ("fc", "classifier", "head", "heads", "last_linear", "projector", "predictor", "projection_head")
"""First parts of names under which MoCo and others store their own head in place of the classifier."""

Shapes = Mapping[str, Sequence[int]]


class _Row(NamedTuple):
    name: str
    signature: str
    function: str
    """Equal for models that compute the same with the same tensors."""
    family: str
    """Equal for models whose tensors have the same names, apart from numbers."""


def signature(shapes: Shapes, classifiers: Iterable[str]) -> str:
    """A hash of an encoder's names and shapes, without the classifier and what depends on the image size."""
    return _hash(f"{name}{tuple(shape)}" for name, shape in shapes.items() if _is_core(name, classifiers))


def family(names: Iterable[str], classifiers: Iterable[str]) -> str:
    """A hash of the names of an encoder's tensors without the numbers in them."""
    return _hash({re.sub(r"\d+", "0", name) for name in names if _is_core(name, classifiers)})


def shapes_of(state: State) -> dict[str, tuple[int, ...]]:
    """Shapes of the floating-point tensors, by name."""
    return {name: tuple(value.shape) for name, value in state.items() if value.is_floating_point()}


def models_with(shapes: Shapes) -> list[list[str]]:
    """timm's models with these tensors, grouped by what they compute; shortest names first."""
    wanted = signature(shapes, classifiers())
    groups: dict[str, list[str]] = {}
    for row in _rows():
        if row.signature == wanted and timm.is_model(row.name):
            groups.setdefault(row.function, []).append(row.name)
    return sorted((sorted(names, key=_plainest) for names in groups.values()), key=lambda names: _plainest(names[0]))


def models_like(names: Iterable[str]) -> list[str]:
    """timm's models whose tensors have these names, with any shapes and numbers of blocks."""
    wanted = family(names, classifiers())
    return [row.name for row in _rows() if row.family == wanted and timm.is_model(row.name)]


def models_of(state: State) -> list[list[str]]:
    """As `models_with`; if no model matches, a second search leaves out everything in place of the classifier."""
    shapes = shapes_of(state)
    bare = {name: shape for name, shape in shapes.items() if name.partition(".")[0] not in _HEADS}
    return models_with(shapes) or models_with(bare)


def timm_model_of(state: State, source: Path, named: Sequence[str] = ()) -> str | None:
    """The timm model with these tensors; None if no model has them, the classifier left out.

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
    exact = [[name for name in names if _has_shapes(name, shapes)] for names in groups]
    groups = [names for names in exact if names] or groups
    if len(groups) > 1:
        raise CheckpointError(
            f"{source}: {len(groups)} models of timm have these tensors and compute different things with them; say "
            f"which it is with --arch NAME: {listed([names[0] for names in groups], _LISTED)}"
        )
    return groups[0][0] if groups else None


@cache
def roots() -> frozenset[str]:
    """Names of the first weight of each model, e.g. "conv_stem.weight"."""
    return frozenset(_table()["roots"])


@cache
def classifiers() -> frozenset[str]:
    """Names of the tensors that timm's models lose with their classifier."""
    return frozenset(_table()["classifiers"])


def _has_shapes(name: str, shapes: Shapes) -> bool:
    """True if the model has these shapes everywhere, also in tensors that depend on the size of the images."""
    with torch.device("meta"):
        own = shapes_of(timm.create_model(name, num_classes=0).state_dict())
    return _without_classifier(own) == _without_classifier(shapes)


def _without_classifier(shapes: Shapes) -> dict[str, Sequence[int]]:
    return {name: shape for name, shape in shapes.items() if name not in classifiers()}


def _plainest(name: str) -> tuple[bool, int, str]:
    return name.startswith("test_"), len(name), name


def _is_core(name: str, classifiers: Iterable[str]) -> bool:
    return name not in classifiers and not _OF_IMAGE_SIZE.search(name)


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:12]


@cache
def _rows() -> tuple[_Row, ...]:
    return tuple(_Row(*row) for row in _table()["models"])


@cache
def _table() -> dict[str, list]:
    text = files("augscale.networks").joinpath("timm_index.json").read_text(encoding="utf-8")
    table: dict[str, list] = json.loads(text)
    return table
