"""Which models of timm have given tensors: a table of signatures, made once for all of timm's models.

The table (`timm_index.json`, written by `benchmarks/timm_index.py`) says for every model what its tensors hash to, and
which models compute the same with the same tensors: EfficientNet-B0 of timm and of TensorFlow have equal tensors and
pad differently, so tensors alone cannot choose between them. A hit is no proof; whoever uses one builds the model
and compares all shapes. A model that is newer than the table is not found, and can still be named with `--arch`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import timm

_OF_IMAGE_SIZE = re.compile(
    r"pos_embed|position|pos_enc|rel_pos|relative|attn_mask|attention_bias|\.ab$|rope|freqs|height|width"
)
"""Tensors whose shapes depend on the size of the images."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    name: str
    signature: str
    function: str
    """Equal for models that compute the same with the same tensors."""
    family: str
    """Equal for models whose tensors have the same names, but for numbers."""


Shapes = Mapping[str, Sequence[int]]


def signature(shapes: Shapes, classifiers: Iterable[str]) -> str:
    """A hash of the names and shapes of an encoder's tensors, classifier and what depends on the image size left out.

    Args:
        shapes: of the floating-point tensors, by name.
        classifiers: names that classifiers of timm's models have.
    """
    return _hash(f"{name}{tuple(shape)}" for name, shape in shapes.items() if _is_core(name, classifiers))


def family(names: Iterable[str], classifiers: Iterable[str]) -> str:
    """A hash of the names of an encoder's tensors without the numbers in them."""
    return _hash({re.sub(r"\d+", "0", name) for name in names if _is_core(name, classifiers)})


def models_with(shapes: Shapes) -> list[list[str]]:
    """timm's models that have these tensors, those that compute the same with them together, shortest names first."""
    wanted = signature(shapes, classifiers())
    groups: dict[str, list[str]] = {}
    for row in _rows():
        if row.signature == wanted and timm.is_model(row.name):
            groups.setdefault(row.function, []).append(row.name)
    return sorted((sorted(names, key=_plainest) for names in groups.values()), key=lambda names: _plainest(names[0]))


def models_like(names: Iterable[str]) -> list[str]:
    """timm's models whose tensors have these names, whatever their shapes and their numbers of blocks."""
    wanted = family(names, classifiers())
    return [row.name for row in _rows() if row.family == wanted and timm.is_model(row.name)]


@cache
def roots() -> frozenset[str]:
    """Names of the first weight of each model, e.g. "conv_stem.weight"."""
    return frozenset(_table()["roots"])


@cache
def classifiers() -> frozenset[str]:
    """Names of the tensors that timm's models lose with their classifier."""
    return frozenset(_table()["classifiers"])


def _plainest(name: str) -> tuple[bool, int, str]:
    return name.startswith("test_"), len(name), name


def _is_core(name: str, classifiers: Iterable[str]) -> bool:
    return name not in classifiers and not _OF_IMAGE_SIZE.search(name)


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:12]


@cache
def _rows() -> tuple[_Row, ...]:
    fields = ("name", "signature", "function", "family")
    return tuple(_Row(**dict(zip(fields, row, strict=True))) for row in _table()["models"])


@cache
def _table() -> dict[str, list]:
    text = files("augscale.networks").joinpath("timm_index.json").read_text(encoding="utf-8")
    table: dict[str, list] = json.loads(text)
    return table
