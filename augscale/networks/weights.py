"""Weights on disk: safetensors with timm's key names and a JSON sidecar beside it; and loading of foreign files.

How a file is read safely is in `tensor_files`, where it keeps its network in `layouts`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from torch import Tensor

from augscale.augmentation.scales import AugmentationScales
from augscale.augmentation.views import IMAGENET_MEAN, IMAGENET_STD
from augscale.config import StudyConfig
from augscale.errors import CheckpointError
from augscale.networks.checkpoint_checks import (
    check_patches,
    computed_otherwise,
    other_names,
    refuse_other_parts,
    refuse_other_shapes,
)
from augscale.networks.checkpoint_folders import read_content, weights_file
from augscale.networks.foreign_names import convert
from augscale.networks.layouts import chosen_network, find_network
from augscale.networks.tensor_files import first_line, printable
from augscale.runs.files import write_atomic
from augscale.runs.folders import versions

if TYPE_CHECKING:
    from augscale.networks.backbones import Backbone

MIN_MATCHED = 0.95
"""Share of a backbone's parameters that a file must hold, counted in numbers and in tensors."""

_LISTED_KEYS = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """How a file's tensors met a backbone's parameters and buffers."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    """Of the backbone, not in the file; they keep their initial values."""
    mismatched: tuple[str, ...]
    """In both, with other shapes or kinds of numbers; they keep their initial values."""
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
                parts.append(f"{len(keys)} {name} ({', '.join(map(printable, keys[:_LISTED_KEYS]))}{more})")
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
    state = unshared({key: value.detach().cpu() for key, value in backbone.model.state_dict().items()})
    # The sidecar first: where there are weights there is a sidecar.
    write_atomic(sidecar_path(path), lambda file: _write(file, text.encode()))
    write_atomic(path, lambda file: _write(file, safetensors.torch.save(state)))


def unshared(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor contiguous and with memory of its own, as safetensors wants it; CoaT's layers share some."""
    seen: set[int] = set()
    copies = {}
    for key, value in state.items():
        value = value.contiguous()
        pointer = value.untyped_storage().data_ptr()
        copies[key] = value.clone() if pointer in seen else value
        seen.add(pointer)
    return copies


def sidecar_facts(
    config: StudyConfig, scales: AugmentationScales, *, loss: float | None, information: float | None
) -> dict[str, Any]:
    """What every sidecar says, of a trial or a full run: what is needed to use, repeat and diagnose the weights.

    Args:
        config: of the study.
        scales: trained with.
        loss, information: at the end of training, nats.
    """
    return {
        "backbone": config.backbone.model_dump(),
        "image_size": config.crops.global_size,
        "scales": scales.model_dump(),
        "steps": config.pretrain.steps,
        "batch_norm": config.pretrain.batch_norm,
        "training": {"loss": loss, "information": information, "out_dim": config.pretrain.out_dim},
        "data": config.data.model_dump(mode="json"),
        "held_out": {"images": config.probe.images, "seed": config.probe.seed},
        "versions": versions(),
    }


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
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not a JSON file ({error})") from None
    if not isinstance(facts, dict):
        raise CheckpointError(f"{file}: holds a {type(facts).__name__}; expected a JSON object")
    return facts


def load_weights_into(backbone: Backbone, path: Path | str) -> LoadReport:
    """Loads a weights file into a backbone.

    Understands what `load_checkpoint` does: wrappers and prefixes are taken off, of several networks the moving average
    is taken, names of other programs are translated, a position embedding of another grid is resampled.

    Args:
        backbone: keeps its own values where the file has none.
        path: ".safetensors", a file of torch.save, or a folder of Hugging Face.
    Returns:
        What matched and what did not; also logged where anything is missing.
    Raises:
        CheckpointError: the file is no weights file, is another network's, or fits under 95 % of the backbone's
            parameters.
    """
    path = weights_file(Path(path))
    network = find_network(read_content(path), path)
    converted = convert(network.encoder, path)
    state = converted.state
    check_patches(backbone, state, path)
    _, fit = check_fit(backbone, state, path)
    unexpected = other_names([*fit.unexpected, *network.head], state)
    refuse_other_parts(backbone, unexpected, type(backbone.model).__name__, path)
    choice = chosen_network(network.taken, network.others)
    for line in [*([choice] if choice else []), *computed_otherwise(backbone.model, converted)]:
        _log.warning("%s: %s", path, line)
    return load_tensors_into(backbone, network.head | state, path)


def load_tensors_into(backbone: Backbone, state: dict[str, Tensor], source: Path) -> LoadReport:
    """Loads tensors under timm's names into a backbone; as `load_weights_into`.

    Args:
        backbone: keeps its own values where `state` has none.
        state: of a file's network; a position embedding of another grid is resampled as timm does it, bicubic with
            antialiasing. Official DINO resamples without, and samples a tenth of a patch beside the grid points.
        source: the file, for messages.
    """
    state, report = check_fit(backbone, state, source)
    backbone.model.load_state_dict({key: state[key] for key in report.matched}, strict=False)
    if report.missing or report.mismatched:
        _log.warning("%s: %s", source, report)
    return report


def check_fit(backbone: Backbone, state: dict[str, Tensor], source: Path) -> tuple[dict[str, Tensor], LoadReport]:
    """What would be loaded; `backbone` may be on torch's meta device, where it takes no memory.

    Returns:
        The tensors as they fit the backbone, position embedding resampled, and how they match.
    Raises:
        CheckpointError: they fit under 95 % of the backbone's parameters, or one of them has another shape.
    """
    try:
        state = backbone.convert_state_dict(state)
    except Exception as error:
        raise CheckpointError(f"{source}: does not fit the backbone ({first_line(error)})") from None
    report = _match(backbone, state)
    if report.matched_share < MIN_MATCHED:
        raise CheckpointError(f"{source}: {report}; expected at least {MIN_MATCHED:.0%}")
    refuse_other_shapes(backbone, state, report.mismatched, source)
    return state, report


def _match(backbone: Backbone, state: dict[str, Tensor]) -> LoadReport:
    own = backbone.model.state_dict()
    fits = {key: key in state and _alike(state[key], own[key]) for key in own}
    matched = tuple(key for key in own if fits[key])
    parameters = {key: value.numel() for key, value in backbone.model.named_parameters()}
    found = [parameters[key] for key in matched if key in parameters]
    return LoadReport(
        matched=matched,
        missing=tuple(key for key in own if key not in state),
        mismatched=tuple(key for key in own if key in state and not fits[key]),
        unexpected=tuple(key for key in state if key not in own),
        matched_share=min(sum(found) / sum(parameters.values()), len(found) / len(parameters)),
    )


def _alike(found: Tensor, own: Tensor) -> bool:
    # Whole numbers in the place of real ones are codes of a quantised network.
    return found.shape == own.shape and found.is_floating_point() == own.is_floating_point()


def _write(file: Any, content: bytes) -> None:
    file.write(content)
