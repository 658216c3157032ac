"""Where a checkpoint keeps its network, and which of its networks is taken: the moving average where there is one.

A file is opened from the outside in: entries (`state_dict`, `model`, `teacher`, `model_ema`, ...), what data
parallelism and torch.compile put before every name, networks side by side in one state dict (`teacher.`/`student.`,
`momentum_encoder.`/`base_encoder.`, ...), and the prefix of the encoder (`backbone.`, `teacher_backbone.vit.`, ...).
What the tensors are called inside is in `foreign_names`, which words say "moving average" in `network_roles`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from augscale.errors import CheckpointError
from augscale.networks.encoder_prefix import split_encoder, without_wrappers
from augscale.networks.foreign_names import timm_names
from augscale.networks.network_roles import (
    entry_rank,
    is_average,
    is_other_entry,
    networks_side_by_side,
)
from augscale.networks.tensor_files import checked_tensor, own_dict, printable

__all__ = ["Network", "find_network", "timm_names"]

_KNOWN_ENTRIES = ("teacher", "student", "state_dict", "model")
_MAX_DEPTH = 4
_NETWORK_TENSORS = 4
"""A level of a file with this many tensors of its own is a state dict, whatever lies beside them."""
_PROTOTYPES = re.compile(r"last_layer\.(weight|weight_v|parametrizations\.weight\.original1)")
_CENTERS = ("dino_loss.center", "criterion.center", "criterion.center.center")
_LISTED = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """One network of a checkpoint."""

    encoder: dict[str, Tensor]
    """The encoder's tensors (with a classifier or decoder, where they stand among them), prefixes taken off."""
    head: dict[str, Tensor] = field(default_factory=dict)
    """What stands beside the encoder: a projection head."""
    center: Tensor | None = None
    """DINO's running mean of teacher outputs, shape (K,)."""
    role: str | None = None
    """"teacher" or "student" where the checkpoint calls it so, else None."""
    entry: str | None = None
    """The last entry of the file that was opened on the way, e.g. "model"."""
    taken: str | None = None
    """What the file calls this network, where it holds several: the value of `--key` that takes it."""
    others: tuple[str, ...] = ()
    """The values of `--key` that take the other networks."""

    @property
    def out_dim(self) -> int | None:
        """K, prototypes of the projection head; None without one. With several heads, of DINO's own."""
        layers = {key: value for key, value in self.head.items() if _PROTOTYPES.search(key) and value.ndim == 2}
        wanted = next((key for key in layers if "ibot" not in key), None)
        return int(layers[wanted].shape[0]) if wanted else None


def find_network(content: dict[Any, Any], source: Path, key: str | None = None) -> Network:
    """The network that a checkpoint holds, out of whatever wraps it.

    Args:
        content: of the file.
        source: the file, for messages.
        key: which of its networks: an entry or a prefix as the file calls it, e.g. "student" or "momentum_encoder";
            None: the moving average where there is one.
    Raises:
        CheckpointError: there is no such network, several of which none is known to be the wanted, or no dict of
            named tensors.
    """
    opened = _open(content, source, key)
    tensors = {
        name: checked_tensor(value, name, source) for name, value in opened.level.items() if isinstance(value, Tensor)
    }
    if not tensors:
        raise CheckpointError(_no_tensors(opened, source))
    tensors = without_wrappers(tensors)
    center = _center(opened.outer, tensors, source)
    side_by_side = networks_side_by_side(tensors)
    names = tuple(side_by_side)
    taken, others, role = opened.taken, opened.others, opened.role
    prefixed = {name: value for name, value in tensors.items() if opened.key and name.startswith(f"{opened.key}.")}
    if opened.key is None or any(network.answers_to(opened.key) for network in side_by_side.values()):
        pass
    elif prefixed:
        taken, side_by_side = opened.key, {}
        tensors = {name.removeprefix(f"{opened.key}."): value for name, value in prefixed.items()}
    else:
        known = opened.known + names
        accepted = f"one of {', '.join(map(printable, known))}" if known else "no key: it holds one network only"
        raise CheckpointError(f"{source}: holds no network {opened.key!r}; expected {accepted}")
    if side_by_side:
        wanted = opened.key
        taken = next(name for name in names if wanted is None or side_by_side[name].answers_to(wanted))
        others = tuple(name for name in names if name != taken)
        role = taken if taken in ("teacher", "student") else role
        tensors = side_by_side[taken].tensors
    encoder, head = split_encoder(tensors, source)
    return Network(encoder=encoder, head=head, center=center, role=role, entry=opened.entry, taken=taken, others=others)


