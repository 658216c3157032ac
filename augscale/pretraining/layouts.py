"""Where a checkpoint keeps its network, and what that network's tensors are called in timm.

Layouts known: a bare state dict; official DINO (`teacher` and `student`, each with `module.`, `backbone.` and `head.`
in front); DINOv2 (backbone files; `teacher` files with `backbone.` and `dino_head.`; whole training states under
`model` with `teacher.backbone.`); MAE and RETFound (`model`); PyTorch Lightning (`state_dict` with `model.`,
`teacher_backbone.` or `teacher_embedding_model.wrapped_model._model.`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from augscale.errors import CheckpointError
from augscale.pretraining.tensor_files import checked_tensor, own_dict, printable

_NETWORKS = ("teacher", "student", "state_dict", "model")
"""Entries of training checkpoints that hold a network, the wanted first."""
_MAX_DEPTH = 4
_WRAPPERS = ("module.", "_orig_mod.")
"""Put before every name by data parallelism and by torch.compile."""
_ENCODERS = ("backbone.", "embedding_model.", "wrapped_model.", "_model.", "model.")
"""Put before the names of the encoder; what stands beside it is a head or a loss."""
_ROLE = re.compile(r"(teacher|student)[._](.+)", re.DOTALL)
_CHUNKED_BLOCK = re.compile(r"blocks\.\d+\.(\d+)\.")
_PROTOTYPES = re.compile(r"last_layer\.(weight|weight_v|parametrizations\.weight\.original1)")
_CENTERS = ("dino_loss.center", "criterion.center", "criterion.center.center")


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
    """"teacher" or "student" where the checkpoint holds both, else None."""
    entry: str | None = None
    """The last entry of the file that was opened on the way, e.g. "model"."""

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
        key: which of its networks, e.g. "student"; None: the teacher where there is one.
    Raises:
        CheckpointError: there is no such network, or it is no dict of named tensors.
    """
    entries, entry, role = _named(content, source), None, None
    outer = entries
    for _ in range(_MAX_DEPTH):
        wanted = [key] if key in entries else list(_NETWORKS)
        found = next((name for name in wanted if isinstance(entries.get(name), dict)), None)
        if found is None:
            break
        entry, role = found, found if found in ("teacher", "student") else role
        key = None if found == key else key
        entries = _named(entries[found], source)
    tensors = {
        name: checked_tensor(value, name, source) for name, value in entries.items() if isinstance(value, Tensor)
    }
    if not tensors:
        names = ", ".join(printable(name) for name in list(entries)[:5])
        raise CheckpointError(f"{source}: holds no tensors under {names or 'any name'}")
    tensors = _without(tensors, _WRAPPERS)
    center = _center(outer, tensors, source)
    roles = _roles(tensors)
    if key is not None and key not in roles:
        known = [name for name in _NETWORKS if isinstance(outer.get(name), dict)] + list(roles)
        accepted = f"one of {', '.join(known)}" if known else "no key: it holds one network only"
        raise CheckpointError(f"{source}: holds no network {key!r}; expected {accepted}")
    if roles:
        role = key or ("teacher" if "teacher" in roles else "student")
        tensors = roles[role]
    encoder, head = _split(tensors)
    return Network(encoder=encoder, head=head, center=center, role=role, entry=entry)


def timm_names(encoder: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ViT's tensors under timm's names.

    Official DINO, MAE and torchvision's ResNets use timm's names already. DINOv2 differs in three things: blocks may
    be kept in chunks (`blocks.0.3.` is block 3), SwiGLU layers are w12 and w3, and with registers the class token has
    a position of its own, which timm adds to the token once and for all.
    """
    named = {}
    for name, value in encoder.items():
        name = _CHUNKED_BLOCK.sub(r"blocks.\1.", name)
        name = re.sub(r"(blocks\.\d+\.mlp\.)w12\.", r"\1fc1.", name)
        named[re.sub(r"(blocks\.\d+\.mlp\.)w3\.", r"\1fc2.", name)] = value
    position = named.get("pos_embed")
    if position is not None and position.ndim == 3 and {"register_tokens", "cls_token"} <= named.keys():
        named["reg_token"] = named.pop("register_tokens")
        named["cls_token"] = named["cls_token"] + position[:, :1]
        named["pos_embed"] = position[:, 1:]
    return named


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


def _without(tensors: dict[str, Tensor], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    for prefix in prefixes * 2:
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _roles(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The networks of a state dict that holds several side by side."""
    roles: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        match = _ROLE.fullmatch(name)
        if match:
            roles.setdefault(match[1], {})[match[2]] = value
    return roles


def _split(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Encoder and what stands beside it."""
    head: dict[str, Tensor] = {}
    for prefix in _ENCODERS * 2:
        inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if inside:
            head |= {name: value for name, value in tensors.items() if not name.startswith(prefix)}
            tensors = _without(inside, _WRAPPERS)
    return tensors, head


def _center(outer: dict[str, Any], tensors: dict[str, Tensor], source: Path) -> Tensor | None:
    loss = outer.get("dino_loss")
    candidates = [own_dict(loss).get("center")] if isinstance(loss, dict) else []
    candidates += [tensors.get(name) for name in _CENTERS]
    found = next((value for value in candidates if isinstance(value, Tensor)), None)
    return None if found is None else checked_tensor(found, "center", source).float().flatten()
