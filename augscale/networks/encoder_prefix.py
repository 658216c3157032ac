"""The encoder within a network's tensors: what stands before all of its names, and what stands beside it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from torch import Tensor

from augscale.errors import CheckpointError
from augscale.networks.tensor_files import printable
from augscale.networks.timm_index import models_with, roots

_WRAPPERS = ("module.", "_orig_mod.")
"""Put before every name by data parallelism and by torch.compile."""
_INNER_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Put into the midst of names by sharding and by activation checkpointing, around single blocks."""
_ENCODERS = ("backbone.", "embedding_model.", "wrapped_model.", "_model.", "model.")
"""Put before the names of the encoder; what stands beside it is a head or a loss."""
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
_ALIKE = 0.5
"""Share of the largest network's tensors from which another one is not passed over as a part beside it."""
_LISTED = 6


def without_wrappers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the prefixes of data parallelism and torch.compile."""
    for prefix in _WRAPPERS * 2:
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    for part in _INNER_WRAPPERS:
        if any(part in name for name in tensors):
            tensors = {name.replace(part, ""): value for name, value in tensors.items()}
    return tensors


def split_encoder(tensors: dict[str, Tensor], source: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Encoder, prefixes taken off, and what stands beside it.

    Raises:
        CheckpointError: there are several encoders of one size, and nothing says which is wanted.
    """
    tensors, head = _after_known_prefixes(tensors)
    if _is_root(tensors):
        return tensors, head
    prefix = _root_prefix(tensors, source)
    inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return inside, head | {name: value for name, value in tensors.items() if not name.startswith(prefix)}


def _after_known_prefixes(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    head: dict[str, Tensor] = {}
    for prefix in _ENCODERS * 2:
        inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if inside and not _is_root(tensors):
            head |= {name: value for name, value in tensors.items() if not name.startswith(prefix)}
            tensors = without_wrappers(inside)
    return tensors, head


def _is_root(tensors: dict[str, Tensor]) -> bool:
    """Whether a known network begins here, and not behind some prefix."""
    return not _roots().isdisjoint(tensors) or bool(models_with({name: value.shape for name, value in tensors.items()}))


@cache
def _roots() -> frozenset[str]:
    # A few networks keep all of theirs under "encoder.", more often a prefix; `_is_root` finds them whole.
    return frozenset(name for name in roots() if not name.startswith("encoder.")) | _FOREIGN_ROOTS


def _root_prefix(tensors: dict[str, Tensor], source: Path) -> str:
    """The prefix behind which a known network begins, "" where none does."""
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
    alike = sorted(prefix[:-1] for prefix, size in sizes.items() if size >= _ALIKE * sizes[largest])
    if len(alike) > 1:
        names = ", ".join(map(printable, alike[:_LISTED]))
        raise CheckpointError(f"{source}: holds several networks ({names}); say which with --key NAME")
    return largest