def chosen_network(taken: str | None, others: Sequence[str]) -> str | None:
    """Which of a file's networks was taken, and how to take another; None where there is one only."""
    if taken is None or not others:
        return None
    kind = " (the moving average)" if is_average(taken) else ""
    listed = ", ".join(f"--key {printable(other)}" for other in others[:_LISTED])
    return f"network {printable(taken)}{kind} is taken; the file also holds {listed}"


@dataclass(kw_only=True)
class _Opened:
    """A file opened down to a level with tensors."""

    outer: dict[str, Any]
    level: dict[str, Any]
    key: str | None
    """What is still to be found of the wanted key."""
    entry: str | None = None
    role: str | None = None
    taken: str | None = None
    others: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    """Entries that hold networks, on all levels."""


def _open(content: dict[Any, Any], source: Path, key: str | None) -> _Opened:
    outer = _named(content, source)
    opened = _Opened(outer=outer, level=outer, key=key)
    for _ in range(_MAX_DEPTH):
        networks = _entries(opened.level)
        found = _wanted_entry(networks, opened, source)
        if found is None:
            break
        opened.known += tuple(name for name in networks if name not in opened.known)
        networks = networks | {found: opened.level[found]}
        others = tuple(name for name in networks if name != found and _holds_tensors(networks[name]))
        if others:
            opened.taken, opened.others = found, others
        opened.key = None if found == opened.key else opened.key
        opened.entry, opened.role = found, found if found in ("teacher", "student") else opened.role
        opened.level = _named(networks[found], source)
    return opened


def _entries(level: dict[str, Any]) -> dict[str, dict[Any, Any]]:
    """Entries that hold networks, or may, the wanted first."""
    dicts = {name: value for name, value in level.items() if isinstance(value, dict) and not is_other_entry(name)}
    known = {name for name in dicts if name in _KNOWN_ENTRIES}
    own_tensors = sum(isinstance(value, Tensor) for value in level.values())
    if own_tensors < _NETWORK_TENSORS:
        known |= {name for name, value in dicts.items() if _holds_tensors(value)}
    # An empty entry says nothing as long as another one holds tensors.
    filled = {name for name in known if _holds_tensors(dicts[name])} or known
    return {name: dicts[name] for name in sorted(filled, key=lambda name: (entry_rank(name), list(dicts).index(name)))}


def _wanted_entry(networks: dict[str, dict[Any, Any]], opened: _Opened, source: Path) -> str | None:
    if opened.key is not None and isinstance(opened.level.get(opened.key), dict):
        return opened.key
    ranks = [entry_rank(name) for name in networks]
    if len(ranks) > 1 and ranks[0] == ranks[1] and not opened.key:
        names = ", ".join(map(printable, list(networks)[:_LISTED]))
        raise CheckpointError(f"{source}: holds several networks ({names}); say which with --key NAME")
    return next(iter(networks), None)


def _holds_tensors(value: Any, depth: int = 3) -> bool:
    if not isinstance(value, dict):
        return False
    values = own_dict(value)
    if any(type(name) is str and isinstance(entry, Tensor) for name, entry in values.items()):
        return True
    return depth > 0 and any(
        type(name) is str and not is_other_entry(name) and _holds_tensors(entry, depth - 1)
        for name, entry in values.items()
    )


def _no_tensors(opened: _Opened, source: Path) -> str:
    kinds = [
        printable(name) if isinstance(value, (dict, int, float, str, list, tuple, type(None)))
        else f"{printable(name)} (a {type(value).__name__})"
        for name, value in opened.level.items()
    ]  # fmt: skip
    more = ", ..." if len(kinds) > _LISTED else ""
    return f"{source}: holds no tensors under {', '.join(kinds[:_LISTED]) or 'any name'}{more}"


def _named(entries: dict[Any, Any], source: Path) -> dict[str, Any]:
    entries = own_dict(entries)
    for name in entries:
        if type(name) is not str:
            raise CheckpointError(
                f"{source}: has an entry named by {'an' if type(name) is int else 'a'} {type(name).__name__}; "
                "expected a state dict, which names its tensors"
            )
        if not name.isprintable():
            raise CheckpointError(f"{source}: has an entry with the unprintable name {printable(name)}")
    return entries


def _center(outer: dict[str, Any], tensors: dict[str, Tensor], source: Path) -> Tensor | None:
    loss = outer.get("dino_loss")
    candidates = [own_dict(loss).get("center")] if isinstance(loss, dict) else []
    candidates += [tensors.get(name) for name in _CENTERS]
    found = next((value for value in candidates if isinstance(value, Tensor)), None)
    return None if found is None else checked_tensor(found, "center", source).float().flatten()
