"""Weights on disk: safetensors with timm's key names and a JSON sidecar beside it; and loading of foreign files.

Files are data, not code: a pickle is read with `weights_only=True`, never otherwise.
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from augscale.augmentation.views import IMAGENET_MEAN, IMAGENET_STD
from augscale.errors import CheckpointError
from augscale.pretraining.files import write_atomic

if TYPE_CHECKING:
    from augscale.pretraining.backbones import Backbone

MIN_MATCHED = 0.95
"""Share of a backbone's parameters that a file must hold, counted in numbers and in tensors."""

_NETWORKS = ("teacher", "student", "state_dict", "model")
"""Entries of training checkpoints that hold a network, the wanted first."""
_PREFIXES = ("module.", "_orig_mod.", "backbone.", "model.")
_LISTED_KEYS = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """How a file's tensors met a backbone's parameters and buffers."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    """Of the backbone, not in the file; they keep their initial values."""
    mismatched: tuple[str, ...]
    """In both, with other shapes; they keep their initial values."""
    unexpected: tuple[str, ...]
    """In the file only, e.g. a projection head or a classifier."""
    matched_share: float
    """Of the backbone's parameters, in numbers or in tensors, whichever is smaller; in [0, 1]."""

    def __str__(self) -> str:
        parts = [f"{self.matched_share:.1%} of the parameters matched"]
        for name in ("missing", "mismatched", "unexpected"):
            keys = getattr(self, name)
            if keys:
                more = ", ..." if len(keys) > _LISTED_KEYS else ""
                parts.append(f"{len(keys)} {name} ({', '.join(keys[:_LISTED_KEYS])}{more})")
        return ", ".join(parts)


def sidecar_path(path: Path | str) -> Path:
    """`x.json` beside `x.safetensors`."""
    return Path(path).with_suffix(".json")


def save_weights(path: Path | str, backbone: Backbone, sidecar: dict[str, Any]) -> None:
    """Writes a backbone's weights and what is to be known about them, each whole or not at all.

    Args:
        path: ends in ".safetensors".
        backbone: parameters and buffers are written under timm's key names.
        sidecar: JSON-ready; embedding size and normalisation are added.
    Raises:
        CheckpointError: the files cannot be written.
    """
    path = Path(path)
    facts = {"embed_dim": backbone.embed_dim, "mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)} | sidecar
    text = json.dumps(facts, indent=1, allow_nan=False) + "\n"
    state = {key: value.detach().cpu().contiguous() for key, value in backbone.model.state_dict().items()}
    # The sidecar first: where there are weights there is a sidecar.
    write_atomic(sidecar_path(path), lambda file: _write(file, text.encode()))
    write_atomic(path, lambda file: _write(file, safetensors.torch.save(state)))


def read_sidecar(path: Path | str) -> dict[str, Any]:
    """The sidecar of a weights file.

    Args:
        path: of the weights.
    Raises:
        CheckpointError: it is missing or not a JSON object.
    """
    file = sidecar_path(path)
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise CheckpointError(f"{file}: not a JSON file ({error})") from None
    if not isinstance(facts, dict):
        raise CheckpointError(f"{file}: holds a {type(facts).__name__}; expected a JSON object")
    return facts


def load_weights_into(backbone: Backbone, path: Path | str) -> LoadReport:
    """Loads a weights file into a backbone.

    Understands our own files, bare timm state dicts, and checkpoints of official DINO (its teacher) and DINOv2:
    wrappers and prefixes are taken off, a position embedding of another grid is resampled.

    Args:
        backbone: keeps its own values where the file has none.
        path: ".safetensors", or a file of torch.save.
    Returns:
        What matched and what did not; also logged where anything is missing.
    Raises:
        CheckpointError: the file is no weights file, or fits under 95 % of the backbone's parameters.
    """
    path = Path(path)
    state = _bare(read_tensors(path), path)
    try:
        state = backbone.convert_state_dict(state)
    except Exception as error:
        raise CheckpointError(f"{path}: does not fit the backbone ({_first_line(error)})") from None
    report = _match(backbone, state)
    if report.matched_share < MIN_MATCHED:
        raise CheckpointError(f"{path}: {report}; expected at least {MIN_MATCHED:.0%}")
    backbone.model.load_state_dict({key: state[key] for key in report.matched}, strict=False)
    if report.missing or report.mismatched:
        _log.warning("%s: %s", path, report)
    return report


def read_tensors(path: Path) -> dict[str, Any]:
    """The content of a weights file, on the CPU.

    Raises:
        CheckpointError: missing, unreadable, truncated, or holding more than plain data.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file; expected .safetensors or a file of torch.save")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        # Official DINO keeps its command line in the file; the class holds nothing but attributes.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as weights ({_first_line(error)})") from None
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be read as weights ({_torch_problem(error)})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; expected a state dict")
    return content


def _bare(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The backbone's tensors out of whatever wraps them."""
    for name in _NETWORKS:
        if isinstance(content.get(name), dict):
            return _bare(content[name], path)
    state = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(f"{path}: holds no tensors under {', '.join(map(str, list(content)[:5]))}")
    for prefix in _PREFIXES * 2:
        inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        state = {key: value for key, value in state.items() if not key.startswith(prefix)} | inside
    return state


def _match(backbone: Backbone, state: dict[str, Tensor]) -> LoadReport:
    own = backbone.model.state_dict()
    matched = tuple(key for key in own if key in state and state[key].shape == own[key].shape)
    parameters = {key: value.numel() for key, value in backbone.model.named_parameters()}
    found = [parameters[key] for key in matched if key in parameters]
    return LoadReport(
        matched=matched,
        missing=tuple(key for key in own if key not in state),
        mismatched=tuple(key for key in own if key in state and state[key].shape != own[key].shape),
        unexpected=tuple(key for key in state if key not in own),
        matched_share=min(sum(found) / sum(parameters.values()), len(found) / len(parameters)),
    )


def _write(file: Any, content: bytes) -> None:
    file.write(content)


def _torch_problem(error: Exception) -> str:
    if "weights_only" in str(error) or "Unsupported" in str(error):
        return "it is damaged, or holds Python objects besides tensors, which are not loaded"
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
