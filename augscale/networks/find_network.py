"""Finds the encoder in the content of a checkpoint; if there are several networks, it takes the moving average.

A file is unwrapped from the outside in:

1. entries (`state_dict`, `model`, `teacher`, `model_ema`, ...),
2. prefixes that data parallelism and torch.compile put before every name,
3. networks side by side in one state dict (`teacher.`/`student.`, `momentum_encoder.`/`base_encoder.`, ...),
4. the prefix of the encoder (`backbone.`, `teacher_backbone.vit.`, ...).

`network_roles` knows which words mean "moving average"; `foreign_names` translates the names inside the encoder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from augscale.errors import CheckpointError
from augscale.networks.network_roles import entry_rank, is_average, is_other_entry, networks_side_by_side
from augscale.networks.tensor_files import State, checked_tensor, own_dict, printable
from augscale.networks.timm_index import models_with, roots

_KNOWN_ENTRIES = ("teacher", "student", "state_dict", "model")
_MAX_DEPTH = 4
_NETWORK_TENSORS = 4
"""A level of a file with this many tensors of its own is a state dict, whatever else it contains."""
_PROTOTYPES = re.compile(r"last_layer\.(weight|weight_v|parametrizations\.weight\.original1)")
_CENTERS = ("dino_loss.center", "criterion.center", "criterion.center.center")
_LISTED = 8

_WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that data parallelism and torch.compile put before every name."""
_INNER_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Parts that sharding and activation checkpointing put into names, around single blocks."""
_ENCODERS = ("backbone.", "embedding_model.", "wrapped_model.", "_model.", "model.")
"""Prefixes of the encoder; tensors without them belong to a head or a loss."""
_FOREIGN_ROOTS = frozenset(
    {
        "embeddings.patch_embeddings.projection.weight",
        "embeddings.patch_embeddings.weight",
        "conv_proj.weight",
        "features.0.0.weight",
        "layers.8.0.layers.0.weight",
        "4.0.conv1.weight",
    }
)
"""First tensors of Hugging Face's and torchvision's networks, and of a ResNet in a Sequential."""
_SIMILAR_SIZE = 0.5
"""A network with this share of the largest network's tensors competes with it; a smaller one is an additional part."""
_LISTED_PREFIXES = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """One network of a checkpoint."""

    encoder: State
    """The encoder's tensors without prefixes, including a classifier or decoder among them."""
    head: State = field(default_factory=dict)
    """Tensors beside the encoder, e.g. a projection head."""
    center: Tensor | None = None
    """DINO's running mean of teacher outputs, float32, shape (K,)."""
    entries: tuple[str, ...] = ()
    """Entries of the file that lead to the network, outermost first."""
    taken: str | None = None
    """The file's name for this network if it holds several: the value of `--key` that selects it."""
    others: tuple[str, ...] = ()
    """Values of `--key` that select the other networks."""

    @property
    def out_dim(self) -> int | None:
        """K, prototypes of the projection head; None without one. With several heads, K of DINO's own."""
        layers = {key: value for key, value in self.head.items() if _PROTOTYPES.search(key) and value.ndim == 2}
        wanted = next((key for key in layers if "ibot" not in key), None)
        return int(layers[wanted].shape[0]) if wanted else None


def find_network(content: dict[Any, Any], source: Path, key: str | None = None) -> Network:
    """The network in a checkpoint, without its wrapping.

    Args:
        content: content of the file.
        source: the file, for messages.
        key: entry or prefix of the wanted network, e.g. "student" or "momentum_encoder"; None: the moving average if
            there is one.
    Raises:
        CheckpointError: no such network, several that no known word distinguishes, or no dict of named tensors.
    """
    opened = _open(content, source, key)
    named = ((name, value) for name, value in opened.level.items() if isinstance(value, Tensor))
    tensors = _without_wrappers({name: checked_tensor(value, name, source) for name, value in named})
    if not tensors:
        raise CheckpointError(f"{source}: holds no tensors under {_described(opened.level)}")
    center = _center(opened.outer, tensors, source)
    key, taken, others = opened.key, opened.taken, opened.others
    networks = networks_side_by_side(tensors)
    chosen = next((name for name in networks if key is None or key in networks[name].aliases), None)
    if chosen is not None:
        taken, others = chosen, tuple(name for name in networks if name != chosen)
        tensors = networks[chosen].tensors
    elif key is not None and (inside := _inside(tensors, f"{key}.")):
        taken, tensors = key, inside
    elif key is not None:
        known = (*opened.known, *networks)
        accepted = f"one of {', '.join(map(printable, known))}" if known else "no key: it holds one network only"
        raise CheckpointError(f"{source}: holds no network {key!r}; expected {accepted}")
    encoder, head = _split_encoder(tensors, source)
    return Network(encoder=encoder, head=head, center=center, entries=tuple(opened.entries), taken=taken, others=others)


def chosen_network(taken: str | None, others: Sequence[str]) -> str | None:
    """A line that says which of a file's networks was taken and how to take another; None if there is only one."""
    if taken is None or not others:
        return None
    kind = " (the moving average)" if is_average(taken) else ""
    listed = ", ".join(f"--key {printable(other)}" for other in others[:_LISTED])
    return f"network {printable(taken)}{kind} is taken; the file also holds {listed}"


# Entries


@dataclass(kw_only=True)
class _Opened:
    """A file opened down to a level with tensors."""

    outer: dict[str, Any]
    level: dict[str, Any]
    key: str | None
    """The wanted key; None after an entry of this name was opened."""
    entries: list[str] = field(default_factory=list)
    """The entries opened on the way."""
    taken: str | None = None
    others: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    """Entries that hold networks, on all levels."""


