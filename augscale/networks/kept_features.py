"""Features of frozen networks on disk, shared by all commands: the same features are computed once.

    <cache folder>/features/<key>/about.json         description, for people
    <cache folder>/features/<key>/part-00000.npz     the first rows, ...

The key is a hash of everything that features depend on: structure and weights of the network, pixels, transform, batch
norm statistics, kind of device, versions of torch and timm, and the source of the modules of this package that draw
views and embed them. So outdated features are never found, and features that are found are those of the first run, to
the last bit. The folder may be deleted at any time.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import time
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from augscale.data.cache import default_cache_root
from augscale.errors import CheckpointError
from augscale.networks.backbones import Backbone
from augscale.networks.batch_norm import Statistics
from augscale.runs.files import write_atomic, write_json
from augscale.runs.folders import versions

Columns = dict[str, npt.NDArray[np.float32]]

FORMAT = 2
"""Increase it when the files change; older ones are then no longer found."""
MOST_BYTES = 4 * 2**30
"""Above this size, features that were not used for a day are deleted, those first that were not used for longest."""
_DAY = 24 * 3600.0
_DIGEST_BYTES = 16
_ABOUT = "about.json"
_SOURCES = (
    "seeding.py", "augmentation/*.py", "networks/*.py", "scoring/embeddings.py", "scoring/panel.py",
    "scoring/batch_norm_views.py", "diagnosis/photographs.py", "diagnosis/subjects.py", "evaluation/class_tokens.py",
    "evaluation/features.py", "evaluation/transforms.py",
)  # fmt: skip
"""Modules that features depend on."""
_PASSING = ("training", "fused_attn", "compiled")
"""Attributes of modules that a forward pass sets or that change no result."""


def features_folder(cache_root: Path | None = None) -> Path | None:
    """The folder of all features, None if it cannot be written; deletes old ones if it has become too large.

    Args:
        cache_root: folder of the caches; None: `default_cache_root()`.
    """
    folder = (cache_root or default_cache_root()).absolute() / "features"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    _delete_old(folder)
    return folder


class FeatureFolder:
    """The files of one kind of features; `digest` names the folder.

    Args:
        root: from `features_folder`.
        facts: everything that the features depend on, JSON values; `environment` is added.
        device: where they are computed.
        names: further facts for people, which are not part of the key.
    Raises:
        CheckpointError: the folder cannot be made.
    """

    def __init__(
        self, root: Path, facts: Mapping[str, Any], device: torch.device, names: Mapping[str, Any] | None = None
    ) -> None:
        about = {"format": FORMAT, "environment": environment(device), **facts}
        self.path = root / digest([json.dumps(about, sort_keys=True).encode()])
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be made ({error.strerror})") from None
        if (self.path / _ABOUT).exists():
            _mark_as_used(self.path / _ABOUT)
        else:
            write_json(self.path / _ABOUT, dict(names or {}) | about)

    def part(self, number: int) -> Path:
        return self.path / f"part-{number:05d}.npz"

    def read(self, number: int, count: int) -> Columns | None:
        """The columns of a part, each with `count` rows; None where the file is missing or damaged."""
        try:
            with np.load(self.part(number), allow_pickle=False) as file:
                columns = {name: file[name] for name in file.files}
        except (OSError, ValueError, zipfile.BadZipFile, EOFError):
            return None
        return columns if columns and all(len(values) == count for values in columns.values()) else None

    def write(self, number: int, columns: Columns) -> None:
        """Writes a part whole or not at all.

        Raises:
            CheckpointError: it cannot be written.
        """
        arrays: dict[str, Any] = dict(columns)
        write_atomic(self.part(number), lambda file: np.savez(file, **arrays))


def digest(parts: Iterable[bytes | memoryview]) -> str:
    """32 hexadecimal digits."""
    found = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        found.update(part)
    return found.hexdigest()


def array_digest(values: npt.NDArray[Any]) -> str:
    """Hash of type, shape and content."""
    values = np.ascontiguousarray(values)
    return digest([f"{values.dtype} {values.shape}".encode(), values.reshape(-1).view(np.uint8).data])


def structure_digest(backbone: Backbone) -> str:
    """Hash of the network without its weights: modules with their settings, and the conversion of its input."""
    lines = [repr(backbone)]
    for name, module in backbone.named_modules():
        settings = {
            key: value
            for key, value in vars(module).items()
            if not key.startswith("_") and key not in _PASSING and isinstance(value, (bool, int, float, str, tuple))
        }
        lines.append(f"{name} {type(module).__module__} {sorted(settings.items())}")
    inputs = (backbone.input_scale, backbone.input_shift)
    lines += ["none" if values is None else array_digest(values.detach().cpu().numpy()) for values in inputs]
    return digest(line.encode() for line in lines)


def weights_digest(network: nn.Module) -> str:
    """Hash of all weights and buffers that the network stores, batch norm statistics included."""
    return _tensors_digest(network.state_dict())


def statistics_digest(statistics: Statistics) -> str:
    """Hash of batch norm statistics; "own" if the network keeps its own."""
    if not statistics.means:
        return "own"
    return _tensors_digest(
        {f"mean {name}": values for name, values in statistics.means.items()}
        | {f"variance {name}": values for name, values in statistics.variances.items()}
    )


def environment(device: torch.device) -> dict[str, str]:
    """Everything besides network and images that moves features by rounding or more."""
    found = versions()
    on_gpu = device.type == "cuda"
    kind = torch.cuda.get_device_name(device) if on_gpu else torch.backends.cpu.get_cpu_capability()
    return {"code": _code_digest(), "device": f"{device.type} {kind}"} | {
        name: found.get(name, "") for name in ("torch", "timm", "numpy")
    }


def _tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    parts: list[bytes | memoryview] = []
    for name, value in sorted(tensors.items()):
        array = value.detach().cpu().contiguous()
        parts.append(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        parts.append(array.reshape(-1).view(torch.uint8).numpy().data)
    return digest(parts)


@functools.cache
def _code_digest() -> str:
    package = Path(__file__).parents[1]
    files = sorted(path for pattern in _SOURCES for path in package.glob(pattern))
    return digest([versions().get("augscale", "").encode(), *(path.read_bytes() for path in files)])


def _mark_as_used(path: Path) -> None:
    try:
        os.utime(path)
    except OSError:
        return  # read-only, or another process has just deleted it


def _delete_old(folder: Path) -> None:
    """Deletes what was not used for longest until the rest takes at most `MOST_BYTES`; keeps what was used today."""
    found = []
    for about in folder.glob(f"*/{_ABOUT}"):
        try:
            size = sum(path.stat().st_size for path in about.parent.iterdir())
            found.append((about.stat().st_mtime, size, about.parent))
        except OSError:
            continue  # another process has just deleted it
    total = sum(size for _, size, _ in found)
    for used, size, path in sorted(found):
        if total <= MOST_BYTES or used > time.time() - _DAY:
            return
        shutil.rmtree(path, ignore_errors=True)
        total -= size