def _open(content: dict[Any, Any], source: Path, key: str | None) -> _Opened:
    outer = _checked_names(content, source)
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
        opened.entries.append(found)
        opened.level = _checked_names(networks[found], source)
    return opened


def _entries(level: dict[str, Any]) -> dict[str, dict[Any, Any]]:
    """Entries that hold or may hold networks, in order of preference."""
    dicts = {name: value for name, value in level.items() if isinstance(value, dict) and not is_other_entry(name)}
    known = {name for name in dicts if name in _KNOWN_ENTRIES}
    own_tensors = sum(isinstance(value, Tensor) for value in level.values())
    if own_tensors < _NETWORK_TENSORS:
        known |= {name for name, value in dicts.items() if _holds_tensors(value)}
    # An empty entry is ignored as long as another one holds tensors.
    filled = {name for name in known if _holds_tensors(dicts[name])} or known
    return {name: dicts[name] for name in sorted(filled, key=lambda name: (entry_rank(name), list(dicts).index(name)))}


def _wanted_entry(networks: dict[str, dict[Any, Any]], opened: _Opened, source: Path) -> str | None:
    if opened.key is not None and isinstance(opened.level.get(opened.key), dict):
        return opened.key
    ranks = [entry_rank(name) for name in networks]
    if len(ranks) > 1 and ranks[0] == ranks[1] and not opened.key:
        raise CheckpointError(_ambiguous(list(networks)[:_LISTED], source))
    return next(iter(networks), None)


def _ambiguous(names: Sequence[str], source: Path) -> str:
    return f"{source}: holds several networks ({', '.join(map(printable, names))}); say which with --key NAME"


def _holds_tensors(value: Any, depth: int = 3) -> bool:
    if not isinstance(value, dict):
        return False
    entries = [(name, entry) for name, entry in own_dict(value).items() if type(name) is str]
    if any(isinstance(entry, Tensor) for _, entry in entries):
        return True
    return depth > 0 and any(not is_other_entry(name) and _holds_tensors(entry, depth - 1) for name, entry in entries)


def _described(level: dict[str, Any]) -> str:
    """The names of entries, with the type of each value that is not plain."""
    plain = (dict, int, float, str, list, tuple, type(None))
    kinds = [
        printable(name) + ("" if isinstance(value, plain) else f" (a {type(value).__name__})")
        for name, value in level.items()
    ]
    return (", ".join(kinds[:_LISTED]) or "any name") + (", ..." if len(kinds) > _LISTED else "")


def _checked_names(entries: dict[Any, Any], source: Path) -> dict[str, Any]:
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


def _center(outer: dict[str, Any], tensors: State, source: Path) -> Tensor | None:
    loss = outer.get("dino_loss")
    candidates = [own_dict(loss).get("center")] if isinstance(loss, dict) else []
    candidates += [tensors.get(name) for name in _CENTERS]
    found = next((value for value in candidates if isinstance(value, Tensor)), None)
    return None if found is None else checked_tensor(found, "center", source).float().flatten()


# Prefixes


def _inside(tensors: State, prefix: str) -> State:
    """The tensors with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _beside(tensors: State, prefix: str) -> State:
    return {name: value for name, value in tensors.items() if not name.startswith(prefix)}


def _without_wrappers(tensors: State) -> State:
    """The tensors without the prefixes of data parallelism and torch.compile."""
    for prefix in _WRAPPERS * 2:
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    for part in _INNER_WRAPPERS:
        tensors = {name.replace(part, ""): value for name, value in tensors.items()}
    return tensors


def _split_encoder(tensors: State, source: Path) -> tuple[State, State]:
    """The encoder without prefixes, and the tensors beside it.

    Raises:
        CheckpointError: there are several encoders of similar size.
    """
    head: State = {}
    for prefix in _ENCODERS * 2:
        inside = _inside(tensors, prefix)
        if inside and not _is_root(tensors):
            head |= _beside(tensors, prefix)
            tensors = _without_wrappers(inside)
    if _is_root(tensors):
        return tensors, head
    prefix = _root_prefix(tensors, source)
    return _inside(tensors, prefix), head | _beside(tensors, prefix)


def _is_root(tensors: State) -> bool:
    """True if the names begin with those of a known network, without a prefix."""
    return not _roots().isdisjoint(tensors) or bool(models_with({name: value.shape for name, value in tensors.items()}))


@cache
def _roots() -> frozenset[str]:
    # A few networks keep all tensors under "encoder.", which is mostly a prefix; `_is_root` finds them by the table.
    return frozenset(name for name in roots() if not name.startswith("encoder.")) | _FOREIGN_ROOTS


def _root_prefix(tensors: State, source: Path) -> str:
    """The prefix in front of the names of a known network; "" if there is none."""
    known = _roots()
    found = set()
    for name in tensors:
        parts = name.split(".")
        # The outermost prefix counts: a ResNet's blocks begin with a conv1, too.
        begin = next((i for i in range(1, len(parts)) if ".".join(parts[i:]) in known), None)
        if begin is not None:
            found.add(".".join(parts[:begin]) + ".")
    outermost = [prefix for prefix in found if not any(prefix != other and prefix.startswith(other) for other in found)]
    sizes = {prefix: sum(name.startswith(prefix) for name in tensors) for prefix in outermost}
    if not sizes:
        return ""
    largest = max(sizes, key=lambda prefix: sizes[prefix])
    similar = sorted(prefix[:-1] for prefix, size in sizes.items() if size >= _SIMILAR_SIZE * sizes[largest])
    if len(similar) > 1:
        raise CheckpointError(_ambiguous(similar[:_LISTED_PREFIXES], source))
    return largest
